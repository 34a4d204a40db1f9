"""Which convs average their messages, and which sum them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.nn import (
    ClusterGCNConv,
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

from fastglt.gating import averaging_convs
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


class Normalised(MessagePassing):
    """Divides by the degree before it sends messages."""

    def forward(self, x, edge_index):
        degree = torch.bincount(edge_index[1], minlength=len(x)).clamp_min(1)
        return self.propagate(edge_index, x=x, norm=1 / degree[edge_index[1]])

    def message(self, x_j, norm):
        return norm[:, None] * x_j


class Awkward(MessagePassing):
    """Hands on what belongs to edges in several forms, and to nodes where there are as many."""

    def forward(self, x, edge_index):
        ones = torch.ones(edge_index.size(1))
        return self.propagate(edge_index, x=x, pair=(ones, ones), flat=ones[None], root=x)

    def message(self, x_j, pair, flat):
        return x_j * pair[0][:, None] * pair[1][:, None] * flat[0][:, None]

    def update(self, aggregated, root):
        return aggregated + root


class Tuples(MessagePassing):
    """Aggregates to more than a tensor."""

    def forward(self, x, edge_index):
        return self.propagate(edge_index, x=x)[0]

    def aggregate(self, inputs, index):
        return (inputs.new_zeros(90, inputs.size(1)).index_add(0, index, inputs),)


ALWAYS = [
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
    (Awkward, False),
]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("make", "averages"), ALWAYS)
def test_a_conv_that_averages_gives_the_same_of_messages_that_come_twice(make, averages, weighted):
    data = graph()
    torch.manual_seed(0)
    conv = make().train()
    assert averaging_convs(conv, lambda model: model(data.x, data.edge_index), weighted) == [
        averages
    ]
    assert conv.training
    assert not conv._propagate_forward_hooks
    assert not conv._aggregate_forward_hooks
    assert not conv._forward_hooks


@pytest.mark.parametrize(
    "make", [lambda: GCNConv(12, 4), lambda: ClusterGCNConv(12, 4), Normalised]
)
def test_what_is_computed_before_messages_counts_where_no_weights_reach_them(make):
    """Of the drawn edges it is a mean then; weights from without are counted by it as well."""
    data = graph()
    torch.manual_seed(0)
    conv = make()
    for weighted in (False, True):
        found = averaging_convs(conv, lambda model: model(data.x, data.edge_index), weighted)
        assert found == [not weighted]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda: SAGEConv(12, 4, aggr="lstm"),
        lambda: GCNConv(12, 4, decomposed_layers=2),
        Tuples,
    ],
)
def test_what_cannot_be_told_is_no_error(make, weighted):
    data = graph().sort(sort_by_row=False)
    conv = make()
    found = averaging_convs(conv, lambda model: model(data.x, data.edge_index), weighted)
    assert len(found) <= 2


def test_values_of_edges_come_twice_as_well():
    data = graph()
    data.edge_attr = torch.rand(data.num_edges, 2)
    conv = TransformerConv(12, 4, edge_dim=2)
    for weighted in (False, True):
        assert averaging_convs(
            conv, lambda model: model(data.x, data.edge_index, edge_attr=data.edge_attr), weighted
        ) == [True]
    weight = torch.rand(data.num_edges)
    conv = GCNConv(12, 4)
    assert averaging_convs(conv, lambda model: model(data.x, data.edge_index, weight), True) == [
        False
    ]


def test_every_conv_that_has_messages_is_told():
    data = graph()
    model = nn.ModuleList([GraphConv(12, 12), SAGEConv(12, 12)])

    def call(model):
        first, second = model
        return second(first(data.x, data.edge_index), data.edge_index)

    assert averaging_convs(model, call, False) == [False, True]
    assert averaging_convs(build("gcn", data), lambda m: m(data.x, data.edge_index[:, :0]), True)
    empty = averaging_convs(build("sage", data), lambda m: m(data.x, data.edge_index[:, :0]), False)
    assert empty == []
