from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch_geometric.data import Batch
from torch_geometric.nn import APPNP, GCN, GCNConv, SAGEConv

from fastglt.training.inputs import (
    MAX_DENSITY,
    with_adjacency,
    with_sparse_features,
    with_sparse_inputs,
)
from fastglt.training.known_graph import kept_view
from fastglt.training.loop import clone_state
from fastglt.training.task import ADJACENCY
from fastglt.training.tasks import NodeClassification
from helpers import build, graph, states_equal, tensors_of, with_loops

TASK = NodeClassification()


def _sparse_graph(**settings):
    data = graph(90, features="binary", num_features=60, **settings)
    data.x = data.x * (torch.arange(60) % 3 == 0)
    assert 0 < float((data.x != 0).float().mean()) < MAX_DENSITY
    return data


def _outputs_and_gradients(model, data):
    out = TASK.forward(model, data)
    parameters = list(model.parameters())
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(0))
    gradients = torch.autograd.grad((out * weight).sum(), parameters, materialize_grads=True)
    return [out, *gradients]


def _assert_close(first, second):
    for a, b in zip(first, second, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gcn", "weighted", "sage", "gin", "gat", "plain"])
@pytest.mark.parametrize("loops", [False, True])
def test_sparse_inputs_change_neither_outputs_nor_gradients(name, loops):
    data = _sparse_graph()
    if loops:
        data = with_loops(data, torch.arange(0, 90, 7))
    model = build(name, data).eval()
    sparse = with_sparse_inputs(model, data, TASK)
    _assert_close(_outputs_and_gradients(model, sparse), _outputs_and_gradients(model, data))
    keep = torch.arange(data.num_edges) % 3 != 0
    _assert_close(
        _outputs_and_gradients(model, kept_view(sparse, keep)),
        _outputs_and_gradients(model, kept_view(data, keep)),
    )


def test_gcn_computes_with_both():
    data = _sparse_graph()
    sparse = with_sparse_inputs(build("gcn", data), data, TASK)
    assert sparse.x.layout == torch.sparse_csr
    assert sparse[ADJACENCY].matrix.layout == torch.sparse_csr
    assert torch.equal(sparse.edge_index, data.edge_index)
    assert torch.equal(sparse.x.to_dense(), data.x)


class _Elementwise(nn.Module):
    """Centres its features, which CSR cannot."""

    def __init__(self):
        super().__init__()
        self.conv = SAGEConv(60, 3)

    def forward(self, x, edge_index):
        return self.conv(x - x.mean(dim=0), edge_index)


class _Counts(nn.Module):
    """Reads ``edge_index`` as a tensor of columns."""

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(60, 3)

    def forward(self, x, edge_index):
        return self.lin(x) + torch.bincount(edge_index[1], minlength=len(x))[:, None]


class _Liar(nn.Module):
    """Takes sparse features and gives another answer."""

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(60, 3)

    def forward(self, x, edge_index):
        return self.lin(x.to_dense()) * (2 if x.layout == torch.sparse_csr else 1)


class _DropsEdges(nn.Module):
    """Changes its edges in training mode only, in a way that has no CSR form."""

    def __init__(self):
        super().__init__()
        self.conv = GCNConv(60, 3)

    def forward(self, x, edge_index):
        if self.training:
            edge_index = edge_index[:, torch.rand(edge_index.size(1)) > 0.2]
        return self.conv(x, edge_index)


class _Raises(_DropsEdges):
    def forward(self, x, edge_index):
        if edge_index.layout != torch.strided:
            raise KeyError(edge_index.layout)
        return self.conv(x, edge_index)


class _OwnCall(NodeClassification):
    """Reads ``edge_index``, so no matrix would be used."""

    def call(self, model, data):
        return model(data.x, data.edge_index)


class _Passing(_OwnCall):
    passes_adjacency = True

    def call(self, model, data):
        return model(data.x, data[ADJACENCY].matrix if ADJACENCY in data else data.edge_index)


@pytest.mark.parametrize("task", [_OwnCall(), _Passing()])
def test_the_matrix_is_made_only_for_tasks_that_pass_it_on(task):
    data = _sparse_graph()
    sparse = with_sparse_inputs(build("gcn", data), data, task)
    assert sparse.x.layout == torch.sparse_csr
    assert (ADJACENCY in sparse) == task.passes_adjacency == isinstance(task, _Passing)


def test_a_batch_of_graphs_stays_as_it_is():
    batch = Batch.from_data_list([_sparse_graph(), _sparse_graph()])
    assert with_sparse_inputs(build("gcn", batch), batch, TASK) is batch


@pytest.mark.parametrize("kind", [_Elementwise, _Liar])
def test_a_model_that_cannot_take_sparse_features_keeps_dense_ones(kind):
    data = _sparse_graph()
    assert with_sparse_inputs(kind(), data, TASK).x is data.x


@pytest.mark.parametrize("kind", [_Counts, _Elementwise])
def test_a_model_that_cannot_take_a_matrix_keeps_its_edges(kind):
    data = _sparse_graph()
    model = kind()
    sparse = with_sparse_inputs(model, data, TASK)
    expected = _outputs_and_gradients(model, data)
    _assert_close(_outputs_and_gradients(model, sparse), expected)
    if kind is _Counts:
        assert ADJACENCY not in sparse


@pytest.mark.parametrize("make", [_DropsEdges, _Raises])
def test_a_model_that_fails_with_a_matrix_keeps_its_edges(make):
    model, data = make(), _sparse_graph()
    random = torch.get_rng_state()
    assert ADJACENCY not in with_sparse_inputs(model, data, TASK)
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("key", ["edge_index", "edge_weight"])
def test_a_matrix_of_other_edges_is_not_used(key):
    data = _sparse_graph()
    data.edge_weight = torch.linspace(0.5, 2, data.num_edges)
    model = build("weighted", data)
    changed = with_adjacency(data)
    changed[key] = changed[key].flip(-1)
    assert torch.equal(
        TASK.call(model, changed), model(data.x, changed.edge_index, changed.edge_weight)
    )


class _Amplifies(nn.Module):
    """Makes rounding errors a million times larger, as very deep models do."""

    def __init__(self, data):
        super().__init__()
        self.conv = GCNConv(data.num_features, 3)

    def forward(self, x, edge_index):
        return torch.sin(1e6 * self.conv(x, edge_index))


class _SinglePrecision(_Amplifies):
    def forward(self, x, edge_index):
        assert x.dtype == torch.float32
        return self.conv(x, edge_index)


@pytest.mark.parametrize("kind", [_Amplifies, _SinglePrecision])
def test_rounding_does_not_decide(kind):
    data = _sparse_graph()
    torch.manual_seed(0)
    assert ADJACENCY in with_sparse_inputs(kind(data), data, TASK)


def test_features_that_are_not_sparse_stay():
    data = graph()
    assert with_sparse_features(data) is data


def test_features_that_are_csr_already_stay():
    data = _sparse_graph()
    once = with_sparse_features(data)
    assert with_sparse_features(once) is once


def test_duplicate_edges_are_not_merged():
    data = _sparse_graph()
    data.edge_index = torch.cat([data.edge_index, data.edge_index[:, :40]], dim=1)
    model = build("gin", data).eval()
    sparse = with_sparse_inputs(model, data, TASK)
    _assert_close(_outputs_and_gradients(model, sparse), _outputs_and_gradients(model, data))


@pytest.mark.parametrize("name", ["gcn", "sage"])
def test_edge_weights_count_as_much_as_before(name):
    data = _sparse_graph()
    data.edge_weight = torch.linspace(0.5, 2.0, data.num_edges)
    model = build(name, data).eval()
    sparse = with_sparse_inputs(model, data, TASK)
    _assert_close(_outputs_and_gradients(model, sparse), _outputs_and_gradients(model, data))


def test_the_adjacency_matrix_points_from_source_to_target():
    data = graph(12, average_degree=2.0)
    data.edge_index = data.edge_index[:, ::2]
    dense = with_adjacency(data)[ADJACENCY].matrix.to_dense()
    expected = torch.zeros(12, 12)
    expected[data.edge_index[1], data.edge_index[0]] = 1
    assert torch.equal(dense, expected)


def test_a_kept_view_has_the_kept_edges_in_both_forms():
    data = with_adjacency(graph(30))
    keep = torch.arange(data.num_edges) % 2 == 0
    view = kept_view(data, keep)
    assert torch.equal(view.edge_index, data.edge_index[:, keep])
    rebuilt = with_adjacency(view)[ADJACENCY].matrix.to_dense()
    assert torch.equal(view[ADJACENCY].matrix.to_dense(), rebuilt)
    assert int(rebuilt.sum()) == int(keep.sum())
    assert view.num_nodes == 30


@pytest.mark.parametrize("name", ["gcn", "plain"])
def test_nothing_that_was_given_is_changed(name):
    data = _sparse_graph()
    model = build(name, data).train()
    before, weights = tensors_of(data), clone_state(model)
    x = data.x
    with_sparse_inputs(model, data, TASK)
    assert data.x is x
    assert ADJACENCY not in data
    assert states_equal(before, tensors_of(data))
    assert states_equal(weights, model.state_dict())
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_dropout_does_not_decide():
    data = _sparse_graph()
    model = GCN(60, 16, 2, 3, dropout=0.9).train()
    assert with_sparse_inputs(model, data, TASK).x.layout == torch.sparse_csr


@pytest.mark.parametrize("name", ["gcn", "gin"])
def test_where_edges_are_gated_features_have_the_form_that_the_model_takes(name):
    data = _sparse_graph()
    model = build(name, data).eval()
    sparse = with_sparse_inputs(model, data, TASK)
    assert sparse.x.layout == torch.sparse_csr
    assert (sparse[ADJACENCY].plain_x is data.x) == (name == "gin")  # which sums them first
    keep = torch.arange(data.num_edges) % 3 != 0
    for given, expected in ((sparse, data), (kept_view(sparse, keep), kept_view(data, keep))):
        gate = torch.rand(given.num_edges).requires_grad_()
        outputs = [TASK.forward(model, graph, gate) for graph in (given, expected)]
        _assert_close(outputs[:1], outputs[1:])
        gradients = [torch.autograd.grad(out.sum(), gate) for out in outputs]
        _assert_close(*gradients)


def test_where_a_batch_has_other_edges_features_have_the_form_that_the_model_takes():
    data = _sparse_graph()
    model = build("gin", data).eval()
    sparse = with_sparse_inputs(model, data, TASK)
    fewer = copy.copy(sparse)
    fewer.edge_index = data.edge_index[:, :50]
    expected = model(data.x, data.edge_index[:, :50])
    _assert_close([TASK.forward(model, fewer)], [expected])


def test_what_is_proven_of_a_part_is_the_form_that_the_whole_gets(monkeypatch):
    data = _sparse_graph()
    data.x[:, 0] = 0
    data.x[:30] += 1.0  # the part that is probed is dense, the whole would be sparse
    monkeypatch.setattr("fastglt.training.inputs.MAX_DENSITY", 0.4)
    monkeypatch.setattr("fastglt.training.inputs.PROBED_NODES", 30)
    data.train_mask[:], data.val_mask[:] = False, False
    data.train_mask[:10], data.val_mask[10:20] = True, True
    seen = []

    class Watched(GCN):
        def forward(self, x, edge_index, **named):
            seen.append((x.layout, x.size(0)))
            return super().forward(x, edge_index, **named)

    sparse = with_sparse_inputs(Watched(60, 8, 2, 3), data, TASK)
    assert sparse.x.layout == torch.sparse_csr
    assert (torch.sparse_csr, 30) in seen


class _Checkpointed(nn.Module):
    """Computes its convs again in the backward pass, in training only."""

    def __init__(self, reentrant, always=False):
        super().__init__()
        self.convs = nn.ModuleList([GCNConv(60, 8), GCNConv(8, 3)])
        self.reentrant, self.always = reentrant, always

    def forward(self, x, edge_index):
        hidden = self.convs[0](x, edge_index).relu()
        if not (self.training or self.always):
            return self.convs[1](hidden, edge_index)
        return checkpoint(self.convs[1], hidden, edge_index, use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("always", [False, True])
def test_convs_that_are_computed_again_have_their_edges_then(reentrant, always):
    data, model = _sparse_graph(), _Checkpointed(reentrant, always).train()
    sparse = with_sparse_inputs(model, data, TASK)
    gradients = []
    for given in (sparse, data):
        model.zero_grad()
        TASK.loss(TASK.forward(model, given), given).backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    _assert_close(*gradients)
    assert bool(gradients[1][-1].abs().max() > 0)


class _ZeroHead(nn.Module):
    """Starts from a head of zeros and takes no edge weights."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = GCNConv(60, 8), nn.Linear(8, 3)
        nn.init.zeros_(self.head.weight)

    def forward(self, x, edge_index):
        return self.head(self.conv(x, edge_index).relu())


def test_a_head_of_zeros_hides_nothing():
    data, model = _sparse_graph(), _ZeroHead()
    data.edge_weight = torch.rand(data.num_edges) + 0.5
    sparse = with_sparse_inputs(model, data, TASK)
    nn.init.normal_(model.head.weight)
    out = TASK.forward(model.eval(), sparse)
    _assert_close([out], [model(data.x, data.edge_index)])


def test_a_matrix_is_not_made_of_edges_that_are_there_twice():
    data = _sparse_graph()
    data.edge_index = torch.cat([data.edge_index, data.edge_index[:, :1]], dim=1)
    model = nn.Module()
    model.conv = APPNP(K=2, alpha=0.1)  # fused, but not served
    model.lin = nn.Linear(60, 3)
    model.forward = lambda x, edge_index: model.conv(model.lin(x), edge_index)
    assert ADJACENCY not in with_sparse_inputs(model, data, TASK)


@pytest.mark.parametrize("name", ["gcn", "gin", "gat", "sage"])
def test_models_of_low_precision_are_trained_on_what_they_can_take(name):
    data = _sparse_graph()
    data.x = data.x.bfloat16()
    model = build(name, data).bfloat16().train()
    sparse = with_sparse_inputs(model, data, TASK)
    TASK.loss(TASK.forward(model, sparse), sparse).backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())


class _KnowsItsNodes(nn.Module):
    """Adds noise of its own to every node, in training only."""

    def __init__(self, num_nodes):
        super().__init__()
        self.conv = GCNConv(60, 3)
        self.register_buffer("noise", torch.randn(num_nodes, 60))

    def forward(self, x, edge_index):
        return self.conv(x + self.noise if self.training else x, edge_index)


def test_a_model_that_knows_its_nodes_is_probed_with_all_of_them(monkeypatch):
    monkeypatch.setattr("fastglt.training.inputs.PROBED_NODES", 40)
    data = _sparse_graph()
    sparse = with_sparse_inputs(_KnowsItsNodes(90), data, TASK)
    assert ADJACENCY in sparse
