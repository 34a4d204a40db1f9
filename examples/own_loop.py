"""Denoising around a training loop of your own: ``python examples/own_loop.py``."""

import torch
import torch.nn.functional as F
from torch_geometric.nn import GCN

import fastglt
from fastglt.data import csbm

STEPS = 150

torch.manual_seed(0)
data = csbm(2000, average_degree=10, num_classes=5, feature_noise=2.0, seed=0)
model = GCN(data.num_features, 128, num_layers=2, out_channels=5, dropout=0.5)
init = {name: tensor.clone() for name, tensor in model.state_dict().items()}
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)


def loss(edge_index, edge_weight=None):
    out = model(data.x, edge_index, edge_weight)
    return F.cross_entropy(out[data.train_mask], data.y[data.train_mask])


def step(edge_index):
    model.train()
    optimizer.zero_grad()
    loss(edge_index).backward()
    optimizer.step()


@torch.no_grad()
def accuracy(mask, edge_index):
    model.eval()
    out = model(data.x, edge_index)
    return float((out[mask].argmax(dim=-1) == data.y[mask]).float().mean())


for _ in range(30):  # pre-training, so that magnitudes mean something
    step(data.edge_index)
print(f"dense after 30 epochs: val {accuracy(data.val_mask, data.edge_index):.3f}")

pruner = fastglt.Denoiser(
    model,
    optimizer,
    data,
    edge_sparsity=0.5,
    weight_sparsity=0.9,
    steps=STEPS,
    init=init,
)
for _ in range(STEPS):
    step(pruner.edge_index)  # kept edges only; pruned weights stay 0
    event = pruner.step(
        score=loss,  # called on the steps that swap edges, with the whole graph
        metric=lambda: accuracy(data.val_mask, pruner.edge_index),
    )
    if event is not None:
        print(f"step {event.step}: {event.edges_swapped} edges, {event.weights_swapped} weights")

ticket = pruner.ticket()
print(ticket)
sparse_model, sparse_data = ticket.apply(model, data)
model = sparse_model
print(f"ticket: test {accuracy(data.test_mask, sparse_data.edge_index):.3f}")
