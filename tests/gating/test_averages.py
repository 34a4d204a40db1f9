"""Which convs average their messages, and which sum them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.nn import (
    GATConv,
    GCNConv,
    GENConv,
    GINConv,
    GraphConv,
    MessagePassing,
    PNAConv,
    SAGEConv,
    SuperGATConv,
    TransformerConv,
)

from fastglt.gating import averages_messages
from helpers import build, graph


def _pna():
    kinds, scalers = ["mean", "min", "max", "std"], ["identity", "amplification", "attenuation"]
    return PNAConv(12, 4, kinds, scalers, torch.tensor([1, 2, 3, 2]))


class RootInUpdate(MessagePassing):
    """Adds a node's own features after its messages, within ``propagate``."""

    def __init__(self, aggr):
        super().__init__(aggr=aggr)

    def forward(self, x, edge_index):
        return self.propagate(edge_index, x=x)

    def update(self, aggregated, x):
        return aggregated + 100 * x


@pytest.mark.parametrize(
    ("make", "averages"),
    [
        (lambda: GCNConv(12, 4), False),
        (lambda: GraphConv(12, 4), False),
        (lambda: GINConv(nn.Linear(12, 4)), False),
        (lambda: GATConv(12, 4), False),
        (lambda: GENConv(12, 4, aggr="add"), False),
        (lambda: RootInUpdate("sum"), False),
        (lambda: RootInUpdate("mean"), True),
        (lambda: SAGEConv(12, 4), True),
        (lambda: SAGEConv(12, 4, aggr="max"), True),
        (lambda: GraphConv(12, 4, aggr="mean"), True),
        (lambda: GENConv(12, 4), True),
        (lambda: TransformerConv(12, 4), True),
        (lambda: SuperGATConv(12, 4), True),
        (_pna, True),
    ],
)
def test_a_conv_that_averages_gives_the_same_of_messages_that_come_twice(make, averages):
    data = graph()
    torch.manual_seed(0)
    conv = make().train()
    assert averages_messages(conv, lambda model: model(data.x, data.edge_index)) is averages
    assert conv.training
    assert not conv._propagate_forward_hooks
    assert not conv._aggregate_forward_hooks


def test_values_of_edges_come_twice_as_well():
    data = graph()
    data.edge_attr = torch.rand(data.num_edges, 2)
    conv = TransformerConv(12, 4, edge_dim=2)
    assert averages_messages(conv, lambda model: model(data.x, data.edge_index, data.edge_attr))
    weight = torch.rand(data.num_edges)
    conv = GCNConv(12, 4)
    assert not averages_messages(conv, lambda model: model(data.x, data.edge_index, weight))


def test_one_conv_that_averages_is_enough():
    data = graph()
    model = nn.ModuleList([GCNConv(12, 12), SAGEConv(12, 12)])

    def call(model):
        first, second = model
        return second(first(data.x, data.edge_index), data.edge_index)

    assert averages_messages(model, call)
    assert not averages_messages(build("gcn", data), lambda m: m(data.x, data.edge_index[:, :0]))
