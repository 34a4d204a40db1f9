from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fastglt.errors import NonFiniteLossError
from fastglt.gating import prunable_weights
from fastglt.masks import WeightMask, select_top
from fastglt.training.callback import Callback
from fastglt.training.loop import FitConfig, clone_state, fit, make_optimizer, predict, train_step
from fastglt.training.seeding import seeded
from fastglt.training.task import Task
from fastglt.training.tasks import NodeClassification
from fastglt.training.teacher import Objective
from helpers import build, graph, states_equal

TASK = NodeClassification()
OBJECTIVE = Objective(TASK)


class Scripted(Task):
    """Validation metric and loss follow a script; the training loss moves the weight by lr."""

    metric_name = "script"

    def __init__(self, metrics, losses=None):
        self.metrics = metrics
        self.losses = losses or [1.0] * len(metrics)
        self.epoch = -1

    def loss(self, out, data, split="train"):
        if split == "train":
            self.epoch += 1
            return out.sum()
        return torch.tensor(self.losses[self.epoch])

    def metric(self, out, data, split):
        assert split == "val"
        return self.metrics[self.epoch]

    def probability(self, out):
        raise NotImplementedError

    def check_output(self, out, data):
        raise NotImplementedError


class OneNumber(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([10.0]))

    def forward(self, x, edge_index):
        return self.weight


def _scripted(metrics, losses=None, patience=0):
    model, task, heard = OneNumber(), Scripted(metrics, losses), Listener()
    config = FitConfig(len(metrics), lr=1.0, weight_decay=0.0, patience=patience)
    result = fit(model, graph(), Objective(task), config, seed=0, phase="p", callback=heard)
    return model, result, heard


class Listener(Callback):
    def __init__(self):
        self.events = []

    def on_phase_start(self, phase, total):
        self.events.append(("start", phase, total))

    def on_step(self, phase, step, val_metric):
        self.events.append((phase, step, val_metric))

    def on_phase_end(self, phase):
        self.events.append(("end", phase))


def test_the_best_epoch_is_the_one_with_the_best_validation_metric():
    model, result, _ = _scripted([0.1, 0.7, 0.5, 0.6])
    assert (result.best_epoch, result.val_metric, result.epochs) == (2, 0.7, 4)
    # Adam moves the weight by about lr an epoch, so it tells which epoch it is of.
    assert model.weight.item() == pytest.approx(8.0, abs=0.01)
    assert result.state["weight"].item() == model.weight.item()


def test_equal_metrics_are_decided_by_the_lower_loss_then_by_the_earlier_epoch():
    _, result, _ = _scripted([0.7, 0.7, 0.7, 0.7, 0.2], [3.0, 1.0, 2.0, 1.0, 0.1])
    assert result.best_epoch == 2


def test_a_better_metric_beats_a_lower_loss():
    _, result, _ = _scripted([0.5, 0.6], [0.1, 9.0])
    assert result.best_epoch == 2


def test_patience_stops_after_that_many_epochs_without_a_better_one():
    metrics = [0.1, 0.5, 0.4, 0.4, 0.4, 0.9]
    assert _scripted(metrics, patience=3)[1].epochs == 5
    assert _scripted(metrics, patience=3)[1].best_epoch == 2
    assert _scripted(metrics, patience=4)[1].best_epoch == 6
    assert _scripted(metrics, patience=0)[1].epochs == 6


def test_a_callback_hears_of_every_epoch_and_of_the_end():
    _, _, heard = _scripted([0.1, 0.5, 0.4], patience=1)
    assert heard.events == [
        ("start", "p", 3),
        ("p", 1, 0.1),
        ("p", 2, 0.5),
        ("p", 3, 0.4),
        ("end", "p"),
    ]


def _fit(data, model=None, seed=0, epochs=8, **more):
    model = model or build("gcn", data)
    return model, fit(model, data, OBJECTIVE, FitConfig(epochs), seed=seed, phase="dense", **more)


