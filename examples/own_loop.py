"""Denoising around a training loop of your own: ``python examples/own_loop.py``."""

import argparse

import torch
import torch.nn.functional as F
from torch_geometric.nn import GCN

import fastglt
from fastglt.data import csbm, load

STEPS = 100

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--dataset", help="a name of the catalogue; by default a synthetic graph")
dataset = parser.parse_args().dataset

torch.manual_seed(0)
data = load(dataset).data if dataset else csbm(1000, homophily=0.6, feature_noise=4.0, seed=0)
num_classes = int(data.y.max()) + 1
model = GCN(data.num_features, 64, num_layers=2, out_channels=num_classes, dropout=0.5)
init = {name: tensor.clone() for name, tensor in model.state_dict().items()}
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)


def loss(edge_index, edge_weight=None):
    out = model(data.x, edge_index, edge_weight)
    return F.cross_entropy(out[data.train_mask], data.y[data.train_mask])


def train_step(edge_index):
    model.train()
    optimizer.zero_grad()
    loss(edge_index).backward()
    optimizer.step()


@torch.no_grad()
def accuracy(model, edge_index, mask):
    model.eval()
    out = model(data.x, edge_index)
    return float((out[mask].argmax(dim=-1) == data.y[mask]).float().mean())


for _ in range(30):  # pre-training, so that magnitudes mean something
    train_step(data.edge_index)
print(f"dense: val {accuracy(model, data.edge_index, data.val_mask):.3f}")

pruner = fastglt.Denoiser(
    model,
    optimizer,
    data,
    edge_sparsity=0.3,
    weight_sparsity=0.8,
    steps=STEPS,
    init=init,  # what the ticket rewinds to; without it the weights as they are now
)
for _ in range(STEPS):
    train_step(pruner.edge_index)  # kept edges only; pruned weights stay 0
    event = pruner.step(
        score=loss,  # called on the steps that swap edges, with the whole graph
        metric=lambda: accuracy(model, pruner.edge_index, data.val_mask),
    )
    if event is not None and event.step % 20 == 0:
        print(f"step {event.step}: {event.edges_swapped} edges, {event.weights_swapped} weights")

ticket = pruner.ticket()  # the masks with the best metric, and the weights that reached it
print(ticket)
print(f"edge sparsity {ticket.edge_sparsity:.4f}, weight sparsity {ticket.weight_sparsity:.4f}")
sparse_model, sparse_data = ticket.apply(model, data)
print(f"search: val {ticket.metrics['val_search']:.6f}")
print(f"ticket: val {accuracy(sparse_model, sparse_data.edge_index, data.val_mask):.6f}")
print(f"ticket: test {accuracy(sparse_model, sparse_data.edge_index, data.test_mask):.3f}")
