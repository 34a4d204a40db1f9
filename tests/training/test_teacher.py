from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fastglt.training.tasks import (
    LinkPrediction,
    MultiLabelNodeClassification,
    NodeClassification,
)
from fastglt.training.teacher import (
    Objective,
    Teacher,
    loss_by_propagation,
    propagate,
    propagated,
)
from helpers import graph

TASK = NodeClassification()


def _logits(seed):
    return torch.randn(90, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _divergence(out, teacher):
    return Objective(TASK, teacher).divergence(out, graph())


def test_without_a_teacher_the_loss_is_the_tasks():
    data, out = graph(), _logits(0)
    expected = F.cross_entropy(out[data.train_mask], data.y[data.train_mask])
    assert torch.equal(Objective(TASK)(out, data), expected)
    assert torch.equal(Objective(TASK, Teacher(_logits(1), weight=0.0))(out, data), expected)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_divergence_equals_the_definition(temperature):
    teacher, out = _logits(0), _logits(1)
    p = F.softmax(teacher / temperature, dim=1)
    q = F.softmax(out / temperature, dim=1)
    expected = temperature**2 * (p * (p / q).log()).sum(dim=1).mean()
    found = _divergence(out, Teacher(teacher, temperature=temperature))
    assert float(found) == pytest.approx(float(expected))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_divergence_is_0_only_where_the_predictions_agree(temperature):
    logits = _logits(0)
    teacher = Teacher(logits, temperature=temperature)
    assert float(_divergence(logits, teacher)) == pytest.approx(0, abs=1e-12)
    # Softmax does not see a constant.
    assert float(_divergence(logits + 3, teacher)) == pytest.approx(0, abs=1e-12)
    assert float(_divergence(_logits(1), teacher)) > 0.01


def test_the_gradient_keeps_its_size_whatever_the_temperature():
    teacher, sizes = _logits(0), []
    for temperature in (50.0, 500.0):
        out = _logits(1).requires_grad_()
        loss = _divergence(out, Teacher(teacher, temperature=temperature))
        sizes.append(float(torch.autograd.grad(loss, out)[0].norm()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


def test_weight_1_listens_to_the_teacher_alone():
    data, out = graph(), _logits(0)
    teacher = Teacher(_logits(1), weight=1.0)
    before = Objective(TASK, teacher)(out, data)
    data.y = (data.y + 1) % 3
    assert torch.equal(Objective(TASK, teacher)(out, data), before)
    assert torch.equal(before, _divergence(out, teacher))


def test_the_loss_is_the_mixture():
    data, out = graph(), _logits(0)
    teacher = Teacher(_logits(1), weight=0.25)
    expected = 0.75 * TASK.loss(out, data) + 0.25 * _divergence(out, teacher)
    assert float(Objective(TASK, teacher)(out, data)) == pytest.approx(float(expected))


def test_the_teacher_speaks_about_all_nodes():
    out = _logits(0)
    teacher = Teacher(_logits(1))
    before = _divergence(out, teacher)
    out[~graph().train_mask] += torch.tensor([5.0, 0.0, 0.0], dtype=torch.float64)
    assert not torch.equal(_divergence(out, teacher), before)


def test_extreme_logits_stay_finite():
    extreme = torch.tensor([[1e4, -1e4, 0.0]])
    assert torch.isfinite(_divergence(-extreme, Teacher(extreme)))


@pytest.mark.parametrize(
    ("schedule", "weights"),
    [("constant", (0.8, 0.8)), ("rising", (0.2, 0.6)), ("falling", (0.6, 0.2))],
)
def test_a_schedule_shifts_the_loss_between_labels_and_teacher(schedule, weights):
    data, out = graph(), _logits(0)
    objective = Objective(TASK, Teacher(_logits(1), weight=0.8, schedule=schedule))
    for progress, weight in zip((0.25, 0.75), weights, strict=True):
        expected = Objective(TASK, Teacher(_logits(1), weight=weight))(out, data)
        assert float(objective.at(progress)(out, data)) == pytest.approx(float(expected))


def test_without_a_teacher_there_is_nothing_to_schedule():
    assert Objective(TASK).at(0.5) == Objective(TASK)


def _spread_slowly(values, edge_index, share):
    num_nodes = len(values)
    adjacency = torch.eye(num_nodes, dtype=values.dtype)
    for source, target in edge_index.T.tolist():
        if source != target:
            adjacency[target, source] += 1
    scale = adjacency.sum(dim=1).rsqrt()
    adjacency = scale[:, None] * adjacency * scale
    exact = (1 - share) * torch.linalg.inv(torch.eye(num_nodes) - share * adjacency)
    return exact @ values / exact.sum(dim=1, keepdim=True)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_propagation_is_personalised_pagerank(share):
    edge_index = torch.tensor([[0, 1, 1, 2, 3, 0, 4, 4], [1, 0, 2, 1, 3, 2, 0, 0]])
    values = torch.rand(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = propagate(values, edge_index, share)
    # Ten steps leave 0.3 ** 10 of the start.
    torch.testing.assert_close(found, _spread_slowly(values, edge_index, share), rtol=0, atol=1e-5)
    torch.testing.assert_close(found[[3, 5]], values[[3, 5]])  # without neighbours


def _entropy(probability):
    return float(-(probability * probability.log()).sum(dim=-1).mean())


def test_propagated_predictions_are_averages_as_sure_as_those_given():
    data, logits = graph(), 3 * _logits(0)
    averages = propagate(logits.softmax(dim=1), data.edge_index, 0.8)
    found = propagated(Teacher(logits), TASK, data, 0.8).encoded
    assert _entropy(averages) > 1.5 * _entropy(logits.softmax(dim=1))
    assert _entropy(found.softmax(dim=1)) == pytest.approx(_entropy(logits.softmax(dim=1)))
    ratio = found / averages.log()
    torch.testing.assert_close(ratio, ratio[:1, :1].expand_as(ratio))


def test_propagated_answers_to_several_questions_likewise():
    data, logits = graph(), 3 * _logits(0)
    averages = propagate(logits.sigmoid(), data.edge_index, 0.8)
    found = propagated(Teacher(logits), MultiLabelNodeClassification(), data, 0.8).encoded
    ratio = found / averages.logit()
    torch.testing.assert_close(ratio, ratio[:1, :1].expand_as(ratio))
    both = [torch.stack([p, 1 - p]).movedim(0, -1) for p in (found.sigmoid(), logits.sigmoid())]
    assert _entropy(both[0]) == pytest.approx(_entropy(both[1]))


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_certain_and_clueless_predictions_stay_finite(scale):
    data = graph()
    for task in (TASK, MultiLabelNodeClassification()):
        teacher = Teacher(scale * _logits(0).float())
        assert bool(propagated(teacher, task, data, 0.8).encoded.isfinite().all())


def test_a_teacher_is_left_alone_where_neighbours_differ():
    alike, unlike = graph(homophily=0.95), graph(homophily=0.05)
    for data, helps in ((alike, True), (unlike, False)):
        teacher = Teacher(F.one_hot(data.y, 3).double())
        told = loss_by_propagation(teacher, propagated(teacher, TASK, data, 0.95), TASK, data)
        assert (told is None) == helps
    assert "from 1.0000 to 0." in told


def test_what_is_no_prediction_of_nodes_is_not_averaged():
    data, teacher = graph(), Teacher(_logits(0))
    assert propagated(teacher, LinkPrediction(), data, 0.8) is teacher
    assert propagated(teacher, TASK, data, 0.0) is teacher
    assert loss_by_propagation(teacher, teacher, LinkPrediction(), data) is None


def test_the_share_of_labels_is_that_of_the_training_nodes():
    data = graph()
    share = float(data.train_mask.float().mean())
    assert TASK.labelled_share(data) == pytest.approx(share)
    assert 0 < share < 1
    assert LinkPrediction().labelled_share(data) == 1.0
    several = graph()
    several.y = F.one_hot(data.y, 3).float()
    several.y[:45] = torch.nan
    expected = float((data.train_mask & (torch.arange(90) >= 45)).float().mean())
    assert MultiLabelNodeClassification().labelled_share(several) == pytest.approx(expected)
