"""Programs as plain modules: ordinary torch layers, without PyG and without anything of ours.

They take ``x``, ``edge_index`` and ``edge_weight``, of any graph, and can be exported.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastglt.compile.program import (
    Aggregate,
    Attend,
    Join,
    LayerNorm,
    Linear,
    Map,
    Op,
    Pick,
    Program,
    Rule,
    Scale,
    SoftmaxMean,
    sources,
)


class PlainModel(nn.Module):
    """What a program computes.

    Called as ``model(x, edge_index)``, or with ``edge_weight`` where the program reads it; ``x`` is
    ``[num_nodes, len(columns)]``, the columns that are read of the features.
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_layer(op) for op in program.ops)
        self.sources = [sources(op) for op in program.ops]
        last = {read: place for place, op in enumerate(program.ops) for read in sources(op)}
        self.last_read = [
            [value for value in set(read) if last[value] == place]
            for place, read in enumerate(self.sources)
        ]
        self.reads_edge_weight = program.reads_edge_weight

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Output ``[num_nodes, num_outputs]``.

        Args:
            x: ``[num_nodes, in_channels]``.
            edge_index: ``[2, num_edges]``.
            edge_weight: ``[num_edges]``.
        """
        values = {0: x}
        steps = zip(self.layers, self.sources, self.last_read, strict=True)
        for value, (layer, read, last_read) in enumerate(steps, start=1):
            inputs = [values[source] for source in read]
            if isinstance(layer, (WeightedSum, Attention, SoftmaxMeans)):
                values[value] = layer(inputs[0], edge_index, edge_weight)
            else:
                values[value] = layer(*inputs)
            for source in last_read:  # what nobody reads any more is not kept
                del values[source]
        return values[len(self.layers)]


class WeightedSum(nn.Module):
    """:class:`~fastglt.compile.program.Aggregate` by scattering, for any graph."""

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.norm, self.loops, self.own = rule.norm, rule.loops, rule.own
        self.weighted = rule.weighted

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Sums ``[num_nodes, channels]``; arguments as in :class:`PlainModel`."""
        source, target = edge_index[0], edge_index[1]
        edge_weight = edge_weight if self.weighted else None
        weight, own = sum_weights(
            self.norm, self.loops, self.own, edge_index, edge_weight, x.size(0), x.dtype
        )
        messages = x.index_select(0, source) * weight.unsqueeze(1)
        total = torch.zeros_like(x).index_add(0, target, messages)
        return total if own is None else total + x * own.unsqueeze(1)

    def extra_repr(self) -> str:
        """Its options."""
        return f"norm={self.norm!r}, loops={self.loops}, own={self.own}, weighted={self.weighted}"


def sum_weights(
    norm: str,
    loops: float | None,
    own: float,
    edge_index: Tensor,
    edge_weight: Tensor | None,
    num_nodes: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor | None]:
    """The weights ``[num_edges]`` of the edges and ``[num_nodes]`` of the nodes themselves.

    Args:
        norm: As in :class:`~fastglt.compile.program.Rule`, like the next two.
        loops: Weight of added loops.
        own: Weight of a node's own row.
        edge_index: ``[2, num_edges]``.
        edge_weight: ``[num_edges]``, or ``None`` for ones.
        num_nodes: Number of nodes.
        dtype: Of the weights.
    """
    source, target = edge_index[0], edge_index[1]
    ones = torch.ones_like(source, dtype=dtype)
    weight = ones if edge_weight is None else edge_weight.to(dtype)
    itself: Tensor | None = None
    if loops is not None:
        # As in PyG, a node's last loop takes the place of the one that is added.
        is_loop = source == target
        place = torch.where(is_loop, source, num_nodes)
        itself = weight.new_full((num_nodes + 1,), loops).scatter(0, place, weight)[:num_nodes]
        weight = torch.where(is_loop, 0.0, weight)
    if norm == "gcn":
        degree = weight.new_zeros(num_nodes).index_add(0, target, weight)
        degree = degree if itself is None else degree + itself
        root = torch.where(degree == 0, 0.0, degree.rsqrt())
        weight = root.index_select(0, source) * weight * root.index_select(0, target)
        itself = None if itself is None else itself * root * root
    elif norm == "mean":
        degree = weight.new_zeros(num_nodes).index_add(0, target, ones)
        weight = weight / degree.clamp(min=1).index_select(0, target)
    if own:
        itself = weight.new_full((num_nodes,), own) if itself is None else itself + own
    return weight, itself


