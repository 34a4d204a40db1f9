from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.nn import (
    APPNP,
    GCN,
    GIN,
    ChebConv,
    GATConv,
    GCNConv,
    GINConv,
    GraphConv,
    GraphSAGE,
    SAGEConv,
    SGConv,
    TAGConv,
)

from fastglt.errors import ModelError
from fastglt.gating import loops_last, message_gate
from fastglt.gating.adjacency import Adjacency
from fastglt.gating.csr import csr_messages, supports_csr_messages

NODES, FEATURES = 12, 5

WEIGHTED = {
    "gcn": lambda: GCNConv(FEATURES, 4),
    "gcn widening": lambda: GCNConv(FEATURES, 9),
    "gcn improved": lambda: GCNConv(FEATURES, 4, improved=True),
    "gcn without bias": lambda: GCNConv(FEATURES, 4, bias=False),
    "gcn without loops": lambda: GCNConv(FEATURES, 4, add_self_loops=False),
    "gcn raw": lambda: GCNConv(FEATURES, 4, normalize=False),
    "graph sum": lambda: GraphConv(FEATURES, 4),
    "graph mean": lambda: GraphConv(FEATURES, 4, aggr="mean"),
    "cheb": lambda: ChebConv(FEATURES, 4, K=3),
    "sg": lambda: SGConv(FEATURES, 4, K=2),
    "tag": lambda: TAGConv(FEATURES, 4),
    "appnp": lambda: APPNP(K=3, alpha=0.1),
}
UNWEIGHTED = {
    "sage mean": lambda: SAGEConv(FEATURES, 4),
    "sage sum": lambda: SAGEConv(FEATURES, 4, aggr="sum"),
    "sage project": lambda: SAGEConv(FEATURES, 4, project=True, normalize=True),
    "gin": lambda: GINConv(nn.Linear(FEATURES, 4), train_eps=True),
}


def _edges(loops: bool) -> torch.Tensor:
    """Directed edges with duplicates, two nodes without any, and a few self-loops if asked for."""
    generator = torch.Generator().manual_seed(1)
    edge_index = torch.randint(NODES - 2, (2, 40), generator=generator)
    edge_index = edge_index[:, edge_index[0] != edge_index[1]]
    duplicates = edge_index[:, :5]
    some = torch.tensor([[1, 4], [1, 4]]) if loops else edge_index[:, :0]
    return torch.cat([some, edge_index, duplicates], dim=1)


def _x() -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(NODES, FEATURES, generator=generator, dtype=torch.float64)


