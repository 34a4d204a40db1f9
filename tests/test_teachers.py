"""Who guides, what, and when."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fastglt
from fastglt.errors import InputError, ModelError
from helpers import TINY, build, graph, states_equal

LONG = TINY | {"dense_epochs": 40, "retrain_epochs": 60, "patience": 0}


def _find(data=None, **settings):
    data = graph() if data is None else data
    given = TINY | {"edge_sparsity": 0.29, "weight_sparsity": 0.8} | settings
    return fastglt.find(build("gcn", data), data, **given)


def _same_masks(first, second) -> bool:
    return torch.equal(first.edge_keep, second.edge_keep) and all(
        torch.equal(keep, second.weight_masks[name]) for name, keep in first.weight_masks.items()
    )


def _trained(data, seed=5):
    model = build("gcn", data, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(30):
        loss = nn.functional.cross_entropy(model(data.x, data.edge_index), data.y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def test_a_model_and_its_predictions_teach_the_same():
    data = graph()
    teacher = _trained(data)
    with torch.no_grad():
        logits = teacher(data.x, data.edge_index)
    first, second = (_find(data, teacher=given) for given in (teacher, logits))
    assert _same_masks(first, second)
    assert first.metrics["val_ticket"] == second.metrics["val_ticket"]
    assert first.settings["teacher"] == second.settings["teacher"] == "given"


def test_the_ticket_follows_the_given_teacher_against_the_labels():
    data = graph()
    logits = 8.0 * nn.functional.one_hot((data.y + 1) % 3, 3).float()
    taught = _find(data, teacher=logits, teacher_weight=1.0, retrain_epochs=40, weight_sparsity=0.2)
    told = _find(data, teacher="none", retrain_epochs=40, weight_sparsity=0.2)
    assert taught.metrics["test_ticket"] < 0.3 < told.metrics["test_ticket"]


def test_the_given_teacher_is_left_as_it_was():
    data = graph()
    teacher = _trained(data).train()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    _find(data, teacher=teacher)
    assert teacher.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


@pytest.mark.parametrize("schedule", ["rising", "falling"])
def test_a_schedule_changes_the_outcome(schedule):
    constant, scheduled = _find(), _find(teacher_schedule=schedule)
    states = constant.trained_state, scheduled.trained_state
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_teacher_of_the_search_only_has_no_say_in_retraining():
    both = _find(teacher_phases="both")
    searched = _find(teacher_phases="search")
    assert _same_masks(both, searched)
    states = both.trained_state, searched.trained_state
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_teacher_of_the_retraining_only_has_no_say_in_the_search():
    # Edges go by the loss, which is the labels' alone then.
    alone = _find(teacher="none", edge_score="unit-gate")
    retrained = _find(teacher_phases="retrain", edge_score="unit-gate")
    assert _same_masks(alone, retrained)
    assert alone.metrics["best_retrain_epoch"] >= 1
    states = alone.trained_state, retrained.trained_state
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_an_inductive_teacher_is_called_on_visible_nodes_only():
    data = graph()
    seen = []

    class Watching(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x, edge_index):
            seen.append(x.size(0))
            return self.inner(x, edge_index)

    _find(data, teacher=Watching(_trained(data)), inductive=True)
    assert set(seen) == {int((~data.val_mask & ~data.test_mask).sum())}


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"teacher": "given"}, InputError, "needs a teacher"),
        ({"teacher": torch.zeros(90, 2)}, InputError, r"shape \[90, 3\].*got \[90, 2\]"),
        ({"teacher": torch.full((90, 3), torch.nan)}, InputError, "must be finite"),
        ({"teacher": torch.zeros(90, 3), "inductive": True}, InputError, "must be a model"),
        ({"teacher": nn.Linear(2, 3)}, ModelError, "the teacher failed"),
        ({"teacher": "somebody"}, InputError, "teacher"),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused(settings, error, match):
    with pytest.raises(error, match=match):
        _find(**settings)


def test_a_teacher_of_another_width_is_refused():
    data = graph()
    with pytest.raises(ModelError, match=r"outputs of shape \['\*', 3\]"):
        _find(data, teacher=build("gcn", data, classes=4))


def test_the_weight_of_the_teacher_follows_the_labels():
    data = graph()
    rule = _find(data, teacher_propagation=0.0)
    share = float(data.train_mask.float().mean())
    same = _find(data, teacher_propagation=0.0, teacher_weight=1 - share / 2)
    other = _find(data, teacher_propagation=0.0, teacher_weight=0.3)
    assert states_equal(rule.trained_state, same.trained_state)
    assert not states_equal(rule.trained_state, other.trained_state)


def test_the_dense_model_is_propagated_and_a_given_teacher_is_not():
    data = graph(homophily=0.95)
    plain, spread = (_find(data, teacher_propagation=share) for share in (0.0, 0.8))
    assert not states_equal(plain.trained_state, spread.trained_state)
    logits = 4.0 * nn.functional.one_hot(data.y, 3).float()
    first, second = (_find(data, teacher=logits, teacher_propagation=share) for share in (0.0, 0.8))
    assert states_equal(first.trained_state, second.trained_state)


def test_a_teacher_that_propagation_would_spoil_is_left_as_it_is():
    data = graph(homophily=0.05, feature_noise=0.2)
    spoiled = _find(data, dense_epochs=100)
    plain = _find(data, dense_epochs=100, teacher_propagation=0.0)
    assert states_equal(spoiled.trained_state, plain.trained_state)
    assert any("teacher_propagation was left out" in note for note in spoiled.metrics["notes"])


def test_a_task_with_splits_of_its_own_is_taught_by_default():
    class Own(fastglt.NodeClassification):
        def validate(self, data):
            return 3

        def has_split(self, data, split):
            return f"{split}_nodes" in data

        def loss(self, out, data, split="train"):
            nodes = data[f"{split}_nodes"]
            return torch.nn.functional.cross_entropy(out[nodes], data.y[nodes])

        def metric(self, out, data, split):
            nodes = data[f"{split}_nodes"]
            return float((out[nodes].argmax(dim=1) == data.y[nodes]).float().mean())

    data = graph()
    for split in ("train", "val", "test"):
        data[f"{split}_nodes"] = data[f"{split}_mask"].nonzero().view(-1)
        del data[f"{split}_mask"]
    ticket = fastglt.find(build("gcn", data), data, task=Own(), **TINY | {"edge_sparsity": 0.3})
    assert ticket.metrics["val_ticket"] >= 0


def test_a_goal_passes_on_what_is_to_be_known_of_the_teacher():
    data = graph(homophily=0.05, feature_noise=0.2)
    ticket = fastglt.find(
        build("gcn", data), data, max_drop=100.0, axis="weights", **TINY | {"dense_epochs": 100}
    )
    assert any("teacher_propagation was left out" in note for note in ticket.metrics["notes"])
