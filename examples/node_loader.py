"""Denoising with mini-batches of a ``NodeLoader``: ``python examples/node_loader.py``."""

import argparse

import torch
import torch.nn.functional as F
from torch_geometric.loader import NeighborLoader, NodeLoader
from torch_geometric.nn import GraphSAGE
from torch_geometric.typing import WITH_PYG_LIB, WITH_TORCH_SPARSE

import fastglt
from fastglt.data import csbm, load
from fastglt.gating import message_gate
from fastglt.training.sampling import NeighborSampler

EPOCHS = 25
FAN_OUTS = [10, 5]

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--dataset", help="a name of the catalogue; by default a synthetic graph")
dataset = parser.parse_args().dataset

torch.manual_seed(0)
data = load(dataset).data if dataset else csbm(1000, homophily=0.6, feature_noise=4.0, seed=0)
num_classes = int(data.y.max()) + 1
model = GraphSAGE(data.num_features, 64, num_layers=2, out_channels=num_classes)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
generator = torch.Generator().manual_seed(0)


def batches(graph, nodes, fan_outs, shuffle=False):
    """Mini-batches of the edges that ``graph`` has now."""
    options = {"input_nodes": nodes, "batch_size": 32, "shuffle": shuffle, "generator": generator}
    if WITH_PYG_LIB or WITH_TORCH_SPARSE:
        return NeighborLoader(graph, fan_outs, **options)
    return NodeLoader(graph, NeighborSampler(graph, fan_outs, seed=generator), **options)


def train_step(batch):
    model.train()
    optimizer.zero_grad()
    out = model(batch.x, batch.edge_index)[: batch.batch_size]
    F.cross_entropy(out, batch.y[: batch.batch_size]).backward()
    optimizer.step()


def score(edge_index, edge_weight):
    """The loss as a function of the gates of all edges; SAGEConv takes no ``edge_weight``."""
    with message_gate(model, edge_index, edge_weight):
        out = model(data.x, edge_index)
    return F.cross_entropy(out[data.train_mask], data.y[data.train_mask])


@torch.no_grad()
def accuracy(model, graph, mask):
    model.eval()
    out = model(graph.x, graph.edge_index)
    return float((out[mask].argmax(dim=-1) == graph.y[mask]).float().mean())


loader = batches(data, data.train_mask, FAN_OUTS, shuffle=True)
for _ in range(5):
    for batch in loader:
        train_step(batch)
print(f"dense: val {accuracy(model, data, data.val_mask):.3f}")

pruner = fastglt.Denoiser(
    model,
    optimizer,
    data,
    edge_sparsity=0.3,
    weight_sparsity=0.8,
    steps=EPOCHS * len(loader),
    # One swap an epoch: a loader's batches come from the edges that it was made with.
    config=fastglt.DenoiseConfig(interval=len(loader)),
)
for _ in range(EPOCHS):
    for batch in batches(pruner.data, data.train_mask, FAN_OUTS, shuffle=True):
        train_step(batch)
        pruner.step(score=score, metric=lambda: accuracy(model, pruner.data, data.val_mask))

pruner.ticket().save("node_loader.safetensors")
ticket = fastglt.Ticket.load("node_loader.safetensors")
print(ticket)
print(f"edge sparsity {ticket.edge_sparsity:.4f}, weight sparsity {ticket.weight_sparsity:.4f}")
print(f"search: val {ticket.metrics['val_search']:.6f}")

sparse_model, sparse_data = ticket.apply(model, data)
print(f"ticket: val {accuracy(sparse_model, sparse_data, data.val_mask):.6f}")

# Inference in mini-batches: with every neighbour of two hops the outputs are those of the whole
# graph. The transform takes the ticket's edges anywhere that PyG takes a transform.
correct = 0
with torch.no_grad():
    for batch in batches(ticket.transform()(data), data.val_mask, [-1, -1]):
        out = sparse_model(batch.x, batch.edge_index)[: batch.batch_size]
        correct += int((out.argmax(dim=-1) == batch.y[: batch.batch_size]).sum())
print(f"ticket in batches: val {correct / int(data.val_mask.sum()):.6f}")