class Attention(nn.Module):
    """:class:`~fastglt.compile.program.Attend` by scattering, for any graph."""

    head: Tensor
    channels: Tensor

    def __init__(self, op: Attend) -> None:
        super().__init__()
        self.att_source = nn.Parameter(op.att_source.clone())
        self.att_target = nn.Parameter(op.att_target.clone())
        heads, head = torch.unique(op.head, return_inverse=True)
        self.num_heads = len(heads)
        self.register_buffer("head", head)
        self.register_buffer("channels", op.channels.clone())
        self.slope, self.loops = op.slope, op.loops

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Sums ``[num_nodes, out]``; arguments as in :class:`PlainModel`."""
        source, target = edge_index[0], edge_index[1]
        by_source = self.by_head(x * self.att_source)
        by_target = self.by_head(x * self.att_target)
        score = by_source.index_select(0, source) + by_target.index_select(0, target)
        score = F.leaky_relu(score, self.slope)
        if self.loops:
            score = torch.where((source == target).unsqueeze(1), -torch.inf, score)
        own = F.leaky_relu(by_source + by_target, self.slope)
        largest = own if self.loops else torch.full_like(own, -torch.inf)
        index = target.unsqueeze(1).expand_as(score)
        largest = largest.scatter_reduce(0, index, score, "amax")
        largest = torch.where(largest.isfinite(), largest, 0.0)
        share = (score - largest.index_select(0, target)).exp()
        total = torch.zeros_like(own).index_add(0, target, share)
        own_share = (own - largest).exp() if self.loops else torch.zeros_like(own)
        total = (total + own_share).clamp(min=torch.finfo(x.dtype).tiny)
        head = self.head.index_select(0, self.channels)
        x = x.index_select(1, self.channels)
        messages = x.index_select(0, source) * share.index_select(1, head)
        out = torch.zeros_like(x).index_add(0, target, messages)
        if self.loops:
            out = out + x * own_share.index_select(1, head)
        return out / total.index_select(1, head)

    def by_head(self, x: Tensor) -> Tensor:
        """Sums ``[num_nodes, num_heads]`` over the channels of each head."""
        return x.new_zeros(x.size(0), self.num_heads).index_add(1, self.head, x)

    def extra_repr(self) -> str:
        """Its options."""
        return (
            f"{len(self.head)} -> {len(self.channels)}, heads={self.num_heads}, "
            f"slope={self.slope}, loops={self.loops}"
        )


class Message(nn.Module):
    """What a node says in a GENConv: ``relu(x) + eps``."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """``[num_nodes, channels]``."""
        return x.relu() + self.eps

    def extra_repr(self) -> str:
        """Its option."""
        return f"eps={self.eps}"


class SoftmaxMeans(nn.Module):
    """:class:`~fastglt.compile.program.SoftmaxMean` by scattering, for any graph."""

    temperature: Tensor

    def __init__(self, op: SoftmaxMean) -> None:
        super().__init__()
        temperature = op.temperature.clone()
        if op.learned:
            self.temperature = nn.Parameter(temperature)
        else:
            self.register_buffer("temperature", temperature)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Means ``[num_nodes, channels]``; arguments as in :class:`PlainModel`."""
        source, target = edge_index[0], edge_index[1]
        score = x * self.temperature
        nothing = torch.zeros_like(score)
        index = target.unsqueeze(1).expand(-1, x.size(1))
        largest = nothing.detach().scatter_reduce(
            0, index, score.detach().index_select(0, source), "amax", include_self=False
        )
        share = score.index_select(0, source).sub(largest.index_select(0, target)).exp()
        total = nothing.index_add(0, target, share).clamp(min=0.5)  # of any edge it is 1 or more
        messages = x.index_select(0, source) * share
        return nothing.index_add(0, target, messages) / total


class Picked(nn.Module):
    """Some of the channels."""

    channels: Tensor

    def __init__(self, op: Pick) -> None:
        super().__init__()
        self.register_buffer("channels", op.channels.clone())

    def forward(self, x: Tensor) -> Tensor:
        """``[num_nodes, out]``."""
        return x.index_select(1, self.channels)


class Scaling(nn.Module):
    """A factor and a shift for each channel."""

    def __init__(self, op: Scale) -> None:
        super().__init__()
        self.scale = None if op.scale is None else nn.Parameter(op.scale.clone())
        self.shift = None if op.shift is None else nn.Parameter(op.shift.clone())

    def forward(self, x: Tensor) -> Tensor:
        """``x * scale + shift``."""
        x = x if self.scale is None else x * self.scale
        return x if self.shift is None else x + self.shift


class Joined(nn.Module):
    """Several values in one: ``"sum"``, ``"max"`` or ``"cat"``."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, *values: Tensor) -> Tensor:
        """The value that comes of them."""
        if self.how == "cat":
            return torch.cat(values, dim=-1)
        result = values[0]
        for value in values[1:]:
            result = result + value if self.how == "sum" else torch.maximum(result, value)
        return result


def _layer(op: Op) -> nn.Module:
    if isinstance(op, Linear):
        rows, columns = op.weight.shape
        linear = nn.Linear(1, 1, bias=op.bias is not None)  # of size 0 it warns
        linear.in_features, linear.out_features = columns, rows
        linear.weight = nn.Parameter(op.weight.clone())
        if op.bias is not None:
            linear.bias = nn.Parameter(op.bias.clone())
        return linear
    if isinstance(op, Aggregate):
        return WeightedSum(op.rule)
    if isinstance(op, Attend):
        return Attention(op)
    if isinstance(op, SoftmaxMean):
        return SoftmaxMeans(op)
    if isinstance(op, Pick):
        return Picked(op)
    if isinstance(op, Scale):
        return Scaling(op)
    if isinstance(op, Map):
        return in_place(copy.deepcopy(op.module), False)
    if isinstance(op, Join):
        return Joined(op.how)
    return RowNorm(op)


def in_place(module: nn.Module, whether: bool) -> nn.Module:
    """An activation that overwrites its input, or does not; where it has no such option, as is."""
    if hasattr(module, "inplace"):
        vars(module)["inplace"] = whether
    return module


class RowNorm(nn.Module):
    """:class:`~fastglt.compile.program.LayerNorm` of rows of any width."""

    def __init__(self, op: LayerNorm) -> None:
        super().__init__()
        self.weight = None if op.weight is None else nn.Parameter(op.weight.clone())
        self.bias = None if op.bias is None else nn.Parameter(op.bias.clone())
        self.eps = op.eps

    def forward(self, x: Tensor) -> Tensor:
        """Rows of mean 0 and variance 1, scaled and shifted."""
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)
