"""Compiled equals masked: random models, masks and graphs."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_models import BASIC, MODELS, make_graph, make_model
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.compile.channels import live_channels, merged
from fastglt.compile.compiled import compile_applied
from fastglt.compile.edges import Graph, by_target
from fastglt.compile.kernels import Runner
from fastglt.compile.lower import lower
from fastglt.compile.plain import PlainModel
from fastglt.training.tasks import NodeClassification

TASK = NodeClassification()
CALL = TASK.call
ACTIVATIONS = [
    None, "relu", "elu", "tanh", "leaky_relu", "sigmoid", "swish", torch.relu, F.elu, F.gelu,
    torch.tanh, nn.ELU(inplace=True),
]  # fmt: skip


def outputs(model: nn.Module, data: Data) -> dict[str, Tensor]:
    """What the model gives, by every way of computing it."""
    data = by_target(data)
    with torch.no_grad():
        found = {"masked": CALL(model, data)}
        whole = lower(model, data)
        for name, program in {"whole": whole, "live": merged(live_channels(whole))}.items():
            x = data.x[:, program.columns]
            weight = data.get("edge_weight") if program.reads_edge_weight else None
            found[f"{name}, plain"] = PlainModel(program)(x, data.edge_index, weight)
            graph = Graph(data.edge_index, weight, int(data.num_nodes))
            found[f"{name}, kernels"] = Runner(program, graph, x)()
    return found


def all_equal(found: dict[str, Tensor]) -> None:
    for name, out in found.items():
        torch.testing.assert_close(out, found["masked"], rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("kind", MODELS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6),
    density=st.sampled_from([0.0, 0.01, 0.05, 0.2, 0.6, 1.0]),
    layers=st.integers(1, 3),
    norm=st.sampled_from([None, "batch_norm"]),
    act=st.sampled_from(ACTIVATIONS),
    act_first=st.booleans(),
    jk=st.sampled_from([None, "last", "cat", "max"]),
    num_edges=st.sampled_from([0, 1, 10, 80, 300]),
)
def test_every_way_gives_what_the_masked_model_gives(kind, seed, num_edges, layers, **options):
    model = make_model(kind, seed, num_layers=layers, **options)
    all_equal(outputs(model, make_graph(seed + 1, num_edges)))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_layer_with_one_weight_left(kind, layer):
    model = make_model(kind, 0, 0.5, num_layers=3, norm="batch_norm")
    place = re.compile(rf"(?:\.|module_){layer}\.")
    weights = [p for n, p in model.named_parameters() if p.dim() == 2 and place.search(n)]
    for weight in weights:
        weight.data.zero_()
        weight.data[0, 0] = 1.5
    all_equal(outputs(model, make_graph(1)))


@pytest.mark.parametrize("options", [{}, {"improved": True}, {"normalize": False},
                                     {"add_self_loops": False}, {"bias": False}])  # fmt: skip
@pytest.mark.parametrize("weighted", [False, True])
def test_options_of_gcn(options, weighted):
    data = make_graph(3, weighted=weighted)
    all_equal(outputs(make_model("gcn", 0, 0.3, **options), data))


@pytest.mark.parametrize(("kind", "options"), [
    ("sage", {"aggr": "add"}), ("sage", {"root_weight": False}), ("sage", {"bias": False}),
    ("gin", {"train_eps": True, "eps": 0.3}), ("gat", {"concat": False}), ("gat", {"bias": False}),
    ("gat", {"add_self_loops": False}), ("gat", {"negative_slope": 0.01}),
    ("gat", {"residual": True}), ("gat", {"residual": True, "concat": False}),
])  # fmt: skip
def test_options_of_other_convs(kind, options):
    all_equal(outputs(make_model(kind, 0, 0.3, **options), make_graph(4)))


@pytest.mark.parametrize("kind", MODELS)
def test_a_layer_norm_needs_all_channels(kind):
    options = {"norm": "layer_norm", "norm_kwargs": {"mode": "node"}}
    all_equal(outputs(make_model(kind, 0, 0.05, **options), make_graph(5)))


def test_attention_that_would_overflow():
    model = make_model("gat", 0, 1.0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "att_" in name:
                parameter.mul_(1e4)
    all_equal(outputs(model, make_graph(6)))


@pytest.mark.parametrize("kind", BASIC)
def test_dead_channels_are_left_out(kind):
    model = make_model(kind, 0, 1.0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and ".0." in name:
                parameter[4:] = 0  # units without inputs
                parameter[:, 3] = 0  # a feature that nobody reads
    compiled = compile_applied(model, make_graph(7), TASK)
    before, after = compiled.report.widths
    assert max(before[1:3]) == 16
    assert max(after[1:3]) <= 4
    assert 3 not in compiled.columns
    assert compiled.report.parameters[1] < compiled.report.parameters[0]
