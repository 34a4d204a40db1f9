"""Models and graphs that compilation is tried on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import GAT, GCN, GIN, GraphSAGE

FEATURES, CLASSES, NODES = 12, 4, 30

MODELS: dict[str, Callable[..., nn.Module]] = {
    "gcn": GCN,
    "gin": GIN,
    "sage": GraphSAGE,
    "gat": lambda *args, **options: GAT(*args, heads=4, **options),
}
"""Name to a constructor with the arguments of PyG's models."""


def make_model(kind: str, seed: int, density: float, **options: Any) -> nn.Module:
    """A model in double precision with most of its weights 0, and statistics that matter."""
    torch.manual_seed(seed)
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
