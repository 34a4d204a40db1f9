"""A ticket for a model of your own: ``python examples/own_model.py``.

The command line takes the same file: ``fastglt find --model examples/own_model.py:build ...``.
"""

import argparse

import torch
from torch import nn
from torch_geometric.nn import GATv2Conv, SAGEConv

import fastglt
from fastglt.data import csbm, load


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


def build(num_features, num_classes):
    """What ``--model examples/own_model.py:build`` calls."""
    return Mixed(num_features, num_classes)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", help="a name of the catalogue; by default a synthetic graph")
    dataset = parser.parse_args().dataset

    torch.manual_seed(0)
    data = load(dataset).data if dataset else csbm(1000, homophily=0.6, feature_noise=4.0, seed=0)
    model = build(data.num_features, int(data.y.max()) + 1)
    ticket = fastglt.find(
        model,
        data,
        edge_sparsity=0.3,
        weight_sparsity=0.8,
        # Short, to show how it goes; leave these out for a real search.
        dense_epochs=60,
        denoise_steps=40,
        retrain_epochs=60,
    )
    print(ticket)
    print(f"edge sparsity {ticket.edge_sparsity:.4f}, weight sparsity {ticket.weight_sparsity:.4f}")
    for name in ("val_dense", "val_ticket", "test_dense", "test_ticket"):
        print(f"{name} {ticket.metrics[name]:.3f}")

    ticket.save("own_model.safetensors")
    sparse_model, sparse_data = fastglt.Ticket.load("own_model.safetensors").apply(model, data)
    with torch.no_grad():
        out = sparse_model.eval()(sparse_data.x, sparse_data.edge_index)
    correct = out.argmax(dim=-1) == data.y
    print(f"loaded again: test {float(correct[data.test_mask].float().mean()):.3f}")


# The command line imports this file; only a run of the file itself searches.
if __name__ == "__main__":
    main()