def test_the_reported_metric_is_that_of_the_state():
    data = graph()
    model, result = _fit(data)
    assert states_equal(result.state, model.state_dict())
    assert TASK.metric(predict(TASK, model, data), data, "val") == result.val_metric


def test_training_lowers_the_loss():
    data = graph()
    model = build("gcn", data)
    before = float(TASK.loss(predict(TASK, model, data), data))
    _fit(data, model, epochs=30)
    assert float(TASK.loss(predict(TASK, model, data), data)) < before / 2


def test_pruned_weights_stay_0():
    data = graph()
    model = build("gcn", data)
    generator = torch.Generator().manual_seed(0)
    masks = {
        name: select_top(torch.rand(weight.shape, generator=generator), weight.numel() // 4)
        for name, weight in prunable_weights(model).items()
    }
    _, result = _fit(data, model, mask=WeightMask(masks))
    for name, keep in masks.items():
        assert torch.count_nonzero(result.state[name][~keep]) == 0
        assert torch.count_nonzero(result.state[name][keep]) == int(keep.sum())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_names_phase_epoch_and_setting(bad):
    data = graph()
    model = build("gcn", data)

    class Exploding(NodeClassification):
        calls = 0

        def loss(self, out, data, split="train"):
            self.calls += split == "train"
            value = super().loss(out, data, split)
            return value * 0 + bad if self.calls == 3 else value

    with pytest.raises(NonFiniteLossError, match=rf"loss is {bad} in dense epoch 3 with lr=0.05"):
        fit(model, data, Objective(Exploding()), FitConfig(5, lr=0.05), seed=0, phase="dense")


def test_a_loss_that_is_not_finite_updates_nothing():
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = clone_state(model)
    with pytest.raises(NonFiniteLossError):
        train_step(optimizer, model(torch.full((1, 2), math.nan)).sum(), "here")
    assert states_equal(before, model.state_dict())


def test_test_labels_have_no_influence():
    data = graph()
    _, first = _fit(data)
    other = data.clone()
    test = other.test_mask.nonzero().view(-1)
    other.y[test] = other.y[test.flip(0)]
    assert not torch.equal(other.y, data.y)
    _, second = _fit(other)
    assert states_equal(first.state, second.state)
    assert first.val_metric == second.val_metric


def test_the_same_seed_gives_the_same_weights_whatever_the_global_state():
    data = graph()
    torch.manual_seed(1)
    _, first = _fit(data)
    torch.manual_seed(2)
    torch.rand(17)
    _, second = _fit(data)
    _, other = _fit(data, seed=5)
    assert states_equal(first.state, second.state)
    assert not states_equal(first.state, other.state)


def test_the_global_random_state_is_left_as_it_was():
    data = graph()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    _fit(data)
    assert torch.equal(torch.rand(4), expected)


def test_seeded_restores_the_state_after_an_error_too():
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), seeded(4):
        torch.rand(3).tolist()[0] / 0
    assert torch.equal(torch.get_rng_state(), before)


def test_gates_get_no_weight_decay():
    model, gate = nn.Linear(2, 2), nn.Parameter(torch.ones(3))
    groups = make_optimizer(model, 0.01, 0.5, (gate,)).param_groups
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert decays[id(gate)] == 0.0
    assert decays[id(model.weight)] == 0.5


def test_frozen_parameters_stay():
    data = graph()
    model = build("gcn", data)
    frozen = model.convs[0].lin.weight.requires_grad_(False).clone()
    _fit(data, model)
    assert torch.equal(model.convs[0].lin.weight, frozen)


def test_a_cloned_state_shares_no_memory():
    model = nn.Linear(2, 2)
    state = clone_state(model)
    with torch.no_grad():
        model.weight.zero_()
    assert torch.count_nonzero(state["weight"]) == 4
    assert not any(value.requires_grad for value in state.values())
