from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.nn import (
    GAT,
    GCN,
    GIN,
    PNA,
    DeepGCNLayer,
    GATConv,
    GCNConv,
    GENConv,
    GINEConv,
    GraphConv,
    GraphSAGE,
    ResGatedGraphConv,
    Sequential,
    TransformerConv,
)

from conv_matrix import CONVS, call, cases
from fastglt.gating import accepts_keyword, takes_edge_attr, takes_edge_weight
from helpers import build, graph


class _Forgetful(nn.Module):
    """Takes an edge weight, but one of its convs cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.first = GCNConv(4, 4)
        self.second = GATConv(4, 4)

    def forward(self, x, edge_index, edge_weight=None):
        return self.second(self.first(x, edge_index, edge_weight), edge_index)


class _Deaf(nn.Module):
    """Its conv takes an edge weight, but it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = GCNConv(4, 4)

    def forward(self, x, edge_index):
        return self.conv(x, edge_index)


class _Wrapper(nn.Module):
    """Passes on whatever it is given."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x, *args, **kwargs):
        for part in self.parts:
            x = part(x, *args, **kwargs)
        return x


class _Named(_Wrapper):
    """Names the edge values that it passes on."""

    def forward(self, x, edge_index, edge_weight=None, edge_attr=None):
        for part in self.parts:
            x = part(x, edge_index, edge_weight=edge_weight)
        return x


class _SilentGNN(GCN):
    """One of PyG's own models, whose convs would take what it does not pass on."""

    supports_edge_weight = False


def _sequential(*steps, arguments="x, edge_index, edge_weight"):
    return Sequential(arguments, list(steps))


_WEIGHTED = "x, edge_index, edge_weight -> x"
_PLAIN = "x, edge_index -> x"
_DEGREES = {"aggregators": ["mean"], "scalers": ["identity"], "deg": torch.tensor([1, 2])}

WEIGHT = {
    "GCN": (GCN(4, 4, 2), True),
    "GCN with jumping knowledge": (GCN(4, 4, 2, 3, jk="lstm"), True),
    "GAT": (GAT(4, 4, 2), False),
    "GraphSAGE": (GraphSAGE(4, 4, 2), False),
    "GIN": (GIN(4, 4, 2), False),
    "a model that does not pass it on": (_SilentGNN(4, 4, 2), False),
    "that model, wrapped": (_Named(_SilentGNN(4, 4, 2)), False),
    "a conv": (GraphConv(4, 4), True),
    "a custom model": (build("weighted", graph()), True),
    "a custom model without": (build("plain", graph()), False),
    "one conv of two": (_Forgetful(), False),
    "an argument short": (_Deaf(), False),
    "no convs": (nn.Linear(4, 4), False),
    "no convs, but the argument": (_Named(nn.Linear(4, 4)), False),
    "**kwargs": (_Wrapper(GCNConv(4, 4), GCN(4, 4, 2)), True),
    "**kwargs to a deaf model": (_Wrapper(_Deaf()), False),
    "**kwargs, one conv of two": (_Wrapper(GCNConv(4, 4), GATConv(4, 4)), False),
    "nested names": (_Named(_Named(GCNConv(4, 4))), True),
    "a deaf model inside": (_Named(_Wrapper(GCNConv(4, 4)), _Deaf()), False),
    "layers of a deep GCN": (_Wrapper(DeepGCNLayer(GCNConv(4, 4), nn.LayerNorm(4))), True),
    "a container": (nn.ModuleList([GCNConv(4, 4)]), False),
    "torch.nn.Sequential": (nn.Sequential(GCNConv(4, 4)), False),
    "Sequential": (_sequential((GCNConv(4, 4), _WEIGHTED), nn.ReLU()), True),
    "Sequential, one conv of two": (
        _sequential((GCNConv(4, 4), _WEIGHTED), (GCNConv(4, 4), _PLAIN)),
        False,
    ),
    "Sequential without": (_sequential((GCNConv(4, 4), _PLAIN), arguments="x, edge_index"), False),
    # The third argument of this conv is edge_attr, to which 0 does not mean removed.
    "Sequential, as an attribute": (_sequential((GATConv(4, 4, edge_dim=1), _WEIGHTED)), False),
    "Sequential in Sequential": (
        _sequential((_sequential((GCNConv(4, 4), _WEIGHTED)), _WEIGHTED)),
        True,
    ),
}


@pytest.mark.parametrize("name", WEIGHT)
def test_which_models_take_edge_weights(name):
    model, expected = WEIGHT[name]
    assert takes_edge_weight(model) is expected


@pytest.mark.parametrize("name", [name for name in WEIGHT if WEIGHT[name][1]])
def test_models_that_take_edge_weights_listen_to_them(name):
    model = WEIGHT[name][0].eval()
    data = graph(30, num_features=12 if name == "a custom model" else 4)
    weight = torch.full((data.num_edges,), 0.5)
    plain = model(data.x, data.edge_index, edge_weight=torch.ones_like(weight))
    weight[::3] = 2.0
    assert not torch.allclose(model(data.x, data.edge_index, edge_weight=weight), plain)


ATTRIBUTES = {
    "GAT": (GAT(4, 4, 2, edge_dim=2), True),
    "GAT without a width": (GAT(4, 4, 2), False),
    "PNA": (PNA(4, 4, 2, edge_dim=2, **_DEGREES), True),
    "GCN": (GCN(4, 4, 2), False),
    "GraphSAGE": (GraphSAGE(4, 4, 2), False),
    "TransformerConv": (TransformerConv(4, 4, edge_dim=2), True),
    "TransformerConv without a width": (TransformerConv(4, 4), False),
    "ResGatedGraphConv without a width": (ResGatedGraphConv(4, 4), False),
    "GINEConv": (GINEConv(nn.Linear(4, 4), edge_dim=2), True),
    "GENConv of encoded attributes": (GENConv(4, 4), True),
    "GCNConv": (GCNConv(4, 4), False),
    "a custom model": (_Named(GCNConv(4, 4)), True),
    "a custom model without": (_Deaf(), False),
    "**kwargs": (_Wrapper(GCNConv(4, 4), GINEConv(nn.Linear(4, 4))), True),
    "**kwargs to nobody": (_Wrapper(GCNConv(4, 4)), False),
    "**kwargs and no convs": (_Wrapper(nn.Linear(4, 4)), False),
    "Sequential": (
        _sequential(
            (GATConv(4, 4, edge_dim=2), "x, edge_index, edge_attr -> x"),
            arguments="x, edge_index, edge_attr",
        ),
        True,
    ),
    "Sequential without": (_sequential((GCNConv(4, 4), _PLAIN), arguments="x, edge_index"), False),
    "no convs": (nn.Linear(4, 4), False),
}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_which_models_take_edge_attributes(name):
    model, expected = ATTRIBUTES[name]
    assert takes_edge_attr(model) is expected


def test_a_model_may_accept_a_weight_that_does_not_reach_every_conv():
    assert accepts_keyword(_Forgetful(), "edge_weight")
    assert not accepts_keyword(_Deaf(), "edge_weight")


@pytest.mark.parametrize("case", [c for c in cases() if "-undirected-no-loops" in c.id])
def test_every_conv_is_called_with_what_it_takes(case):
    net = case.net()
    assert takes_edge_weight(net) is (CONVS[case.conv].keyword == "edge_weight")
    if case.keyword == "edge_attr":
        assert takes_edge_attr(net)
    if not case.valued and case.conv != "gen":
        assert not takes_edge_attr(net)
    assert call(net, case.graph()).isfinite().all()
