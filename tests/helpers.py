"""Graphs, models and small tools that several test files use."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import GAT, GCN, GIN, GraphConv, GraphSAGE, SAGEConv

from fastglt.data.synthetic import csbm
from fastglt.search import METHODS

TINY = {
    "dense_epochs": 4,
    "pretrain_epochs": 2,
    "denoise_steps": 6,
    "retrain_epochs": 4,
    "interval": 2,
    "accumulation": 1,
    "rounds": 2,
    "mask_epochs": 3,
}
"""Settings of a search that takes a fraction of a second."""

PRUNING_METHODS = sorted(set(METHODS) - {"dense", "small-dense", "dropedge", "dspar"})
"""Methods whose masks have both of the sparsities that are asked for."""


class WeightedNet(nn.Module):
    """A custom module whose convs all take ``edge_weight``."""

    def __init__(self, features: int, classes: int, hidden: int = 8) -> None:
        super().__init__()
        self.first = GraphConv(features, hidden)
        self.second = GraphConv(hidden, classes)

    def forward(self, x, edge_index, edge_weight=None):
        hidden = self.first(x, edge_index, edge_weight).relu()
        return self.second(hidden, edge_index, edge_weight)


class PlainNet(nn.Module):
    """A custom module called as ``model(x, edge_index)`` only, with a norm and an embedding."""

    def __init__(self, features: int, classes: int, hidden: int = 8) -> None:
        super().__init__()
        self.encode = nn.Linear(features, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.conv = SAGEConv(hidden, classes)

    def forward(self, x, edge_index):
        return self.conv(self.norm(self.encode(x)).relu(), edge_index)


MODELS = {
    "gcn": lambda features, classes: GCN(features, 16, 2, classes, dropout=0.5),
    "sage": lambda features, classes: GraphSAGE(features, 16, 2, classes),
    "gin": lambda features, classes: GIN(features, 16, 2, classes),
    "gat": lambda features, classes: GAT(features, 16, 2, classes, heads=2),
    "weighted": WeightedNet,
    "plain": PlainNet,
}


def build(name: str, data: Data, classes: int = 3, seed: int = 0) -> nn.Module:
    """A small model with the weights that belong to ``seed``."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MODELS[name](data.num_features, classes)


def graph(num_nodes: int = 90, **settings) -> Data:
    """A small stochastic block model with three classes."""
    chosen = {"num_classes": 3, "average_degree": 6.0, "num_features": 12, "seed": 1} | settings
    return csbm(num_nodes, **chosen)


def with_edges(data: Data, edge_index: torch.Tensor) -> Data:
    """``data`` with other edges."""
    changed = copy.copy(data)
    changed.edge_index = edge_index
    return changed


def isolate(data: Data, node: int) -> Data:
    """``data`` without the edges of one node."""
    return with_edges(data, data.edge_index[:, (data.edge_index != node).all(dim=0)])


def with_loops(data: Data, nodes: torch.Tensor) -> Data:
    """``data`` with self-loops of some nodes in front of its edges."""
    loops = nodes.repeat(2, 1)
    return with_edges(data, torch.cat([loops, data.edge_index], dim=1))


def states_equal(first, second) -> bool:
    """Whether two state dicts are equal bit by bit, NaN included."""
    return first.keys() == second.keys() and all(
        torch.equal(first[name].nan_to_num(), second[name].nan_to_num())
        and torch.equal(first[name].isnan(), second[name].isnan())
        for name in first
    )


def tensors_of(data: Data) -> dict[str, torch.Tensor]:
    """Copies of all tensors of a graph, to compare with later."""
    return {key: value.clone() for key, value in data.to_dict().items()}
