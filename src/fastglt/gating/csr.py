"""Messages of convs as sparse products, so that gates cost O(edges) memory.

Where messages are ``factor * x_j`` and are summed or averaged, PyG's ``propagate`` gives way to
:class:`~fastglt.gating.adjacency.Adjacency`; everything else of a conv stays its own, except that
GCNConv scales nodes, which is the same as scaling edges but needs no further numbers an edge.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import (
    APPNP,
    ChebConv,
    GCNConv,
    GINConv,
    GraphConv,
    MessagePassing,
    SAGEConv,
    SGConv,
    TAGConv,
)

from fastglt.errors import ModelError
from fastglt.gating.adjacency import Adjacency

_FACTOR: dict[type[MessagePassing], str | None] = {
    APPNP: "edge_weight",
    ChebConv: "norm",
    GCNConv: "edge_weight",
    GINConv: None,
    GraphConv: "edge_weight",
    SAGEConv: None,
    SGConv: "edge_weight",
    TAGConv: "edge_weight",
}
"""Convs whose message is ``x_j`` times the named argument of ``propagate``, if it is given."""
_SUMS = ("add", "sum", "mean")


def supports_csr_messages(model: nn.Module) -> bool:
    """Whether :func:`csr_messages` can take over every conv of a model.

    These are GCNConv, GraphConv, SAGEConv, GINConv, ChebConv, SGConv, TAGConv and APPNP, but not
    subclasses of them, with sum or mean aggregation and without message hooks.
    """
    convs = [module for module in model.modules() if isinstance(module, MessagePassing)]
    return bool(convs) and all(has_csr_messages(conv) for conv in convs)


@contextmanager
def csr_messages(
    model: nn.Module, edge_index: Tensor, gate: Tensor | None = None
) -> Iterator[None]:
    """Aggregate the messages of every conv by a sparse product, within the context.

    Outputs and gradients are those that the model has without it, up to rounding; an
    ``edge_weight`` that the model is called with may require gradients. Gradients may be taken
    after the context has ended, but not twice.

    Args:
        model: A model that :func:`supports_csr_messages`; it is left as it was found.
        edge_index: ``[2, num_edges]``, what the model is going to be called with.
        gate: ``[num_edges]``, multiplies every conv's finished messages as
            :func:`fastglt.gating.message_gate` does, with the same demand that self-loops come
            last. Where the model takes ``edge_weight``, give the gate as that instead.

    Raises:
        ModelError: If a conv is not supported.
    """
    if not supports_csr_messages(model):
        raise ModelError(
            "every conv must sum or average messages that are x_j times a weight "
            f"(expected {', '.join(conv.__name__ for conv in _FACTOR)} without hooks); "
            "use message_gate instead"
        )
    convs = [module for module in model.modules() if isinstance(module, MessagePassing)]
    messages = _Messages(None if gate is None else _MessageGate(edge_index, gate))
    for conv in convs:
        conv.propagate = functools.partial(messages.propagate, conv)
        if isinstance(conv, GCNConv) and conv.normalize and gate is None:
            conv.forward = functools.partial(messages.gcn, conv)
    try:
        yield
    finally:
        for conv in convs:
            del conv.propagate
            vars(conv).pop("forward", None)


class _MessageGate:
    """A gate of finished messages, extended as convs extend their edges."""

    def __init__(self, edge_index: Tensor, gate: Tensor) -> None:
        self._edge_index = edge_index
        self._gate = gate

    def extended(self, num_edges: int, num_nodes: int) -> Tensor:
        """The gate of ``num_edges`` edges: the given ones, or these with one new loop a node."""
        if num_edges == self._gate.numel():
            return self._gate
        proper = self._edge_index[0] != self._edge_index[1]
        gate = torch.cat([self._gate[proper], self._gate.new_ones(num_nodes)])
        if gate.numel() != num_edges:
            raise ModelError(
                f"a conv must pass on the given edges, or these with one self-loop a node "
                f"(got {num_edges} edges from {self._gate.numel()}); use edge_weight instead"
            )
        return gate


class _Messages:
    """Stands in for ``propagate``; convs that see the same edges share one adjacency."""

    def __init__(self, gate: _MessageGate | None) -> None:
        self._gate = gate
        self._adjacency: Adjacency | None = None
        self._scaled: tuple[tuple[Any, ...], tuple[Tensor, Tensor, Tensor]] | None = None

    def propagate(
        self, conv: MessagePassing, edge_index: Tensor, size: Any = None, **arguments: Any
    ) -> Tensor:
        x = arguments["x"]
        source, target = x if isinstance(x, tuple) else (x, x)
        num_targets = _num_targets(size, source, target)
        adjacency = self._shared(edge_index, source.size(0), num_targets)
        out = adjacency.matmul(self._values(conv, edge_index, source, arguments), source)
        if conv.aggr == "mean":
            out = out / adjacency.in_degree.clamp_min(1).unsqueeze(-1)
        return out

    def gcn(
        self, conv: GCNConv, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None
    ) -> Tensor:
        """The forward pass of a normalising GCNConv, ``[num_nodes, out_channels]``.

        ``D^-1/2 (A + L) D^-1/2 @ x``, where ``L`` holds the self-loops: an own one keeps its
        weight (:func:`torch_geometric.nn.conv.gcn_conv.gcn_norm`). The linear map comes before or
        after, whichever leaves fewer channels to the product.
        """
        is_narrow = x.layout == torch.strided and x.size(1) < conv.out_channels
        x = x if is_narrow else conv.lin(x)
        weight, loops, scale = self._normalization(conv, x, edge_index, edge_weight)
        scaled = scale * x
        adjacency = self._shared(edge_index, x.size(0), x.size(0))
        out: Tensor = scale * (adjacency.matmul(weight, scaled) + loops.unsqueeze(-1) * scaled)
        out = conv.lin(out) if is_narrow else out
        return out if conv.bias is None else out + conv.bias

    def _normalization(
        self, conv: GCNConv, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Weights of the edges, weights of the loops, and the scale of the nodes.

        Convs that are called alike share them, and with them the backward pass.
        """
        fill = (2 if conv.improved else 1) if conv.add_self_loops else None
        key = (edge_index, edge_weight, x.size(0), x.dtype, fill, torch.is_grad_enabled())
        if self._scaled is not None and all(
            a is b or (not isinstance(a, Tensor) and a == b)
            for a, b in zip(key, self._scaled[0], strict=True)
        ):
            return self._scaled[1]
        weight = x.new_ones(edge_index.size(1)) if edge_weight is None else edge_weight.view(-1)
        loops = x.new_zeros(x.size(0))
        if fill is not None:
            weight, loops = _split_loops(edge_index, weight, loops + fill)
        degree = loops.index_add(0, edge_index[1], weight.to(loops.dtype))
        scale = degree.pow(-0.5)
        scale = scale.masked_fill(scale == torch.inf, 0).unsqueeze(-1)
        self._scaled = (key, (weight, loops, scale))
        return weight, loops, scale

    def _values(
        self, conv: MessagePassing, edge_index: Tensor, x: Tensor, arguments: dict[str, Any]
    ) -> Tensor:
        name = _FACTOR[type(conv)]
        given = None if name is None else arguments[name]
        factor: Tensor | None = None if given is None else given.view(-1)
        if self._gate is None:
            return x.new_ones(edge_index.size(1)) if factor is None else factor
        gate = self._gate.extended(edge_index.size(1), x.size(0))
        return gate if factor is None else factor * gate

    def _shared(self, edge_index: Tensor, num_sources: int, num_targets: int) -> Adjacency:
        known = self._adjacency
        if (
            known is None
            or known.shape != (num_targets, num_sources)
            or not torch.equal(known.edge_index, edge_index)
        ):
            self._adjacency = known = Adjacency(edge_index, num_sources, num_targets)
        return known


