from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.nn import (
    GAT,
    GCN,
    GIN,
    PNA,
    ARMAConv,
    DeepGCNLayer,
    GATConv,
    GatedGraphConv,
    GCN2Conv,
    GENConv,
    GMMConv,
    GraphSAGE,
    HeteroLinear,
    JumpingKnowledge,
    Linear,
    MessagePassing,
    RGCNConv,
)

from conv_matrix import CONVS, cases
from fastglt.errors import InputError, ModelError
from fastglt.gating import prunable_weights, tied_names


@pytest.mark.parametrize("case", [c for c in cases() if "-undirected-no-loops" in c.id])
def test_the_linear_maps_of_every_conv_are_prunable(case):
    conv = CONVS[case.conv]
    expected = {*conv.weights, *(conv.edge_weights if case.valued else ())}
    assert set(prunable_weights(case.layer())) == expected


class _Holder(MessagePassing):
    """A conv of someone's own, with all kinds of parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.ones(3, 4))
        self.stack = nn.Parameter(torch.ones(2, 3, 4))
        self.vector = nn.Parameter(torch.ones(4))
        self.row = nn.Parameter(torch.ones(1, 4))
        self.att_pair = nn.Parameter(torch.ones(2, 4))
        self.bias_table = nn.Parameter(torch.ones(2, 4))
        self.embedding = nn.Parameter(torch.ones(9, 4))


class _Raw(nn.Module):
    """Not a conv: its matrix may be a table of embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(9, 4))
        self.lin = nn.Linear(4, 1)


_DEGREES = {"aggregators": ["mean"], "scalers": ["identity"], "deg": torch.tensor([1, 2])}
_LSTM = ("weight_ih_l0", "weight_hh_l0", "weight_ih_l0_reverse", "weight_hh_l0_reverse")

