"""Compiled equals masked: the cases in which something could go wrong."""

from __future__ import annotations

import operator

import pytest
import torch
import torch.nn.functional as F
from sample_models import CLASSES, FEATURES, MODELS, NODES, make_graph, make_model
from test_compile_equality import all_equal, outputs
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import (
    GCN,
    MLP,
    BatchNorm,
    DeepGCNLayer,
    GATConv,
    GCNConv,
    GENConv,
    GINConv,
    GraphConv,
    SAGEConv,
    Sequential,
)
from torch_geometric.nn.aggr import SoftmaxAggregation

from fastglt.compile.candidates import Group, Place, ways
from fastglt.compile.compiled import compile_applied
from fastglt.compile.edges import Graph, by_target
from fastglt.compile.lower import Unsupported, lower
from fastglt.compile.native.build import why_not
from fastglt.compile.plain import SoftmaxMeans
from fastglt.compile.program import Aggregate, Linear, SoftmaxMean
from fastglt.models.deepergcn import DeeperGCN
from fastglt.models.embedding import WithEmbedding
from fastglt.training.tasks import NodeClassification

TASK = NodeClassification()


def routed(*modules: object, given: str = "x, edge_index") -> Sequential:
    return Sequential(given, list(modules)).double().eval()


def random_statistics(model: nn.Module) -> nn.Module:
    """The model in double precision, with what its norms have seen at random."""
    for part in model.double().eval().modules():
        if isinstance(part, nn.BatchNorm1d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            part.weight.data.normal_()
            part.bias.data.normal_()
    return model


def matrices(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.dim() == 2]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("norm", [None, "batch_norm"])
def test_all_weights_of_one_matrix_pruned(kind, norm):
    for place in range(len(matrices(make_model(kind, 0, 0.5, norm=norm)))):
        model = make_model(kind, 0, 0.5, norm=norm)
        matrices(model)[place].data.zero_()
        all_equal(outputs(model, make_graph(place)))


@pytest.mark.parametrize("kind", MODELS)
def test_all_but_one_weight_of_one_matrix_pruned(kind):
    for place in range(len(matrices(make_model(kind, 1, 0.5, norm="batch_norm")))):
        model = make_model(kind, 1, 0.5, norm="batch_norm")
        weight = matrices(model)[place]
        value = weight.data[-1, 0] + 1
        weight.data.zero_()
        weight.data[-1, 0] = value
        all_equal(outputs(model, make_graph(place)))


@pytest.mark.parametrize("kind", [*MODELS])
def test_features_that_nobody_reads(kind):
    model, dead = make_model(kind, 2, 1.0), [0, 5, FEATURES - 1]
    for weight in matrices(model):
        if weight.size(1) == FEATURES:
            weight.data[:, dead] = 0
    compiled = compile_applied(model, make_graph(2), TASK)
    assert not set(dead) & set(compiled.columns.tolist())


GRAPHS = {
    "empty": torch.empty(2, 0, dtype=torch.int64),
    "loops": torch.arange(NODES).repeat(2, 1),
    "a loop twice": torch.tensor([[3, 3, 4], [3, 3, 3]]),
    "duplicates": torch.tensor([[1, 1, 1, 2], [0, 0, 0, 0]]),
    "one node hears all": torch.stack([torch.arange(NODES), torch.zeros(NODES).long()]),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("edges", GRAPHS)
def test_edges(kind, edges):
    data = make_graph(3)
    data.edge_index = GRAPHS[edges]
    all_equal(outputs(make_model(kind, 3, 0.5, norm="batch_norm"), data))


@pytest.mark.parametrize("kind", MODELS)
def test_constants_pass_batch_norms_and_activations(kind):
    """Units without inputs between two norms: what reads them sees constants other than 0."""
    model = make_model(kind, 4, 0.6, norm="batch_norm", num_layers=3, act="sigmoid")
    for weight in matrices(model):
        weight.data[::2] = 0
    all_equal(outputs(model, make_graph(4)))


@pytest.mark.parametrize("options", [
    {}, {"learn_t": True}, {"t": 7.0}, {"aggr": "add"}, {"aggr": "mean"}, {"aggr": "softmax_sg"},
    {"aggr": SoftmaxAggregation(t=0.5, learn=True, channels=FEATURES)}, {"bias": True},
    {"num_layers": 1}, {"num_layers": 3, "norm": "layer"}, {"eps": 0.5}, {"expansion": 3},
])  # fmt: skip
@pytest.mark.parametrize("out_channels", [FEATURES, CLASSES])
def test_options_of_gen(options, out_channels):
    if isinstance(options.get("aggr"), nn.Module) and out_channels != FEATURES:
        pytest.skip("its channels are those of the output")
    torch.manual_seed(0)
    model = random_statistics(GENConv(FEATURES, out_channels, **options))
    all_equal(outputs(model, make_graph(5)))


@pytest.mark.parametrize("temperature", [1e3, -1e3, 0.0])
def test_softmax_means_whose_exponents_would_not_fit(temperature):
    model = make_model("deepergcn", 5, 0.5, num_layers=3)
    with torch.no_grad():
        for layer in model.layers:
            layer.conv.aggr_module.t.fill_(temperature)
    all_equal(outputs(model, make_graph(6)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0.7, -300.0])
@pytest.mark.parametrize("channels", [0, 1, 21])
def test_all_ways_of_softmax_means_agree(dtype, temperature, channels):
    data = by_target(make_graph(7))
    graph = Graph(data.edge_index, None, NODES)
    x = torch.randn(NODES, channels, dtype=torch.float64).to(dtype)
    t = torch.full((max(channels, 1),), temperature, dtype=torch.float64)
    op = SoftmaxMean(0, t, learned=True)
    expected = SoftmaxMeans(op)(x.double(), data.edge_index).detach()
    aggregation = SoftmaxAggregation(t=temperature)
    there = aggregation(x.double()[data.edge_index[0]], data.edge_index[1], dim_size=NODES)
    torch.testing.assert_close(expected, there, rtol=1e-12, atol=1e-12)
    rounding = {torch.float64: 1e-12, torch.float32: 1e-4, torch.bfloat16: 1e-2}[dtype]
    tried = ways(Group(0, op), Place(graph, why_not() is None), [x], overwrites=False)
    for way in tried:
        found = way(x)
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), expected, rtol=rounding, atol=rounding)
        assert way.cost([x], found).macs >= data.num_edges * channels / 2


