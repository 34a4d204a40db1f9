from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

from fastglt.errors import GraphError, InputError, ModelError, UnknownNameError
from fastglt.training.task import Task
from fastglt.training.tasks import (
    TASKS,
    GraphClassification,
    LinkPrediction,
    MultiLabelNodeClassification,
    NodeClassification,
    make_task,
)
from helpers import build, graph
from training.test_graph_classification import molecules


class Regression(Task):
    """What a user would write."""

    metric_name = "negative_mae"

    def call(self, model, data):
        return model(data.x, data.edge_index).mean(dim=1)

    def loss(self, out, data, split="train"):
        mask = data[f"{split}_mask"]
        return F.mse_loss(out[mask], data.y[mask].float())

    def metric(self, out, data, split):
        mask = data[f"{split}_mask"]
        return -float((out[mask] - data.y[mask]).abs().mean())


def test_data_says_what_task_it_is_for():
    data = graph()
    assert isinstance(make_task(None, data), NodeClassification)
    data.y = torch.zeros(90, 4)
    assert isinstance(make_task(None, data), MultiLabelNodeClassification)
    data.val_pos_edge_label_index = data.edge_index[:, :3]
    assert isinstance(make_task(None, data), LinkPrediction)
    assert isinstance(make_task(None, molecules()), GraphClassification)
    assert make_task(None, molecules(labels=3)).metric_name == "roc_auc"


@pytest.mark.parametrize("name", TASKS)
def test_tasks_are_made_by_name(name):
    task = make_task(name, graph(), metric="roc_auc")
    assert task.name == name
    assert task.record() == {"name": name, "metric": "roc_auc"}


@pytest.mark.parametrize(
    ("task", "changed"),
    [
        (
            LinkPrediction("hits@7", batch_size=9, keep_positives=True),
            ("batch_size", "keep_positives"),
        ),
        (LinkPrediction(keep_positives=True), ("keep_positives",)),
        (GraphClassification("roc_auc", batch_size=3), ("batch_size",)),
        (GraphClassification(batch_size=256), ()),
        (NodeClassification("roc_auc"), ()),
        (MultiLabelNodeClassification(), ()),
    ],
)
def test_a_record_says_what_was_changed_and_makes_the_task_again(task, changed):
    record = task.record()
    assert set(record) == {"name", "metric", *changed}
    again = make_task(json.loads(json.dumps(record)), graph())
    assert type(again) is type(task)
    assert vars(again) == vars(task)
    # Records of old have name and metric only; what is given counts more than the record.
    old = {"name": task.name, "metric": "f1"}
    assert make_task(old, graph(), metric=task.metric_name).metric_name == task.metric_name


def test_further_keywords_reach_the_model():
    class Task(NodeClassification):
        def keywords(self, model, data):
            return super().keywords(model, data) | {"factor": 2}

    class Scaled(torch.nn.Module):
        def forward(self, x, edge_index, factor):
            return factor * x

    data = graph()
    assert torch.equal(Task().forward(Scaled(), data), 2 * data.x)


def test_options_reach_the_task_and_wrong_ones_are_named():
    assert make_task("link-prediction", graph(), batch_size=7).batch_size == 7
    assert make_task(None, graph(), batch_size=None).name == "node-classification"
    with pytest.raises(InputError, match=r"node-classification.*batch_size"):
        make_task(None, graph(), batch_size=7)
    with pytest.raises(InputError, match="metric must be given to the task itself"):
        make_task(NodeClassification(), graph(), metric="accuracy")
    with pytest.raises(UnknownNameError, match="task"):
        make_task("regression", graph())
    with pytest.raises(UnknownNameError, match="metric"):
        make_task(None, graph(), metric="f1")


def test_area_for_two_classes_only():
    data = graph()
    with pytest.raises(InputError, match=r"two classes \(got 3\)"):
        NodeClassification("roc_auc").validate(data)
    data.y = data.y.clamp_max(1)
    task = NodeClassification("roc_auc")
    assert task.validate(data) == 2
    out = F.one_hot(data.y, 2).float()
    assert task.metric(out, data, "val") == 1
    assert task.metric(-out, data, "test") == 0


def test_unlabelled_entries_count_nowhere():
    data, task = graph(), MultiLabelNodeClassification()
    data.y = torch.randint(2, (90, 2), generator=torch.Generator().manual_seed(0)).float()
    out = torch.randn(90, 2, generator=torch.Generator().manual_seed(1))
    loss, metric = task.loss(out, data), task.metric(out, data, "train")
    hidden = data.train_mask.nonzero()[0]
    data.y[hidden, 0] = torch.nan
    assert task.loss(out, data) != loss
    changed = out.clone()
    changed[hidden, 0] = 99.0
    assert torch.equal(task.loss(changed, data), task.loss(out, data))
    assert task.metric(changed, data, "train") == task.metric(out, data, "train")
    assert 0 < metric < 1


def test_a_task_of_ones_own_needs_loss_and_metric_alone():
    data, task = graph(), Regression()
    model = build("gcn", data).eval()
    out = task.forward(model, data)
    task.check_output(out, data, 0)
    assert task.has_split(data, "test")
    assert task.validate(data) == 0
    assert float(task.guidance(out.detach(), out.detach(), 1.0)) == 0
    assert task.profile(out).shape == (90, 1)
    gate = torch.ones(data.num_edges, requires_grad=True)
    (gradient,) = torch.autograd.grad(task.loss(task.forward(model, data, gate), data), gate)
    assert (gradient != 0).any()


def test_an_output_that_is_no_float_tensor_is_described():
    with pytest.raises(ModelError, match=r"float tensor.*got tuple"):
        Regression().check_output((1, 2), graph(), 0)


@pytest.mark.parametrize("data", [[], None, {"x": 1}])
def test_what_is_no_graph_is_described(data):
    with pytest.raises(GraphError, match=rf"got {type(data).__name__}.*from_graph_splits"):
        make_task(None, data)