def _gate(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return (0.2 + torch.rand(count, generator=generator, dtype=torch.float64)).requires_grad_()


def _built(build) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().double().eval()


def _output_and_gradients(model, gate, forward):
    x = _x().requires_grad_()
    out = forward(x)
    wanted = [gate, x, *model.parameters()]
    return [out, *torch.autograd.grad(out.sin().sum(), wanted)]


def _assert_equal(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("name", WEIGHTED)
def test_edge_weights_get_the_outputs_and_gradients_that_pyg_gives(name, loops):
    model, edge_index = _built(WEIGHTED[name]), _edges(loops)
    gate = _gate(edge_index.size(1))
    expected = _output_and_gradients(model, gate, lambda x: model(x, edge_index, gate))
    with csr_messages(model, edge_index):
        actual = _output_and_gradients(model, gate, lambda x: model(x, edge_index, gate))
    _assert_equal(actual, expected)


@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("name", [*UNWEIGHTED, "gcn", "graph mean"])
def test_a_gate_of_messages_gets_the_outputs_and_gradients_of_a_message_gate(name, loops):
    model, edge_index = _built((UNWEIGHTED | WEIGHTED)[name]), _edges(loops)
    edge_index = edge_index[:, loops_last(edge_index)]
    gate = _gate(edge_index.size(1))
    with message_gate(model, edge_index, gate):
        expected = _output_and_gradients(model, gate, lambda x: model(x, edge_index))
    with csr_messages(model, edge_index, gate):
        actual = _output_and_gradients(model, gate, lambda x: model(x, edge_index))
    _assert_equal(actual, expected)


@pytest.mark.parametrize("name", ["gcn", "graph mean", "cheb", "sage mean", "gin"])
def test_gate_gradients_agree_with_finite_differences(name):
    model, edge_index = _built((UNWEIGHTED | WEIGHTED)[name]), _edges(loops=True)
    edge_index = edge_index[:, loops_last(edge_index)]

    def forward(gate):
        with csr_messages(model, edge_index, None if name in WEIGHTED else gate):
            return model(_x(), edge_index, *([gate] if name in WEIGHTED else []))

    assert torch.autograd.gradcheck(forward, _gate(edge_index.size(1)))


@pytest.mark.parametrize(
    "build",
    [
        lambda: GCN(FEATURES, 8, 3, 2),
        lambda: GraphSAGE(FEATURES, 8, 2, 2),
        lambda: GIN(FEATURES, 8, 2, 2),
    ],
)
def test_whole_models_without_a_gate_compute_the_same(build):
    model, edge_index = _built(build), _edges(loops=False)
    expected = model(_x(), edge_index)
    with csr_messages(model, edge_index):
        actual = model(_x(), edge_index)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


def test_gradients_may_be_taken_after_the_context():
    model, edge_index = _built(WEIGHTED["gcn"]), _edges(loops=False)
    gate = _gate(edge_index.size(1))
    (expected,) = torch.autograd.grad(model(_x(), edge_index, gate).sin().sum(), gate)
    with csr_messages(model, edge_index):
        value = model(_x(), edge_index, gate).sin().sum()
    (actual,) = torch.autograd.grad(value, gate)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


def test_a_float32_gate_of_a_float64_model_is_promoted():
    model, edge_index = _built(WEIGHTED["graph sum"]), _edges(loops=False)
    gate = torch.ones(edge_index.size(1), requires_grad=True)
    with csr_messages(model, edge_index):
        out = model(_x(), edge_index, gate)
    assert out.dtype == torch.float64
    assert torch.autograd.grad(out.sum(), gate)[0].dtype == torch.float32


def test_the_model_is_left_as_it_was_found_even_after_an_error():
    model, edge_index = _built(lambda: GCN(FEATURES, 8, 2, 2)), _edges(loops=False)
    before = [set(vars(module)) for module in model.modules()]

    def fail():
        with csr_messages(model, edge_index):
            assert {"propagate", "forward"} <= set(vars(model.convs[0]))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [set(vars(module)) for module in model.modules()] == before


@pytest.mark.parametrize("build", [lambda: GraphConv(FEATURES, 4), lambda: GCNConv(FEATURES, 5)])
def test_no_message_is_materialised(build):
    """Autograd keeps nothing of the size of a message an edge."""
    model, channels = _built(build), FEATURES
    edge_index = torch.randint(NODES, (2, 500), generator=torch.Generator().manual_seed(0))
    largest = 0

    def note(tensor):
        nonlocal largest
        largest = max(largest, tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(_x().requires_grad_(), edge_index, _gate(500))
        assert largest >= 400 * channels
        largest = 0
        with csr_messages(model, edge_index):
            model(_x().requires_grad_(), edge_index, _gate(500))
    assert largest <= 500


class _Subclass(GCNConv):
    def message(self, x_j, edge_weight):
        return x_j.relu()


@pytest.mark.parametrize(
    "model",
    [
        GATConv(FEATURES, 4),
        SAGEConv(FEATURES, 4, aggr="max"),
        SAGEConv(FEATURES, 4, aggr=["mean", "max"]),
        GraphConv(FEATURES, 4, flow="target_to_source"),
        GCNConv(FEATURES, 4, cached=True),
        _Subclass(FEATURES, 4),
        nn.Sequential(GCNConv(FEATURES, 4), GATConv(4, 4)),
        nn.Linear(FEATURES, 4),
    ],
    ids=lambda model: type(model).__name__,
)
def test_other_models_are_refused(model):
    assert not supports_csr_messages(model)
    with pytest.raises(ModelError, match="use message_gate instead"), csr_messages(model, None):
        pass


def test_a_conv_with_a_message_hook_is_refused():
    conv = GCNConv(FEATURES, 4)
    assert supports_csr_messages(conv)
    handle = conv.register_message_forward_hook(lambda *_: None)
    assert not supports_csr_messages(conv)
    handle.remove()
    assert supports_csr_messages(conv)


def test_a_gate_that_does_not_fit_the_edges_of_a_conv_is_refused():
    conv, edge_index = _built(UNWEIGHTED["gin"]), _edges(loops=False)
    fewer = edge_index[:, :-3]
    with (
        csr_messages(conv, edge_index, _gate(edge_index.size(1))),
        pytest.raises(ModelError, match="the given edges, or these with one self-loop a node"),
    ):
        conv(_x(), fewer)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_edges", [20, 28, 29, 100])
def test_products_of_a_rectangular_adjacency_equal_dense_ones(num_edges, dtype):
    """Also with more edges than a simple graph can have."""
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.stack(
        [torch.randint(size, (num_edges,), generator=generator) for size in (7, 4)]
    )
    values = torch.rand(num_edges, generator=generator, dtype=dtype).requires_grad_()
    x = torch.randn(7, 3, generator=generator, dtype=dtype).requires_grad_()
    dense = torch.zeros(4, 7, dtype=dtype).index_put(
        (edge_index[1], edge_index[0]), values, accumulate=True
    )
    expected = dense @ x
    actual = Adjacency(edge_index, 7, 4).matmul(values, x)
    torch.testing.assert_close(actual, expected)
    weight = torch.randn(4, 3, generator=generator, dtype=dtype)
    for a, b in zip(
        torch.autograd.grad(actual, (values, x), weight),
        torch.autograd.grad(expected, (values, x), weight),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_the_transposed_matrix_is_built_only_if_the_gradient_of_the_input_is_wanted():
    edge_index = _edges(loops=False)
    adjacency = Adjacency(edge_index, NODES, NODES)
    values, x = _gate(edge_index.size(1)), _x().requires_grad_()
    out = adjacency.matmul(values, x)
    torch.autograd.grad(out.sum(), values)
    assert "by_source" not in vars(adjacency)
    torch.autograd.grad(adjacency.matmul(values, x).sum(), x)
    assert "by_source" in vars(adjacency)


def test_a_graph_without_edges_has_empty_sums():
    adjacency = Adjacency(torch.empty(2, 0, dtype=torch.long), 3, 3)
    values = torch.empty(0, requires_grad=True)
    out = adjacency.matmul(values, torch.ones(3, 2, requires_grad=True))
    assert out.tolist() == [[0.0, 0.0]] * 3
    assert torch.autograd.grad(out.sum(), values)[0].shape == (0,)