def test_only_what_is_read_is_aggregated():
    model = make_model("deepergcn", 6, 1.0, num_layers=2)
    for layer in model.layers:
        layer.conv.mlp[0].weight.data[:, 3:] = 0
    compiled = compile_applied(model, make_graph(7), TASK)
    program = compiled._program
    sizes = [
        width
        for op, width in zip(program.ops, program.widths()[1:], strict=True)
        if isinstance(op, SoftmaxMean)
    ]
    assert sizes == [3, 3]


@pytest.mark.parametrize("block", ["res+", "res", "dense", "plain"])
@pytest.mark.parametrize("conv", [GCNConv, SAGEConv, GENConv])
@pytest.mark.parametrize("norm", [None, nn.BatchNorm1d, nn.LayerNorm, BatchNorm])
@pytest.mark.parametrize("act", [None, torch.tanh, nn.ELU(inplace=True)])
def test_blocks(block, conv, norm, act):
    torch.manual_seed(0)
    parts = (conv(8, 8), None if norm is None else norm(8), act)
    layer = DeepGCNLayer(*parts, block=block, dropout=0.5)
    last = nn.Linear(16 if block == "dense" else 8, CLASSES)
    model = random_statistics(
        routed((nn.Linear(FEATURES, 8), "x -> x"), (layer, "x, edge_index -> x"), last)
    )
    for weight in matrices(model):
        weight.data[::3] = 0
    all_equal(outputs(model, make_graph(8)))


def _act_cases() -> list:
    names = ["relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "mish", "tanh",
             "sigmoid", "softplus", "softsign", "hardswish", "hardsigmoid", "hardtanh",
             "logsigmoid", "softshrink", "hardshrink", "tanhshrink"]  # fmt: skip
    own = [torch.relu, torch.tanh, torch.sigmoid, torch.selu, torch.Tensor.relu]
    return [getattr(F, name) for name in names] + own


@pytest.mark.parametrize("act", _act_cases(), ids=lambda act: act.__name__)
def test_activations_as_functions(act):
    model = make_model("gcn", 7, 0.4, act=act)
    all_equal(outputs(model, make_graph(9)))


def test_mlps_of_gin_with_an_activation_as_a_function():
    mlp = MLP([FEATURES, 8, CLASSES], act=F.silu)
    model = random_statistics(routed((GINConv(mlp), "x, edge_index -> x")))
    all_equal(outputs(model, make_graph(9)))


def test_names_of_a_sequential_are_followed():
    model = routed(
        (nn.Dropout(), "x -> x"),
        (GCNConv(FEATURES, 8), "x, edge_index -> a"),
        nn.ReLU(inplace=True),
        (SAGEConv(8, 8), "a, edge_index -> b"),
        (torch.add, "a, b -> c"),
        (torch.maximum, "c, a -> c"),
        (GATConv(8, 8, heads=2, concat=False), "c, edge_index -> d"),
        (operator.add, "d, b -> c"),
        (routed((GCNConv(8, 8), "x, edge_index -> x"), F.elu), "c, edge_index -> c"),
        (GCN(8, 8, 2), "c, edge_index -> c"),
        (nn.Linear(8, CLASSES), "c -> c"),
    )
    all_equal(outputs(model, make_graph(10)))


