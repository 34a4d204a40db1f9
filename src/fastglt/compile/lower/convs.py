"""Convs: what is called as ``conv(x, edge_index)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric import nn as gnn

from fastglt.compile.lower.base import Lowered, Lowering, Unsupported, check_unaltered
from fastglt.compile.lower.rows import chain, mlp_from
from fastglt.compile.plain import Message
from fastglt.compile.program import Aggregate, Attend, Join, Linear, Map, Rule, SoftmaxMean
from fastglt.models._gen_conv import SoftmaxGENConv


def _check(module: Any, aggregations: tuple[str, ...]) -> None:
    if module.aggr not in aggregations:
        raise Unsupported(f"{type(module).__name__} with an aggregation of its own")
    _check_flow(module)


def _check_flow(module: Any) -> None:
    name = type(module).__name__
    if module.flow != "source_to_target":
        raise Unsupported(f"{name} with a flow of its own")
    if getattr(module, "decomposed_layers", 1) != 1:
        raise Unsupported(f"{name} with decomposed layers")
    if getattr(module, "cached", False):
        raise Unsupported(f"{name} caches its graph")


def _gcn_conv(low: Lowering, module: Any, value: int) -> int:
    _check(module, ("add", "sum"))
    low.reads_edge_weight |= low.weighted
    # Without edge weights PyG gives all loops weight 1, improved or not.
    fill = 2.0 if module.improved and low.weighted else 1.0
    loops = fill if module.normalize and module.add_self_loops else None
    rule = Rule("gcn" if module.normalize else "sum", loops, weighted=low.weighted)
    value = low.emit(Aggregate(low.module(module.lin, value), rule))
    return low.shift(value, module.bias)


def _gin_conv(low: Lowering, module: Any, value: int) -> int:
    _check(module, ("add", "sum"))
    rule = Rule("sum", own=1 + float(module.eps))
    first, rest = _first_linear(low, module.nn)
    # The sum of what a linear map gives is what it gives for the sum.
    value = low.emit(Linear(value, first.weight.detach()))
    value = low.shift(low.emit(Aggregate(value, rule)), first.bias)
    return rest(low, module.nn, value)


def _first_linear(low: Lowering, module: Any) -> tuple[Any, Lowered]:
    """The linear map that a network begins with, and what emits what comes after it."""
    low.check(module)
    if type(module) in (nn.Linear, gnn.Linear):
        return module, lambda _low, _module, value: value
    if type(module) is nn.Sequential and len(module):
        first, rest = _first_linear(low, module[0])
        return first, lambda low, module, value: chain(low, module[1:], rest(low, module[0], value))
    if type(module) is gnn.MLP and len(module.lins):
        low.check(module.lins[0])
        return module.lins[0], mlp_from
    raise Unsupported(f"a GINConv whose network begins with {type(module).__name__}")


def _sage_conv(low: Lowering, module: Any, value: int) -> int:
    _check(module, ("mean", "add", "sum"))
    if module.normalize or module.project:
        raise Unsupported("SAGEConv with normalize or project")
    low.check(module.lin_l)
    rule = Rule("mean" if module.aggr == "mean" else "sum")
    heard = low.emit(Linear(value, module.lin_l.weight.detach()))
    heard = low.shift(low.emit(Aggregate(heard, rule)), module.lin_l.bias)
    if not module.root_weight:
        return heard
    return low.emit(Join((heard, low.module(module.lin_r, value)), "sum"))


def _gat_conv(low: Lowering, module: Any, value: int) -> int:
    _check(module, ("add", "sum"))
    if module.lin is None or module.lin_edge is not None:
        raise Unsupported("GATConv with two inputs, or with edge features")
    heads, channels = module.heads, module.out_channels
    device = module.att_src.device
    heard = low.emit(
        Attend(
            low.module(module.lin, value),
            module.att_src.detach().flatten(),
            module.att_dst.detach().flatten(),
            torch.arange(heads, device=device).repeat_interleave(channels),
            torch.arange(heads * channels, device=device),
            module.negative_slope,
            module.add_self_loops,
        )
    )
    if not module.concat:
        mean = torch.eye(channels).repeat(1, heads).to(module.att_src) / heads
        bias = None if module.bias is None else module.bias.detach()
        heard = low.emit(Linear(heard, mean, bias))
    if module.res is not None:
        heard = low.emit(Join((heard, low.module(module.res, value)), "sum"))
    return low.shift(heard, module.bias) if module.concat else heard


def _gen_conv(low: Lowering, module: Any, value: int) -> int:
    _check_flow(module)
    if hasattr(module, "msg_norm") or hasattr(module, "lin_aggr_out"):
        raise Unsupported("GENConv with message normalisation or several aggregations")
    heard = low.module(module.lin_src, value) if hasattr(module, "lin_src") else value
    heard = low.emit(Map(heard, Message(module.eps)))
    heard = _aggregated(low, module, heard)
    own = low.module(module.lin_dst, value) if hasattr(module, "lin_dst") else value
    return low.module(module.mlp, low.emit(Join((heard, own), "sum")))


def _aggregated(low: Lowering, module: Any, value: int) -> int:
    aggregation = module.aggr_module
    check_unaltered(aggregation)
    if type(aggregation) is gnn.SoftmaxAggregation:
        t = aggregation.t
        if isinstance(t, Tensor):
            return low.emit(SoftmaxMean(value, t.detach().flatten(), learned=True))
        fixed = next(module.mlp.parameters()).new_full((1,), float(t)).detach()
        return low.emit(SoftmaxMean(value, fixed, learned=False))
    norms: Mapping[type, Rule] = {
        gnn.SumAggregation: Rule("sum"),
        gnn.MeanAggregation: Rule("mean"),
    }
    if type(aggregation) not in norms:
        raise Unsupported(f"GENConv with {type(aggregation).__name__}")
    return low.emit(Aggregate(value, norms[type(aggregation)]))


LOWERINGS: Mapping[type, Lowered] = {
    gnn.GCNConv: _gcn_conv,
    gnn.GINConv: _gin_conv,
    gnn.SAGEConv: _sage_conv,
    gnn.GATConv: _gat_conv,
    gnn.GENConv: _gen_conv,
    SoftmaxGENConv: _gen_conv,
}
"""Kind of module to what it emits."""
