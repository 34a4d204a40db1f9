"""What is kept of a graph between forward passes changes no output and no gradient."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.explain.algorithm.utils import clear_masks, set_masks
from torch_geometric.nn import GATConv, GCNConv, GINConv, GraphConv, SAGEConv

from fastglt.training import product
from fastglt.training.field import Field
from fastglt.training.known_graph import KnownGraph
from fastglt.training.served import is_served

N, F = 12, 5
CONVS = {
    "gcn": GCNConv,
    "gcn-improved": lambda i, o: GCNConv(i, o, improved=True, bias=False),
    "gcn-no-loops": lambda i, o: GCNConv(i, o, add_self_loops=False),
    "gcn-plain": lambda i, o: GCNConv(i, o, normalize=False),
    "gin": lambda i, o: GINConv(nn.Linear(i, o), train_eps=True),
    "gin-fixed": lambda i, o: GINConv(nn.Linear(i, o), eps=0.3),
    "gin-mean": lambda i, o: GINConv(nn.Linear(i, o), eps=-1.0, aggr="mean"),
    "gat": lambda i, o: GATConv(i, o, heads=3, concat=False),
    "gat-no-loops": lambda i, o: GATConv(i, o, add_self_loops=False, bias=False),
    "gat-residual": lambda i, o: GATConv(i, o, heads=1, residual=True, negative_slope=0.5),
    "sage-mean": SAGEConv,
    "sage-sum": lambda i, o: SAGEConv(i, o, aggr="sum", project=True),
    "sage-max": lambda i, o: SAGEConv(i, o, aggr="max"),
    "graph": GraphConv,
    "graph-mean": lambda i, o: GraphConv(i, o, aggr="mean"),
}
WEIGHTED = {"gcn", "gcn-improved", "gcn-no-loops", "gcn-plain", "graph", "graph-mean"}


class TwoLayers(nn.Module):
    """Two convs with something in between; edges and their weights go to both."""

    def __init__(self, make, hidden):
        super().__init__()
        self.convs = nn.ModuleList([make(F, hidden), make(hidden, 3)])

    def forward(self, x, edges, weight=None):
        named = {} if weight is None else {"edge_weight": weight}
        return self.convs[1](self.convs[0](x, edges, **named).tanh(), edges, **named)


def graph(loops, weighted):
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(N, (2, 40), generator=generator)
    edge_index = edge_index[:, edge_index[0] != edge_index[1]]
    if loops:
        edge_index = torch.cat([edge_index, torch.tensor([[1, 4, 4], [1, 4, 4]])[:, :loops]], 1)
    data = Data(x=torch.randn(N, F, generator=generator).double(), edge_index=edge_index)
    if weighted:
        data.edge_weight = torch.rand(edge_index.size(1), generator=generator).double() + 0.5
    return data


def gradients(model, out):
    return torch.autograd.grad(out.square().sum(), list(model.parameters()))


@pytest.mark.parametrize(
    ("name", "loops", "weighted", "hidden"),
    [
        case
        for case in itertools.product(CONVS, [0, 2], [False, True], [2, 9])
        if not case[2] or case[0] in WEIGHTED
    ],
)
def test_outputs_and_gradients_are_those_of_the_edges(name, loops, weighted, hidden):
    torch.manual_seed(1)
    model = TwoLayers(CONVS[name], hidden).double()
    data = graph(loops, weighted)
    known = KnownGraph(data)
    plain = model(data.x, data.edge_index, data.get("edge_weight"))
    for _ in range(2):  # the second time with what the first has kept
        with known.known_to(model):
            out = model(data.x, known.matrix if name != "sage-max" else data.edge_index)
        torch.testing.assert_close(out, plain, rtol=1e-10, atol=1e-10)
        for actual, expected in zip(gradients(model, out), gradients(model, plain), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
        plain = model(data.x, data.edge_index, data.get("edge_weight"))


def counted(monkeypatch):
    calls = []
    multiply = product.spmm

    def count(matrix, x):
        calls.append(tuple(x.shape))
        return multiply(matrix, x)

    monkeypatch.setattr(product, "spmm", count)
    return calls


@pytest.mark.parametrize("name", sorted(set(CONVS) - {"sage-max"}))
@pytest.mark.parametrize("loops", [0, 2])
def test_outputs_of_some_nodes_are_those_of_all(name, loops):
    torch.manual_seed(1)
    model = TwoLayers(CONVS[name], 8).double()
    data = graph(loops, name in WEIGHTED)
    wanted = torch.arange(N) % 5 == 2
    field = Field.of(data.edge_index, wanted, num_convs=2)
    known = KnownGraph(data, is_token=True, field=field)
    plain = model(data.x, data.edge_index, data.get("edge_weight"))[wanted]
    for _ in range(2):
        with known.known_to(model):
            out = model(known.x, known.matrix)
        assert known.num_calls == 2
        torch.testing.assert_close(out, plain, rtol=1e-10, atol=1e-10)
        for actual, expected in zip(gradients(model, out), gradients(model, plain), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
        plain = model(data.x, data.edge_index, data.get("edge_weight"))[wanted]


@pytest.mark.parametrize("name", ["gcn", "gin-fixed", "gin-mean", "sage-mean", "graph", "gat"])
@pytest.mark.parametrize("some", [False, True])
def test_sparse_features_are_as_good_as_dense_ones(name, some):
    torch.manual_seed(1)
    model = TwoLayers(CONVS[name], 8).double()
    data = graph(1, False)
    data.x = data.x * (torch.rand(N, F) < 0.3)
    plain = model(data.x, data.edge_index)
    wanted = torch.arange(N) % 5 == 2 if some else torch.ones(N, dtype=torch.bool)
    field = Field.of(data.edge_index, wanted, num_convs=2) if some else None
    sparse = copy.copy(data)
    sparse.x = data.x.to_sparse_csr()
    known = KnownGraph(sparse, is_token=True, field=field)
    with known.known_to(model):
        out = model(known.x, known.matrix)
    torch.testing.assert_close(out, plain[wanted], rtol=1e-10, atol=1e-10)
    expected = gradients(model, plain[wanted])
    for one, other in zip(gradients(model, out), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_a_token_that_does_not_hold_the_edges_is_never_computed_with():
    data = graph(0, True)
    for conv in (GCNConv(F, 3).double(), GraphConv(F, 3).double()):
        known = KnownGraph(data, is_token=True)
        assert known.matrix.values().numel() == 0
        with known.known_to(conv), pytest.raises(RuntimeError, match="cannot be served"):
            conv(data.x, known.matrix, data.edge_weight)


def test_what_is_forgotten_is_made_anew():
    data, model = graph(0, False), TwoLayers(CONVS["gat"], 8).double()
    known = KnownGraph(data)
    with known.known_to(model):
        first = model(data.x, known.matrix)
        known.forget()
        assert torch.equal(model(data.x, known.matrix), first)


def test_an_eps_that_changes_is_read_again():
    data, conv = graph(0, False), GINConv(nn.Linear(F, 2)).double()
    known = KnownGraph(data)
    for eps in (0.0, 0.7):
        conv.eps.fill_(eps)
        with known.known_to(conv):
            out = conv(data.x, known.matrix)
        torch.testing.assert_close(out, conv(data.x, data.edge_index))


def test_attention_drops_edges_with_its_probability():
    data, conv = graph(0, False), GATConv(F, 2, heads=2, dropout=0.5, bias=False).double()
    conv.lin.weight.data.zero_()
    known = KnownGraph(data)
    data.x[:] = 1
    conv.lin.weight.data[:, 0] = 1  # every node says 1
    torch.manual_seed(0)
    with known.known_to(conv):
        outputs = torch.stack([conv(data.x, known.matrix) for _ in range(2000)])
    assert outputs.std() > 0.1
    torch.testing.assert_close(outputs.mean(0), torch.ones(N, 4).double(), rtol=0, atol=0.12)
    assert torch.allclose(conv.eval()(data.x, data.edge_index), torch.ones(N, 4).double())


@pytest.mark.parametrize("name", ["gcn", "gin", "sage-mean", "graph"])
def test_raw_features_are_aggregated_once(name, monkeypatch):
    calls = counted(monkeypatch)
    data, model = graph(0, False), TwoLayers(CONVS[name], 8).double()
    known = KnownGraph(data)
    with known.known_to(model):
        for _ in range(3):
            model(data.x, known.matrix)
    assert calls.count((N, F)) == 1
    assert len(calls) == 1 + 3


def test_other_features_are_never_mistaken_for_the_kept_ones():
    data, model = graph(0, False), TwoLayers(CONVS["gcn"], 8).double()
    known = KnownGraph(data)
    other = torch.randn_like(data.x)
    with known.known_to(model):
        model(data.x, known.matrix)
        out = model(other, known.matrix)
    torch.testing.assert_close(out, model(other, data.edge_index))


def test_other_edges_are_left_to_the_conv():
    data, model = graph(0, False), TwoLayers(CONVS["gcn"], 8).double()
    fewer = data.edge_index[:, :7]
    with KnownGraph(data).known_to(model):
        out = model(data.x, fewer)
    torch.testing.assert_close(out, model(data.x, fewer))


def test_features_that_want_a_gradient_get_it():
    data, model = graph(0, False), TwoLayers(CONVS["gcn"], 8).double()
    data.x.requires_grad_()
    known = KnownGraph(data)
    with known.known_to(model):
        out = model(data.x, known.matrix)
    (actual,) = torch.autograd.grad(out.sum(), data.x)
    (expected,) = torch.autograd.grad(model(data.x, data.edge_index).sum(), data.x)
    torch.testing.assert_close(actual, expected)


def test_what_a_model_does_to_an_aggregate_in_place_is_not_kept():
    data, conv = graph(0, False), GCNConv(F, F, bias=False)
    conv.lin = nn.Identity()
    known = KnownGraph(data)
    with known.known_to(conv):
        first = conv(data.x, known.matrix).clone()
        conv(data.x, known.matrix).zero_()
        assert torch.equal(conv(data.x, known.matrix), first)


def test_what_inference_mode_computes_is_not_kept_for_training():
    data, conv = graph(0, False), GCNConv(F, 3).double()
    known = KnownGraph(data)
    with known.known_to(conv):
        with torch.inference_mode():
            conv(data.x, known.matrix)
        conv(data.x, known.matrix).sum().backward()
    assert conv.lin.weight.grad is not None


def test_a_forward_on_the_instance_stays():
    def own(x, edge_index):
        return x

    data, conv = graph(0, False), GCNConv(F, 3).double()
    conv.forward = own
    with KnownGraph(data).known_to(conv):
        assert conv.forward is own
    assert conv.forward is own


def test_the_model_is_left_as_it_was_found():
    data, model = graph(0, False), nn.ModuleList([GCNConv(F, 2), SAGEConv(F, 2), GATConv(F, 2)])
    before = [set(vars(module)) for module in model.modules()]
    with pytest.raises(ZeroDivisionError), KnownGraph(data).known_to(model):
        raise ZeroDivisionError
    assert [set(vars(module)) for module in model.modules()] == before


def test_who_listens_to_a_linear_layer_is_told():
    data, conv = graph(0, False), GCNConv(F, 3).double()
    heard = []
    conv.lin.register_forward_hook(lambda *_: heard.append("after"))
    conv.lin.register_forward_pre_hook(lambda *_: heard.append("before"))
    data.x = data.x.to_sparse_csr()
    known = KnownGraph(data)
    with known.known_to(conv):
        conv(data.x, known.matrix)
    assert heard == ["before", "after"]


def test_attention_with_another_aggregation_is_left_to_pyg():
    conv = GATConv(F, 3, aggr="mean")
    assert not is_served(conv)
    assert is_served(GATConv(F, 3))


def test_a_conv_that_was_explained_is_served_and_left_as_it_was():
    data, conv = graph(0, False), SAGEConv(F, 3).double()
    set_masks(conv, torch.ones(data.num_edges), data.edge_index, apply_sigmoid=False)
    clear_masks(conv)
    before = dict(vars(conv))
    expected = conv(data.x, data.edge_index)
    known = KnownGraph(data)
    with known.known_to(conv):
        torch.testing.assert_close(conv(data.x, known.matrix), expected)
    assert known.num_calls == 1
    assert vars(conv).keys() == before.keys()
    assert all(vars(conv)[key] is value for key, value in before.items())


def test_aggregates_that_are_hardly_sparse_are_dense():
    data = graph(0, False)
    for share, layout in ((0.9, torch.strided), (0.02, torch.sparse_csr)):
        x = data.x * (torch.rand(N, F, generator=torch.Generator().manual_seed(0)) < share)
        sparse = Data(x=x.to_sparse_csr(), edge_index=data.edge_index, num_nodes=N)
        seen = []
        linear = nn.Linear(F, 2)
        linear.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0].layout))
        conv, known = GINConv(linear).double(), KnownGraph(sparse)
        with known.known_to(conv):
            out = conv(sparse.x, known.matrix)
        torch.testing.assert_close(out, conv(x, data.edge_index))
        assert seen[0] == layout
