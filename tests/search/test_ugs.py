from __future__ import annotations

import itertools

import pytest
import torch

from fastglt.errors import BudgetError
from fastglt.masks import num_removed
from fastglt.search import ugs
from fastglt.search.soft_masks import SoftMasks
from fastglt.training.loop import clone_state
from helpers import states_equal
from search.contexts import search_with

RATES = {"edge_rate": 0.1, "weight_rate": 0.3}


@pytest.fixture
def rounds(monkeypatch):
    """What each round of soft masks was started with."""
    seen = []

    class Spy(SoftMasks):
        def __init__(self, context, state, edge_mask, weight_mask, round_seed, **more):
            copied = {name: tensor.clone() for name, tensor in state.items()}
            seen.append((copied, edge_mask, weight_mask, round_seed))
            super().__init__(context, state, edge_mask, weight_mask, round_seed, **more)

    monkeypatch.setattr(ugs, "SoftMasks", Spy)
    return seen


def _masks_after(rounds, result):
    return [*((edges, weights) for _, edges, weights, _ in rounds[1:]),
            (result.edge_mask, result.weight_mask)]  # fmt: skip


def test_own_rates_compound_to_exact_counts_after_every_round(rounds):
    budget = {"edge_sparsity": 0.27, "weight_sparsity": 0.6}
    _, result = search_with("ugs", rounds=3, **RATES, **budget)
    masks = _masks_after(rounds, result)
    for number, (edges, weights) in enumerate(masks, start=1):
        for mask, total, rate, target in (
            (edges, edges.groups.num_groups, 0.1, 0.27),
            (weights, weights.num_weights, 0.3, 0.6),
        ):
            expected = num_removed(total, min(target, round(1 - (1 - rate) ** number, 9)))
            assert total - mask.num_kept == expected


def test_without_rates_both_axes_arrive_in_the_last_round(rounds):
    _, result = search_with("ugs", rounds=3)
    masks = _masks_after(rounds, result)
    groups, total = result.edge_mask.groups.num_groups, result.weight_mask.num_weights
    assert groups - result.edge_mask.num_kept == num_removed(groups, 0.29)
    assert total - result.weight_mask.num_kept == num_removed(total, 0.8)
    for number, (edges, weights) in enumerate(masks, start=1):
        assert edges.num_kept == pytest.approx(groups * 0.71 ** (number / 3), abs=1)
        assert weights.num_kept == pytest.approx(total * 0.2 ** (number / 3), abs=1)


def test_too_few_rounds_for_a_rate_are_refused():
    with pytest.raises(BudgetError, match=r"weight_rate 0.1 prunes 0.1900 in 2 rounds"):
        search_with("ugs", weight_rate=0.1)
    with pytest.raises(BudgetError, match="edge_rate"):
        search_with("ugs", edge_rate=0.01)


def test_an_axis_that_has_arrived_stays_as_it_is(rounds):
    _, result = search_with("ugs", rounds=3, edge_rate=0.5)
    first, *later = [edges.keep for edges, _ in _masks_after(rounds, result)]
    assert all(torch.equal(first, keep) for keep in later)


def test_masks_are_nested_and_every_round_starts_from_the_initial_weights(rounds):
    context, result = search_with("ugs", rounds=4)
    masks = _masks_after(rounds, result)
    for (earlier, before), (later, after) in itertools.pairwise(masks):
        assert not (later.keep & ~earlier.keep).any()
        for name, keep in after.items():
            assert not (keep & ~before[name]).any()
    start = clone_state(search_with("dense")[0].model)
    assert len(rounds) == 4
    assert all(states_equal(state, start) for state, *_ in rounds)
    assert len({seed for *_, seed in rounds}) == 4
    assert not states_equal(clone_state(context.model), start)


def test_retraining_of_binary_masks_only_informs():
    _, without = search_with("ugs", rounds=2)
    _, with_it = search_with("ugs", rounds=2, fixed_epochs=3)
    assert torch.equal(without.edge_mask.keep, with_it.edge_mask.keep)
    assert states_equal(without.weight_mask.masks, with_it.weight_mask.masks)
    assert (without.epochs, with_it.epochs) == (6, 12)
    assert all(each["metric"] is None for each in without.metrics["rounds"])
    assert all(0 <= each["metric"] <= 1 for each in with_it.metrics["rounds"])


def test_the_reported_epochs_are_the_steps_taken(monkeypatch):
    steps = []
    step = SoftMasks._step

    def counted(self, *arguments):
        steps.append(1)
        step(self, *arguments)

    monkeypatch.setattr(SoftMasks, "_step", counted)
    _, result = search_with("ugs", rounds=2, mask_epochs=8, patience=2)
    assert result.epochs == len(steps) == sum(r["epochs"] for r in result.metrics["rounds"])


@pytest.mark.parametrize(("edges", "weights"), [(0.29, 0.0), (0.0, 0.8), (0.0, 0.0)])
def test_only_the_asked_axis_is_pruned(edges, weights):
    _, result = search_with("ugs", edge_sparsity=edges, weight_sparsity=weights)
    assert bool(result.edge_mask.keep.all()) == (edges == 0)
    assert (result.weight_mask.num_kept == result.weight_mask.num_weights) == (weights == 0)


def test_the_state_goes_with_the_masks():
    _, result = search_with("ugs")
    for name, keep in result.weight_mask.items():
        assert torch.count_nonzero(result.state[name][~keep]) == 0
        assert torch.count_nonzero(result.state[name][keep]) > 0
