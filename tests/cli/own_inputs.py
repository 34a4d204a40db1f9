"""Graphs in a file and models of one's own, small."""

from __future__ import annotations

from pathlib import Path

import torch
from torch_geometric.data import Data

from fastglt.data import csbm, random_link_split, save_npz

MODEL = """
import torch
from torch_geometric.nn import SAGEConv


class Net(torch.nn.Module):
    def __init__(self, num_features, num_outputs):
        super().__init__()
        self.first = SAGEConv(num_features, 8)
        self.last = SAGEConv(8, num_outputs)

    def forward(self, x, edge_index):
        return self.last(self.first(x, edge_index).relu(), edge_index)


def build(num_features, num_outputs):
    return Net(num_features, num_outputs)
"""
MASKS = ("train_mask", "val_mask", "test_mask")


def nodes(path: Path, *, masks: bool = True, num_classes: int = 3) -> Data:
    """One label a node."""
    data = csbm(120, num_classes=num_classes, num_features=6, average_degree=6, seed=2)
    if not masks:
        for name in MASKS:
            del data[name]
    save_npz(data, path)
    return data


def labels(path: Path) -> Data:
    """Two labels a node, some of them unknown."""
    data = csbm(120, num_classes=2, num_features=6, average_degree=6, seed=3)
    y = torch.stack([data.y == 0, data.x[:, 0] > data.x[:, 0].median()], dim=1).float()
    y[::7, 1] = torch.nan
    data.y = y
    save_npz(data, path)
    return data


def links(path: Path, *, features: bool = True) -> Data:
    """Pairs to tell apart, with or without features of nodes."""
    data = random_link_split(
        csbm(120, num_classes=3, num_features=6, average_degree=8, seed=4), val=0.1, test=0.2
    )
    if not features:
        del data.x
        data.num_nodes = 120
    save_npz(data, path)
    return data


def model(path: Path) -> None:
    """A model of two convs, eight hidden channels."""
    path.write_text(MODEL, encoding="utf-8")