def test_what_comes_after_the_output_is_not_computed():
    model = routed(
        (nn.Linear(FEATURES, CLASSES), "x -> a"),
        (GCNConv(CLASSES, 50), "a, edge_index -> b"),
        (nn.Dropout(), "a -> a"),
    )
    data = make_graph(11)
    assert lower(model, data).widths() == [FEATURES, CLASSES]
    all_equal(outputs(model, data))


def test_only_convs_that_are_given_edge_weights_read_them():
    model = routed(
        (GCNConv(FEATURES, 8), "x, edge_index, edge_weight -> x"),
        (GCNConv(8, 8, improved=True), "x, edge_index -> x"),
        (SAGEConv(8, 8), "x, edge_index -> x"),
        (GENConv(8, 8, norm="layer"), "x, edge_index -> x"),
        (GCNConv(8, CLASSES, improved=True), "x, edge_index, edge_weight -> x"),
        given="x, edge_index, edge_weight",
    )
    data = make_graph(12, weighted=True)
    all_equal(outputs(model, data))
    rules = [op.rule.weighted for op in lower(model, data).ops if isinstance(op, Aggregate)]
    assert rules == [True, False, False, True]


def test_features_are_kept_dense_for_what_is_no_product():
    model = routed((nn.ReLU(), "x -> x"), (nn.Linear(FEATURES, CLASSES), "x -> x"))
    all_equal(outputs(model, make_graph(13)))


def _kept(model: nn.Module, data: Data | None = None) -> str:
    with pytest.raises(Unsupported) as reason:
        lower(model.double().eval(), make_graph(0) if data is None else data)
    return str(reason.value)


def _twice(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


def test_reasons_for_keeping_the_shape():
    assert _kept(GCN(FEATURES, 8, 2, act=_twice)) == "the function _twice is not taken apart"
    assert "message norm" in _kept(GENConv(FEATURES, 8, msg_norm=True))
    assert _kept(GENConv(FEATURES, 8, aggr="max")) == "GENConv with MaxAggregation"
    assert "several aggregations" in _kept(GENConv(FEATURES, 8, aggr=["add", "mean"]))
    assert "InstanceNorm1d" in _kept(GENConv(FEATURES, 8, norm="instance"))
    assert "edge features" in _kept(DeeperGCN(FEATURES, 8, 2, 3, edge_dim=4))
    assert "learned a row for each node" in _kept(WithEmbedding(GCN(8, 8, 2), NODES, 8))
    assert "GraphConv is not taken apart" in _kept(
        Sequential("x, edge_index", [(GraphConv(FEATURES, 8), "x, edge_index -> x")])
    )


@pytest.mark.parametrize(("modules", "given", "reason"), [
    ([(nn.Linear(FEATURES, 4), "x -> x"), (lambda x: x + 1, "x -> x")], "x, edge_index",
     "function <lambda>"),
    ([(lambda x: (x, x), "x -> a, b")], "x, edge_index", "returns several things"),
    ([(nn.Linear(FEATURES, 4), "x -> x")], "x, edge_index, batch", "Sequential of x, edge_index"),
    ([(GATConv(FEATURES, 4), "x, edge_index, edge_weight -> x")], "x, edge_index, edge_weight",
     "calls GATConv with edge weights"),
    ([(GCNConv(FEATURES, 4), "x, edge_index, x -> x")], "x, edge_index", "way of its own"),
])  # fmt: skip
def test_reasons_for_keeping_the_shape_of_a_sequential(modules, given, reason):
    data = make_graph(0, weighted="edge_weight" in given)
    assert reason in _kept(Sequential(given, modules), data)


def test_a_sequential_with_a_forward_of_its_own_keeps_the_shape():
    model = routed((nn.Linear(FEATURES, 4), "x -> x"))
    model.forward = lambda x, edge_index: x
    assert "a forward of its own" in _kept(model)


def test_a_fixed_temperature_is_no_parameter():
    for learn in (True, False):
        model = routed(
            (GENConv(FEATURES, FEATURES, learn_t=learn, num_layers=1), "x, edge_index -> x")
        )
        small = compile_applied(model, make_graph(0), TASK).model
        assert any("temperature" in name for name, _ in small.named_parameters()) == learn


def test_a_linear_map_of_nothing():
    model = make_model("deepergcn", 8, 0.0, num_layers=2)
    compiled = compile_applied(model, make_graph(14), TASK)
    linear = [op for op in compiled._program.ops if isinstance(op, Linear)]
    assert linear[-1].weight.size(1) == 0
