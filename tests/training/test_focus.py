"""Predictions for some nodes: proven before they are relied on, and equal to those of all."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch_geometric.nn import GCN, GCNConv, LayerNorm

from fastglt.training import loop
from fastglt.training.field import Field
from fastglt.training.focus import focused
from fastglt.training.inputs import with_sparse_inputs
from fastglt.training.known_graph import kept_view
from fastglt.training.loop import FitConfig, fit
from fastglt.training.task import ADJACENCY
from fastglt.training.tasks import MultiLabelNodeClassification, NodeClassification
from fastglt.training.teacher import Objective
from helpers import build, graph, states_equal

TASK = NodeClassification()


def few_labels(num_nodes=300, **settings):
    """A graph on which loss and metric read few nodes."""
    data = graph(num_nodes, average_degree=3.0, **settings)
    for name in ("train_mask", "val_mask"):
        nodes = data[name].nonzero().view(-1)
        data[name] = torch.zeros(num_nodes, dtype=torch.bool)
        data[name][nodes[:6]] = True
    return data


def complete(data):
    """``data`` with an edge from every node to every other one."""
    changed = copy.copy(data)
    changed.edge_index = (1 - torch.eye(data.num_nodes)).nonzero().t().contiguous()
    return changed


def in_double(data, model):
    data = copy.copy(data)
    data.x = data.x.double()
    return data, model.double()


@pytest.mark.parametrize("name", ["gcn", "sage", "gin", "gat", "weighted", "deep"])
@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("kept", [False, True])
def test_predictions_losses_and_gradients_are_those_of_all_nodes(name, split, kept):
    data = few_labels()
    model = GCN(12, 8, 3, 3) if name == "deep" else build(name, data)
    data, model = in_double(data, model)
    sparse = with_sparse_inputs(model, data, TASK)
    assert sparse[ADJACENCY].reach == (3 if name == "deep" else 2, True)
    if kept:
        keep = torch.rand(data.num_edges, generator=torch.Generator().manual_seed(0)) < 0.6
        data, sparse = kept_view(data, keep), kept_view(sparse, keep)
    view = focused(sparse, TASK, split)
    assert view.x.size(0) < data.num_nodes
    model.eval()
    full, part = TASK.forward(model, data), TASK.forward(model, view)
    torch.testing.assert_close(part, full[data[f"{split}_mask"]], rtol=1e-10, atol=1e-10)
    losses = TASK.loss(full, data, split), TASK.loss(part, view, split)
    torch.testing.assert_close(*losses, rtol=1e-10, atol=1e-10)
    assert TASK.metric(full, data, split) == TASK.metric(part, view, split)
    gradients = (torch.autograd.grad(loss, list(model.parameters())) for loss in losses)
    for expected, actual in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def test_the_graph_is_left_as_it_was_found():
    data = few_labels()
    sparse = with_sparse_inputs(build("gcn", data), data, TASK)
    before = {key: sparse[key] for key in sparse.keys()}  # noqa: SIM118
    focused(sparse, TASK, "val")
    assert all(sparse[key] is value for key, value in before.items())


def test_several_labels_a_node():
    data = few_labels()
    data.y = torch.nn.functional.one_hot(data.y, 3).float()
    task = MultiLabelNodeClassification()
    for split in ("train", "val"):
        data.y[data[f"{split}_mask"].nonzero().view(-1)[:2]] = torch.tensor([[1.0], [0.0]])
    model = build("gcn", data).eval()
    sparse = with_sparse_inputs(model, data, task)
    view = focused(sparse, task, "val")
    assert len(view.y) == 6
    assert task.metric(task.forward(model, view), view, "val") == pytest.approx(
        task.metric(task.forward(model, data), data, "val")
    )


def test_a_norm_over_the_nodes_is_only_left_out_of_evaluation():
    data = few_labels()
    assert with_sparse_inputs(build("plain", data), data, TASK)[ADJACENCY].reach == (1, False)


@pytest.mark.parametrize(
    ("norm", "expected"), [(LayerNorm(8), None), (nn.BatchNorm1d(8), (2, False))]
)
def test_a_norm_is_found_out_where_few_nodes_see_all_others(norm, expected):
    data = complete(few_labels(100))
    sparse = with_sparse_inputs(_Net(norm), data, TASK)
    field = Field.of(data.edge_index, data.val_mask, num_convs=2)
    assert field.sizes[:2] == (100, 100)
    assert sparse[ADJACENCY].reach == expected


class _WithPositions(nn.Module):
    """Holds a parameter for every node."""

    def __init__(self, num_nodes):
        super().__init__()
        self.position = nn.Parameter(torch.randn(num_nodes, 12))
        self.first, self.second = GCNConv(12, 8), GCNConv(8, 3)

    def forward(self, x, edge_index):
        return self.second(self.first(x + self.position, edge_index).relu(), edge_index)


@pytest.mark.parametrize("change", [copy.copy, complete])
def test_parameters_of_the_nodes_are_found_out(change):
    data = change(few_labels(100))
    sparse = with_sparse_inputs(_WithPositions(100), data, TASK)
    assert sparse[ADJACENCY].reach is None


class _Net(nn.Module):
    """Two convs with something between them that reads other nodes, or does not."""

    def __init__(self, between):
        super().__init__()
        self.first, self.second = GCNConv(12, 8), GCNConv(8, 3)
        self.between = between

    def forward(self, x, edge_index):
        return self.second(self.between(self.first(x, edge_index)), edge_index)


class _LeavesOut(nn.Module):
    """Leaves out a conv in one of four calls in training."""

    def __init__(self):
        super().__init__()
        self.first, self.second = GCNConv(12, 12), GCNConv(12, 3)

    def forward(self, x, edge_index):
        if not self.training or torch.rand(()) > 0.25:
            x = self.first(x, edge_index).relu()
        return self.second(x, edge_index)


def test_a_model_that_draws_its_layers_is_trained_on_all_nodes():
    data = few_labels()
    sparse = with_sparse_inputs(_LeavesOut(), data, TASK)
    assert sparse[ADJACENCY].reach == (2, False)


class _Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = GCNConv(12, 12), GCNConv(12, 3)

    def forward(self, x, edge_index):
        return self.out(x + self.conv(x, edge_index).relu(), edge_index)


class _Mean(nn.Module):
    def forward(self, x):
        return x - x.mean(dim=0)


class _MeanInTraining(nn.Module):
    def forward(self, x):
        return x - x.mean(dim=0) if self.training else x


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        (nn.ReLU(), (2, True)),
        (nn.LayerNorm(8), (2, True)),
        (nn.Dropout(0.5), (2, True)),
        (nn.BatchNorm1d(8), (2, False)),
        (_MeanInTraining(), (2, False)),
        (_Mean(), None),
        (LayerNorm(8), None),  # PyG's goes over the whole graph
    ],
)
def test_what_reads_other_nodes_is_found_out(between, expected):
    data = few_labels()
    sparse = with_sparse_inputs(_Net(between), data, TASK)
    assert sparse[ADJACENCY].reach == expected
    view = focused(sparse, TASK, "train")
    assert (view is sparse) == (expected is None or not expected[1])
    assert (focused(sparse, TASK, "val") is sparse) == (expected is None)


def test_models_that_are_no_chain_see_all_nodes():
    data = few_labels()
    sparse = with_sparse_inputs(_Residual(), data, TASK)
    assert sparse[ADJACENCY].reach is None
    assert focused(sparse, TASK, "train") is sparse


class _OverAllNodes(NodeClassification):
    reads = NodeClassification.reads  # which is not true

    def loss(self, out, data, split="train"):
        return super().loss(out, data, split) + out.square().mean()


class _MetricOverAllNodes(NodeClassification):
    reads = NodeClassification.reads

    def metric(self, out, data, split):
        return super().metric(out, data, split) / (1 + float(out.square().mean()))


class _ReadsNothing(NodeClassification):
    def reads(self, data, split):
        return None


class _SaysNothing(NodeClassification):
    def loss(self, out, data, split="train"):
        return super().loss(out, data, split)


class _SaysSo(_SaysNothing):
    reads = NodeClassification.reads


def test_a_loss_of_ones_own_may_read_anything_unless_it_says_what():
    data = few_labels()
    for task, expected in ((_SaysNothing(), None), (_SaysSo(), (2, True))):
        assert with_sparse_inputs(build("gcn", data), data, task)[ADJACENCY].reach == expected


@pytest.mark.parametrize("task", [_OverAllNodes(), _MetricOverAllNodes(), _ReadsNothing()])
def test_tasks_that_read_other_nodes_get_all_predictions(task):
    data = few_labels()
    sparse = with_sparse_inputs(build("gcn", data), data, task)
    assert focused(sparse, task, "train") is sparse
    assert focused(sparse, task, "val") is sparse


def test_where_most_nodes_are_read_nothing_is_left_out():
    data = graph(90)
    data.train_mask = torch.ones(90, dtype=torch.bool)
    sparse = with_sparse_inputs(build("gcn", data), data, TASK)
    assert sparse[ADJACENCY].reach is not None
    assert focused(sparse, TASK, "train") is sparse


@pytest.mark.parametrize("name", ["gcn", "gin", "gat"])
def test_training_is_the_same_without_the_other_nodes(name, monkeypatch):
    data, model = in_double(few_labels(), build(name, few_labels()))
    sparse = with_sparse_inputs(model, data, TASK)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0

    def trained():
        copied = copy.deepcopy(model)
        return fit(copied, sparse, Objective(TASK), FitConfig(15), seed=0, phase="dense")

    some = trained()
    monkeypatch.setattr(loop, "focused", lambda data, task, split: data)
    every = trained()
    assert some.best_epoch == every.best_epoch
    for key, value in every.state.items():
        torch.testing.assert_close(some.state[key], value, rtol=1e-6, atol=1e-8)
    assert not states_equal(some.state, model.state_dict())
