"""Models and graphs that compilation is tried on."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import (
    GAT,
    GCN,
    GIN,
    DeepGCNLayer,
    GCNConv,
    GENConv,
    GraphSAGE,
    SAGEConv,
    Sequential,
)
from torch_geometric.nn.resolver import activation_resolver, normalization_resolver

from fastglt.models.deepergcn import DeeperGCN

FEATURES, CLASSES, NODES = 12, 4, 30


def _deepergcn(features: int, hidden: int, num_layers: int, out_channels: int, **_: Any):
    return DeeperGCN(features, hidden, num_layers, out_channels)


def _between(hidden: int, norm: str | None, act: Any, norm_kwargs: dict | None) -> list:
    """A norm and an activation, as far as they are asked for."""
    parts = [normalization_resolver(norm, hidden, **(norm_kwargs or {})), activation_resolver(act)]
    return [part for part in parts if part is not None]


def _gen(features, hidden, num_layers, out_channels, norm=None, act="relu", norm_kwargs=None, **_):
    """GENConvs of every aggregation in turn, the last of which has two linear maps."""
    aggregations = [{"learn_t": True}, {"t": 0.3}, {"aggr": "mean"}, {"aggr": "add"}]
    widths, modules = [features, *[hidden] * num_layers, out_channels], []
    for position in range(num_layers):
        options = {"num_layers": 1, "bias": True, "eps": 0.1} | aggregations[position % 4]
        conv = GENConv(widths[position], widths[position + 1], **options)
        modules += [(conv, "x, edge_index -> x"), *_between(hidden, norm, act, norm_kwargs)]
    conv = GENConv(hidden, out_channels, learn_t=True, norm="layer")
    return Sequential("x, edge_index", [*modules, (conv, "x, edge_index -> x")])


def _blocks(features, hidden, num_layers, out_channels, norm=None, act="relu", **_):
    """DeepGCNLayers of every block in turn, around convs of every kind."""
    widths, layers = [hidden], []
    for position in range(num_layers):
        width, block = widths[-1], ("res+", "res", "dense", "plain")[position % 4]
        kind = (GENConv, GCNConv, SAGEConv)[position % 3]
        parts = _between(width, norm if norm == "batch_norm" else "layer_norm", act,
                         None if norm == "batch_norm" else {"mode": "node"})  # fmt: skip
        layers.append(DeepGCNLayer(kind(width, width), *parts, block=block, dropout=0.3))
        widths.append(2 * width if block == "dense" else width)
    first, last = nn.Linear(features, hidden), nn.Linear(widths[-1], out_channels)
    routed = [(layer, "x, edge_index -> x") for layer in layers]
    return Sequential("x, edge_index", [(first, "x -> x"), *routed, last])


def _sequential(features, hidden, num_layers, out_channels, norm=None, act="relu",
                norm_kwargs=None, **_):  # fmt: skip
    """GCNConvs with skips, dropout, and an activation that overwrites what it reads."""
    modules = [(nn.Dropout(0.4), "x -> x"), (GCNConv(features, hidden), "x, edge_index -> h")]
    for _layer in range(num_layers - 1):
        for part in _between(hidden, norm, act, norm_kwargs):
            modules.append((part, "h -> h"))
        modules.append((GCNConv(hidden, hidden), "h, edge_index -> y"))
        modules.append((nn.ELU(inplace=True), "h -> z"))  # it changes h too
        modules.append((operator.add, "y, h -> h"))
    return Sequential("x, edge_index", [*modules, (nn.Linear(hidden, out_channels), "h -> out")])


BASIC: dict[str, Callable[..., nn.Module]] = {
    "gcn": GCN,
    "gin": GIN,
    "sage": GraphSAGE,
    "gat": lambda *args, **options: GAT(*args, heads=4, **options),
}
"""Name to a constructor of one of PyG's models."""
MODELS: dict[str, Callable[..., nn.Module]] = BASIC | {
    "deepergcn": _deepergcn,
    "gen": _gen,
    "blocks": _blocks,
    "sequential": _sequential,
}
"""Name to a constructor with the arguments of PyG's models."""


def make_model(kind: str, seed: int, density: float, **options: Any) -> nn.Module:
    """A model in double precision with most of its weights 0, and statistics that matter."""
    torch.manual_seed(seed)
    random.seed()  # Sequential draws the name of its code, and hypothesis seeds what it draws from
    options = {"num_layers": 2, "dropout": 0.5} | options
    model = MODELS[kind](FEATURES, 16, out_channels=CLASSES, **options).double().eval()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
        if parameter.dim() == 1:
            parameter.data.normal_()
        else:
            parameter.data.mul_(torch.rand_like(parameter) < density)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    return model


def make_graph(seed: int, num_edges: int = 80, *, weighted: bool = False) -> Data:
    """A directed graph with isolated nodes, self-loops and duplicate edges, all of them random."""
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(NODES - 4, (2, num_edges), generator=generator)
    edge_index[:, : num_edges // 10] = edge_index[0, : num_edges // 10]
    edge_index = torch.cat([edge_index, edge_index[:, -5:]], dim=1)
    x = torch.randn(NODES, FEATURES, dtype=torch.float64, generator=generator)
    x = x * (torch.rand(x.shape, generator=generator) < 0.3)
    data = Data(x=x, edge_index=edge_index)
    if weighted:
        weight = torch.rand(edge_index.size(1), dtype=torch.float64, generator=generator)
        data.edge_weight = weight + 0.1
    return data