def _split_loops(edge_index: Tensor, weight: Tensor, default: Tensor) -> tuple[Tensor, Tensor]:
    """Weights with those of self-loops set to 0, and ``[num_nodes]`` weights of the loops."""
    is_loop = edge_index[0] == edge_index[1]
    if not bool(is_loop.any()):
        return weight, default
    loops = default.index_put((edge_index[0][is_loop],), weight[is_loop].to(default.dtype))
    return weight.masked_fill(is_loop, 0), loops


def _num_targets(size: Any, source: Tensor, target: Tensor | None) -> int:
    if size is not None and size[1] is not None:
        return int(size[1])
    return source.size(0) if target is None else target.size(0)


def has_message_hooks(conv: MessagePassing) -> bool:
    """Whether somebody listens to the steps of a conv's ``propagate`` or ``edge_updater``."""
    steps = ("propagate", "message", "aggregate", "message_and_aggregate", "edge_update")
    return any(
        getattr(conv, f"_{step}_forward_{kind}")
        for step in steps
        for kind in ("pre_hooks", "hooks")
    )


def has_csr_messages(conv: MessagePassing) -> bool:
    """Whether a conv's aggregate is a sparse product, as :func:`csr_messages` says."""
    return (
        type(conv) in _FACTOR
        and conv.aggr in _SUMS
        and conv.flow == "source_to_target"
        and conv.decomposed_layers == 1
        and not conv.explain
        and not getattr(conv, "cached", False)
        and not has_message_hooks(conv)
    )
