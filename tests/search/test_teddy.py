from __future__ import annotations

import dataclasses

import torch

from fastglt.masks import num_removed, select_top
from fastglt.scores import degree_surroundings
from fastglt.search import teddy
from fastglt.search.base import get_method
from fastglt.training.loop import clone_state
from fastglt.training.tasks import NodeClassification
from fastglt.training.teacher import Objective, Teacher
from helpers import graph, states_equal
from search.contexts import Scripted, new_context, search_with


def test_the_edges_in_surroundings_of_the_lowest_degree_are_kept():
    context, result = search_with("teddy", data=graph(degree_exponent=2.2))
    groups = context.groups
    everything = torch.ones(groups.num_groups, dtype=torch.bool)
    score = degree_surroundings(groups, everything)
    assert torch.equal(result.edge_mask.keep, select_top(score, result.edge_mask.num_kept))
    keep = result.edge_mask.keep
    assert score[keep].min() >= score[~keep].max()
    assert int((~keep).sum()) == num_removed(groups.num_groups, 0.29)


def test_after_every_step_exactly_the_budget_is_left(monkeypatch):
    project, masks = teddy._project, []

    def checked(weights, settings):
        before = {name: weight.detach().clone() for name, weight in weights.items()}
        mask = project(weights, settings)
        total = mask.num_weights
        left = sum(int(weight.count_nonzero()) for weight in weights.values())
        assert left == mask.num_kept == total - num_removed(total, 0.8)
        kept = torch.cat([before[name][keep].abs() for name, keep in mask.items()])
        gone = torch.cat([before[name][~keep].abs() for name, keep in mask.items()])
        assert kept.min() >= gone.max()
        for name, keep in mask.items():
            assert torch.equal(weights[name].detach(), before[name] * keep)
        masks.append(mask)
        return mask

    monkeypatch.setattr(teddy, "_project", checked)
    _, result = search_with("teddy", mask_epochs=5, patience=0, lr=0.1)
    assert result.epochs == len(masks) == 5
    assert any((masks[-1][name] & ~masks[0][name]).any() for name in masks[0])  # grown again


def test_the_mask_of_the_best_epoch_comes_with_its_weights():
    metrics = [0.1, 0.8, 0.3, 0.3, 0.9]
    context, result = search_with("teddy", objective=Scripted(metrics), mask_epochs=9, patience=2)
    assert result.epochs == len(context.callback.steps) == 4
    _, short = search_with("teddy", objective=Scripted(metrics), mask_epochs=2)
    assert states_equal(result.weight_mask.masks, short.weight_mask.masks)
    assert states_equal(result.state, short.state)


def test_edges_alone_need_no_training():
    context = new_context(method="teddy", weight_sparsity=0.0)
    before = clone_state(context.model)
    result = get_method("teddy").search(context)
    assert result.epochs == 0
    assert states_equal(result.state, before)
    assert result.weight_mask.num_kept == result.weight_mask.num_weights


def test_the_teacher_guides_the_projection():
    task = NodeClassification()
    encoded = torch.randn(90, 3, generator=torch.Generator().manual_seed(2)) * 5
    plain = Objective(task)
    guided = dataclasses.replace(plain, teacher=Teacher(encoded, weight=0.9))
    first, second = (
        search_with("teddy", objective=objective, mask_epochs=5)[1] for objective in (plain, guided)
    )
    assert not states_equal(first.state, second.state)
    assert torch.equal(first.edge_mask.keep, second.edge_mask.keep)
    assert new_context(method="teddy").settings.teacher == "dense"
