"""A ticket for predicting links: ``python examples/link_prediction.py``."""

import argparse

import torch
from torch_geometric.nn import GCN

import fastglt
from fastglt.data import csbm, load, random_link_split

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--dataset", help="a name of the catalogue; by default a synthetic graph")
dataset = parser.parse_args().dataset

torch.manual_seed(0)
graph = load(dataset).data if dataset else csbm(1000, homophily=0.9, feature_noise=1.0, seed=0)
# Validation and test links are taken out of the edges that messages pass along; only the others
# can be pruned.
data = random_link_split(graph, val=0.05, test=0.1, seed=0)
# A model for links returns one embedding a node. A link is scored by the dot product of its ends,
# unless the model has a method decode(z, edge_label_index).
model = GCN(data.num_features, 64, num_layers=2, out_channels=32)

ticket = fastglt.find(
    model,
    data,
    task="link-prediction",
    metric="roc_auc",  # or "average_precision", "hits@20"
    edge_sparsity=0.3,
    weight_sparsity=0.8,
    # Short, to show how it goes; leave these out for a real search.
    dense_epochs=5,
    pretrain_epochs=2,
    denoise_steps=30,
    retrain_epochs=5,
)
print(ticket)
print(f"edge sparsity {ticket.edge_sparsity:.4f}, weight sparsity {ticket.weight_sparsity:.4f}")
for name in ("val_dense", "val_ticket", "test_dense", "test_ticket"):
    print(f"{name} {ticket.metrics[name]:.3f}")

# The same metric by hand: embeddings from the kept edges, then the test links' scores.
ticket.save("link_prediction.safetensors")
sparse_model, sparse_data = fastglt.Ticket.load("link_prediction.safetensors").apply(model, data)
with torch.no_grad():
    z = sparse_model.eval()(sparse_data.x, sparse_data.edge_index)
positive, negative = (
    (z[pairs[0]] * z[pairs[1]]).sum(dim=-1)
    for pairs in (data.test_pos_edge_label_index, data.test_neg_edge_label_index)
)
wins = (positive[:, None] > negative).double() + 0.5 * (positive[:, None] == negative)
print(f"loaded again: test {float(wins.mean()):.3f}")
