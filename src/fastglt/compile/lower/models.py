"""Models of several convs, called as ``model(x, edge_index)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch_geometric import nn as gnn

from fastglt.compile.lower.base import Lowered, Lowering, Unsupported
from fastglt.compile.lower.routed import routed
from fastglt.compile.lower.rows import activated, chain
from fastglt.compile.program import Join
from fastglt.models.deepergcn import DeeperGCN
from fastglt.models.gat import InputDropoutGAT


def _basic_gnn(low: Lowering, module: Any, value: int) -> int:
    low.check(module.dropout)
    kept = []
    for position, (conv, norm) in enumerate(zip(module.convs, module.norms, strict=True)):
        value = low.module(conv, value)
        if position < module.num_layers - 1 or module.jk_mode is not None:
            value = activated(low, module, norm, value)
        kept.append(value)
    if module.jk_mode in ("cat", "max"):
        value = low.emit(Join(tuple(kept), module.jk_mode))
    elif module.jk_mode not in (None, "last"):
        raise Unsupported(f"jumping knowledge {module.jk_mode!r}")
    return low.module(module.lin, value) if hasattr(module, "lin") else value


def _deep_gcn_layer(low: Lowering, module: Any, value: int) -> int:
    around = [part for part in (module.norm, module.act) if part is not None]
    if module.block == "res+":
        new = low.module(module.conv, chain(low, around, value))
    else:
        new = chain(low, around, low.module(module.conv, value))
    if module.block == "plain":
        return new
    if module.block == "dense":
        return low.emit(Join((value, new), "cat"))
    return low.emit(Join((new, value), "sum"))


def _deeper_gcn(low: Lowering, module: Any, value: int) -> int:
    if module.edge_encoder is not None:
        raise Unsupported("DeeperGCN with edge features")
    value = chain(low, [module.encoder, *module.layers], value)
    return chain(low, [module.norm, nn.ReLU(), module.lin], value)


LOWERINGS: Mapping[type, Lowered] = {
    gnn.GCN: _basic_gnn,
    gnn.GIN: _basic_gnn,
    gnn.GAT: _basic_gnn,
    gnn.GraphSAGE: _basic_gnn,
    InputDropoutGAT: _basic_gnn,
    gnn.DeepGCNLayer: _deep_gcn_layer,
    DeeperGCN: _deeper_gcn,
    gnn.Sequential: routed,
}
"""Kind of module to what it emits."""