MODELS = {
    "GCN": (GCN(4, 5, 2, 3, norm="batch"), ["convs.0.lin.weight", "convs.1.lin.weight"]),
    "GCN with jumping knowledge": (
        GCN(4, 5, 2, 3, jk="lstm"),
        ["convs.0.lin.weight", "convs.1.lin.weight"]
        + [f"jk.lstm.{name}" for name in _LSTM]
        + ["jk.att.weight", "lin.weight"],
    ),
    "GAT": (
        GAT(4, 4, 1, 3, heads=1, edge_dim=2),
        ["convs.0.lin.weight", "convs.0.lin_edge.weight"],
    ),
    "GIN": (GIN(4, 5, 1), ["convs.0.nn.lins.0.weight", "convs.0.nn.lins.1.weight"]),
    "GraphSAGE": (GraphSAGE(4, 5, 1), ["convs.0.lin_l.weight", "convs.0.lin_r.weight"]),
    "PNA": (
        PNA(4, 5, 1, **_DEGREES),
        ["convs.0.pre_nns.0.0.weight", "convs.0.post_nns.0.0.weight", "convs.0.lin.weight"],
    ),
    "DeepGCNLayer": (
        DeepGCNLayer(GENConv(4, 4, norm="layer"), nn.LayerNorm(4)),
        ["conv.mlp.0.weight", "conv.mlp.4.weight"],
    ),
    "GCN2Conv": (GCN2Conv(4, 0.1, shared_weights=False), ["weight1", "weight2"]),
    "GatedGraphConv": (GatedGraphConv(4, 2), ["weight", "rnn.weight_ih", "rnn.weight_hh"]),
    "RGCNConv": (RGCNConv(4, 3, 5, num_bases=2), ["weight", "root"]),
    "ARMAConv": (ARMAConv(4, 3, num_stacks=2), ["weight", "init_weight", "root_weight"]),
    "GMMConv": (GMMConv(4, 3, dim=2, kernel_size=3), ["g", "root.weight"]),
    "JumpingKnowledge": (
        JumpingKnowledge("lstm", 4, 2),
        [f"lstm.{name}" for name in _LSTM] + ["att.weight"],
    ),
    "GRU": (nn.GRU(4, 3), ["weight_ih_l0", "weight_hh_l0"]),
    "MultiheadAttention": (nn.MultiheadAttention(4, 2), ["in_proj_weight", "out_proj.weight"]),
    "HeteroLinear": (HeteroLinear(4, 3, 2), ["weight"]),
    "Bilinear": (nn.Bilinear(4, 3, 2), ["weight"]),
    "Conv1d": (nn.Conv1d(4, 3, 2), ["weight"]),
    "one output": (nn.Linear(4, 1), ["weight"]),
    "a custom conv": (_Holder(), ["matrix", "stack"]),
    "a custom module": (_Raw(), ["lin.weight"]),
    "norms and embeddings": (
        nn.ModuleList([nn.LayerNorm((3, 4)), nn.BatchNorm1d(4), nn.Embedding(5, 4), nn.PReLU()]),
        [],
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_prunable_are_the_matrices_of_linear_maps(name):
    model, expected = MODELS[name]
    found = prunable_weights(model)
    assert list(found) == [key for key, _ in model.named_parameters() if key in expected]
    assert len(found) == len(expected)
    assert all(found[key] is model.get_parameter(key) for key in found)


def _model():
    return nn.ModuleDict({"gat": GATConv(4, 4), "table": nn.Embedding(5, 4), "pyg": Linear(4, 4)})


def test_others_are_prunable_on_request_and_exclusion_wins():
    model = _model()
    assert set(prunable_weights(model)) == {"gat.lin.weight", "pyg.weight"}
    more = prunable_weights(model, include=["*.att_*", "table.*"])
    assert set(more) - set(prunable_weights(model)) == {
        "gat.att_src",
        "gat.att_dst",
        "table.weight",
    }
    fewer = prunable_weights(model, include=["*.att_*"], exclude=["gat.*"])
    assert set(fewer) == {"pyg.weight"}
    assert prunable_weights(model, exclude=["*"]) == {}


@pytest.mark.parametrize("argument", ["include", "exclude"])
def test_a_pattern_that_matches_nothing_is_refused_with_names_near_it(argument):
    with pytest.raises(InputError, match=rf"{argument} pattern 'gat.att_scr' .*'gat.att_src'"):
        prunable_weights(_model(), **{argument: ["gat.*", "gat.att_scr"]})


def test_a_pattern_in_place_of_a_list_is_refused():
    with pytest.raises(InputError, match=r"include must be a list of patterns \(got '\*'\)"):
        prunable_weights(_model(), include="*")


def test_frozen_parameters_stay_as_given():
    model = _model()
    model["pyg"].requires_grad_(False)
    assert set(prunable_weights(model, include=["*.weight"])) == {"gat.lin.weight", "table.weight"}
    with pytest.raises(InputError, match=r"include pattern 'pyg.\*' .*'pyg.weight'.*frozen"):
        prunable_weights(model, include=["pyg.*"])
    assert set(prunable_weights(model, exclude=["pyg.*"])) == {"gat.lin.weight"}


def _tied():
    """A matrix under two layers, a layer under two names, a table that also decodes."""
    model = nn.ModuleDict({"first": nn.Linear(4, 4), "second": nn.Linear(4, 4)})
    model["second"].weight = model["first"].weight
    model["again"] = model["second"]
    model["decode"] = nn.Linear(4, 5, bias=False)
    model["table"] = nn.Embedding(5, 4)
    model["table"].weight = model["decode"].weight
    return model


def test_a_shared_parameter_has_one_mask_under_its_first_name():
    model = _tied()
    assert list(prunable_weights(model)) == ["first.weight"]
    assert tied_names(model) == {
        "second.weight": "first.weight",
        "again.weight": "first.weight",
        "again.bias": "second.bias",
        "table.weight": "decode.weight",
    }
    assert set(tied_names(model)) | {name for name, _ in model.named_parameters()} == set(
        model.state_dict()
    )


def test_a_linear_map_that_is_also_an_embedding_is_prunable_on_request_only():
    model = _tied()
    for pattern in ("decode.*", "table.weight"):
        assert list(prunable_weights(model, [pattern])) == ["first.weight", "decode.weight"]


@pytest.mark.parametrize("alias", ["first.weight", "second.weight", "again.weight"])
def test_a_shared_parameter_can_be_excluded_under_any_of_its_names(alias):
    assert list(prunable_weights(_tied(), exclude=[alias])) == []


def test_uninitialised_parameters_are_refused():
    with pytest.raises(ModelError, match=r"'convs.0.lin.weight' is not initialised"):
        prunable_weights(GCN(-1, 4, 2))
