"""A ticket for a model of your own: ``python examples/own_model.py``."""

import torch
from torch import nn
from torch_geometric.nn import GATv2Conv, SAGEConv

import fastglt
from fastglt.data import csbm


class Mixed(nn.Module):
    """Any module will do that is called as ``model(x, edge_index)``."""

    def __init__(self, num_features, num_classes):
        super().__init__()
        self.first = SAGEConv(num_features, 64)
        self.second = GATv2Conv(64, 16, heads=4)
        self.out = nn.Linear(64, num_classes)

    def forward(self, x, edge_index):
        x = self.first(x, edge_index).relu()
        x = self.second(x, edge_index).relu()
        return self.out(x)


torch.manual_seed(0)
data = csbm(2000, average_degree=10, num_classes=5, feature_noise=2.0, seed=0)
ticket = fastglt.find(Mixed(data.num_features, 5), data, edge_sparsity=0.5, weight_sparsity=0.9)
print(ticket)
for name in ("val_dense", "val_ticket", "test_dense", "test_ticket"):
    print(f"{name:12} {ticket.metrics[name]:.3f}")
ticket.save("own_model.safetensors")
