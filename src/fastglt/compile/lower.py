"""Models as programs: what each kind of module computes in evaluation.

To teach a further kind of module, write a function that emits its operations and enter it in
:data:`LOWERINGS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric import nn as gnn
from torch_geometric.data import Data
from torch_geometric.nn import MessagePassing

from fastglt.compile.program import (
    Aggregate,
    Attend,
    Join,
    LayerNorm,
    Linear,
    Map,
    Op,
    Program,
    Rule,
    Scale,
)
from fastglt.gating import accepts_keyword, has_message_hooks
from fastglt.models.gat import InputDropoutGAT

POINTWISE: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh,
    nn.Sigmoid, nn.Softplus, nn.Softsign, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.LogSigmoid,
    nn.Softshrink, nn.Hardshrink, nn.Tanhshrink, nn.Threshold,
)  # fmt: skip
"""Functions of each number by itself."""
NOTHING: tuple[type[nn.Module], ...] = (nn.Identity, nn.Dropout, nn.AlphaDropout)
"""What does nothing in evaluation."""


class Unsupported(Exception):  # noqa: N818 - it is caught, and ends up in a report
    """Why a model cannot be written as a program."""


class Lowering:
    """Operations in the making.

    Attributes:
        ops: What was emitted so far.
        weighted: Whether the graph has edge weights.
    """

    def __init__(self, weighted: bool) -> None:
        self.ops: list[Op] = []
        self.weighted = weighted
        self.reads_edge_weight = False

    def emit(self, op: Op) -> int:
        """Append an operation and return the number of its value."""
        self.ops.append(op)
        return len(self.ops)

    def module(self, module: nn.Module, value: int) -> int:
        """Emit what a module makes of a value.

        Raises:
            Unsupported: If this kind of module is not known, or an option of it.
        """
        known(module)
        if type(module) in NOTHING:
            return value
        if type(module) in POINTWISE:
            return self.emit(Map(value, module))
        return LOWERINGS[type(module)](self, module, value)


def known(module: object) -> None:
    """Refuse a module that may compute something else than its kind says.

    Raises:
        Unsupported: If its kind is not known, or it has hooks or a ``forward`` of its own.
    """
    kind = type(module)
    if not isinstance(module, nn.Module) or kind not in {*LOWERINGS, *NOTHING, *POINTWISE}:
        name = getattr(module, "__name__", kind.__name__)
        raise Unsupported(f"{kind.__module__.partition('.')[0]}'s {name} is not taken apart")
    hooks = (module._forward_hooks, module._forward_pre_hooks)
    listened = isinstance(module, MessagePassing) and has_message_hooks(module)
    if any(hooks) or listened or "forward" in vars(module):
        raise Unsupported(f"{kind.__name__} has hooks, or a forward of its own")


def lower(model: nn.Module, data: Data) -> Program:
    """A model in evaluation as a program.

    Args:
        model: Its parameters are shared with the program.
        data: A graph as the model is called on.

    Raises:
        Unsupported: If part of the model, or of what it reads of the graph, is not known.
    """
    x = data.get("x")
    if x is None:
        raise Unsupported("the graph has no features")
    if not isinstance(x, Tensor) or x.dim() != 2 or not x.is_floating_point():
        raise Unsupported("the features are no matrix of floating-point numbers")
    if data.get("edge_attr") is not None and accepts_keyword(model, "edge_attr"):
        raise Unsupported("the model reads edge_attr")
    weighted = data.get("edge_weight") is not None and accepts_keyword(model, "edge_weight")
    if weighted and data.edge_weight.dim() != 1:
        raise Unsupported("edge_weight has more than one dimension")
    lowering = Lowering(weighted)
    output = lowering.module(model, 0)
    if output != len(lowering.ops) or not lowering.ops:
        raise Unsupported("nothing is computed")
    columns = torch.arange(x.size(1), device=x.device)
    return Program(columns, x.size(1), tuple(lowering.ops), lowering.reads_edge_weight)


def _linear(low: Lowering, module: Any, value: int) -> int:
    bias = None if module.bias is None else module.bias.detach()
    return low.emit(Linear(value, module.weight.detach(), bias))


def _shift(low: Lowering, value: int, bias: Tensor | None) -> int:
    return value if bias is None else low.emit(Scale(value, shift=bias.detach()))


def _sequential(low: Lowering, modules: Any, value: int) -> int:
    for module in modules:
        value = low.module(module, value)
    return value


def _activated(low: Lowering, module: Any, norm: nn.Module, value: int) -> int:
    """Norm and activation of an MLP or a BasicGNN, in the order that it has."""
    parts = [part for part in (norm, module.act) if part is not None]
    if module.act_first:
        parts.reverse()
    return _sequential(low, parts, value)


def _batch_norm(low: Lowering, module: Any, value: int) -> int:
    if isinstance(module, gnn.BatchNorm):  # it holds torch's
        module = module.module
        known(module)
    if module.running_mean is None:
        raise Unsupported("a BatchNorm without running statistics depends on all nodes")
    scale = (module.running_var + module.eps).rsqrt()
    if module.weight is not None:
        scale = scale * module.weight.detach()
    shift = -module.running_mean * scale
    if module.bias is not None:
        shift = shift + module.bias.detach()
    return low.emit(Scale(value, scale, shift))


def _layer_norm(low: Lowering, module: Any, value: int) -> int:
    if isinstance(module, gnn.LayerNorm) and module.mode != "node":
        raise Unsupported("a LayerNorm over the whole graph depends on all nodes")
    if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) != 1:
        raise Unsupported("a LayerNorm over several dimensions")
    weight, bias = (None if p is None else p.detach() for p in (module.weight, module.bias))
    return low.emit(LayerNorm(value, weight, bias, module.eps))


def _plain_conv(module: Any, aggregations: tuple[str, ...]) -> None:
    if module.flow != "source_to_target" or module.aggr not in aggregations:
        raise Unsupported(f"{type(module).__name__} with flow or aggregation of its own")
    if getattr(module, "decomposed_layers", 1) != 1:
        raise Unsupported(f"{type(module).__name__} with decomposed layers")
    if getattr(module, "cached", False):
        raise Unsupported(f"{type(module).__name__} caches its graph")


def _gcn_conv(low: Lowering, module: Any, value: int) -> int:
    _plain_conv(module, ("add", "sum"))
    low.reads_edge_weight |= low.weighted
    # Without edge weights PyG gives all loops weight 1, improved or not.
    fill = 2.0 if module.improved and low.weighted else 1.0
    loops = fill if module.normalize and module.add_self_loops else None
    value = low.module(module.lin, value)
    value = low.emit(Aggregate(value, Rule("gcn" if module.normalize else "sum", loops)))
    return _shift(low, value, module.bias)


def _gin_conv(low: Lowering, module: Any, value: int) -> int:
    _plain_conv(module, ("add", "sum"))
    rule = Rule("sum", own=1 + float(module.eps))
    first, rest = _first_linear(module.nn)
    # The sum of what a linear map gives is what it gives for the sum.
    value = low.emit(Linear(value, first.weight.detach()))
    value = _shift(low, low.emit(Aggregate(value, rule)), first.bias)
    return rest(low, value)


def _first_linear(module: Any) -> tuple[Any, Callable[[Lowering, int], int]]:
    """The linear map that a network begins with, and what comes after it."""
    known(module)
    if type(module) in (nn.Linear, gnn.Linear):
        return module, lambda _, value: value
    if type(module) is nn.Sequential and len(module):
        first, rest = _first_linear(module[0])
        return first, lambda low, value: _sequential(low, module[1:], rest(low, value))
    if type(module) is gnn.MLP and len(module.lins):
        return module.lins[0], lambda low, value: _mlp_from(low, module, value)
    raise Unsupported(f"a GINConv whose network begins with {type(module).__name__}")


def _mlp_from(low: Lowering, module: Any, value: int) -> int:
    """An MLP after its first linear map."""
    norms = module.norms
    for position, lin in enumerate(module.lins[1:]):
        norm = norms[position] if position < len(norms) else nn.Identity()
        value = low.module(lin, _activated(low, module, norm, value))
    if len(norms) == len(module.lins):  # plain_last=False
        value = _activated(low, module, norms[-1], value)
    return value


def _whole_mlp(low: Lowering, module: Any, value: int) -> int:
    return _mlp_from(low, module, low.module(module.lins[0], value))


def _sage_conv(low: Lowering, module: Any, value: int) -> int:
    _plain_conv(module, ("mean", "add", "sum"))
    if module.normalize or module.project:
        raise Unsupported("SAGEConv with normalize or project")
    known(module.lin_l)
    rule = Rule("mean" if module.aggr == "mean" else "sum")
    heard = low.emit(Linear(value, module.lin_l.weight.detach()))
    heard = _shift(low, low.emit(Aggregate(heard, rule)), module.lin_l.bias)
    if not module.root_weight:
        return heard
    return low.emit(Join((heard, low.module(module.lin_r, value)), "sum"))


def _gat_conv(low: Lowering, module: Any, value: int) -> int:
    _plain_conv(module, ("add", "sum"))
    if module.lin is None or module.res is not None or module.lin_edge is not None:
        raise Unsupported("GATConv with two inputs, a residual or edge features")
    heads, channels = module.heads, module.out_channels
    device = module.att_src.device
    head = torch.arange(heads, device=device).repeat_interleave(channels)
    value = low.module(module.lin, value)
    value = low.emit(
        Attend(
            value,
            module.att_src.detach().flatten(),
            module.att_dst.detach().flatten(),
            head,
            torch.arange(heads * channels, device=device),
            module.negative_slope,
            module.add_self_loops,
        )
    )
    if not module.concat:
        mean = torch.eye(channels).repeat(1, heads).to(module.att_src) / heads
        bias = None if module.bias is None else module.bias.detach()
        return low.emit(Linear(value, mean, bias))
    return _shift(low, value, module.bias)


def _basic_gnn(low: Lowering, module: Any, value: int) -> int:
    known(module.dropout)
    kept = []
    for position, (conv, norm) in enumerate(zip(module.convs, module.norms, strict=True)):
        value = low.module(conv, value)
        if position < module.num_layers - 1 or module.jk_mode is not None:
            value = _activated(low, module, norm, value)
        kept.append(value)
    if module.jk_mode in ("cat", "max"):
        value = low.emit(Join(tuple(kept), module.jk_mode))
    elif module.jk_mode not in (None, "last"):
        raise Unsupported(f"jumping knowledge {module.jk_mode!r}")
    return low.module(module.lin, value) if hasattr(module, "lin") else value


LOWERINGS: dict[type[nn.Module], Callable[[Lowering, Any, int], int]] = {
    nn.Linear: _linear,
    gnn.Linear: _linear,
    nn.Sequential: _sequential,
    gnn.MLP: _whole_mlp,
    nn.BatchNorm1d: _batch_norm,
    gnn.BatchNorm: _batch_norm,
    nn.LayerNorm: _layer_norm,
    gnn.LayerNorm: _layer_norm,
    gnn.GCNConv: _gcn_conv,
    gnn.GINConv: _gin_conv,
    gnn.SAGEConv: _sage_conv,
    gnn.GATConv: _gat_conv,
    gnn.GCN: _basic_gnn,
    gnn.GIN: _basic_gnn,
    gnn.GAT: _basic_gnn,
    gnn.GraphSAGE: _basic_gnn,
    InputDropoutGAT: _basic_gnn,
}
"""Kind of module to what it emits. Subclasses may compute something else, and need entries."""
