from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fastglt.errors import BudgetError
from fastglt.gating import prunable_weights
from fastglt.masks import ChannelGroup, EdgeGroups, num_removed, swap
from fastglt.search.swap import EdgeDenoiser, WeightDenoiser, num_kept_groups
from helpers import graph


@st.composite
def swaps(draw):
    size = draw(st.integers(0, 40))
    keep = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    number = st.sampled_from([-1.0, 0.0, 0.0, 1.0]) | st.floats(-5, 5)
    scores = st.lists(number, min_size=size, max_size=size)
    target = draw(st.integers(0, len(keep)))
    return keep, draw(scores), draw(scores), draw(st.floats(0, 1)), target


def _oracle(keep, drop, grow, share, target):
    """One component at a time."""
    kept = [i for i, flag in enumerate(keep) if flag]
    pruned = [i for i, flag in enumerate(keep) if not flag]
    missing = max(target - len(kept), 0)
    num_grown = min(int(share * len(kept)) + missing, len(pruned), target)
    best_first = sorted(kept, key=lambda i: -drop[i])
    survivors = best_first[: target - num_grown]
    grown = sorted(pruned, key=lambda i: -grow[i])[:num_grown]
    return sorted(survivors + grown)


@given(swaps())
def test_swap_equals_a_slow_oracle(case):
    keep, drop, grow, share, target = case
    mask = torch.tensor(keep, dtype=torch.bool)
    before = mask.clone()
    scores = [torch.tensor(s, dtype=torch.float64) for s in (drop, grow)]
    found = swap(mask, *scores, share, target)
    assert found.nonzero().view(-1).tolist() == _oracle(keep, drop, grow, share, target)
    assert torch.equal(mask, before)


@given(swaps())
def test_swap_keeps_exactly_the_target_and_grows_only_what_was_pruned(case):
    keep, drop, grow, share, target = case
    mask = torch.tensor(keep, dtype=torch.bool)
    drop, grow = torch.tensor(drop), torch.tensor(grow)
    found = swap(mask, drop, grow, share, target)
    assert int(found.sum()) == target
    dropped, survivors = mask & ~found, mask & found
    if dropped.any() and survivors.any():
        assert drop[dropped].max() <= drop[survivors].min()
    grown, passed_over = found & ~mask, ~found & ~mask
    if grown.any() and passed_over.any():
        assert grow[grown].min() >= grow[passed_over].max()
    missing = max(target - int(mask.sum()), 0)
    assert int(grown.sum()) <= share * int(mask.sum()) + missing


def test_a_share_of_0_changes_nothing():
    keep = torch.tensor([True, False, True])
    assert torch.equal(swap(keep, torch.rand(3), torch.rand(3), 0.0, 2), keep)


def test_a_falling_target_is_dropped_on_top_of_the_share():
    keep = torch.arange(200) < 100
    score = torch.rand(200, generator=torch.Generator().manual_seed(0))
    result = swap(keep, score, score, share=0.3, target=90)
    assert int((keep & ~result).sum()) == 40
    assert int((result & ~keep).sum()) == 30


def test_nothing_pruned_means_nothing_to_swap():
    keep = torch.ones(2, 3, dtype=torch.bool)
    assert torch.equal(swap(keep, torch.rand(2, 3), torch.rand(2, 3), 1.0, 6), keep)


def test_more_to_swap_than_pruned_swaps_what_there_is():
    keep = torch.tensor([True, True, True, True, False])
    drop = torch.tensor([4.0, 1.0, 2.0, 3.0, 9.0])
    assert swap(keep, drop, drop, 1.0, 4).tolist() == [True, False, True, True, True]


def test_scores_of_the_other_side_do_not_matter():
    keep = torch.tensor([True, True, False, False])
    drop = torch.tensor([2.0, 1.0, float("inf"), float("inf")])
    grow = torch.tensor([float("inf"), float("inf"), 0.0, 1.0])
    assert swap(keep, drop, grow, 0.5, 2).tolist() == [True, False, False, True]


def test_scores_of_minus_infinity_keep_the_counts_exact():
    keep = torch.tensor([False, False, True, True])
    worst = torch.full((4,), -torch.inf)
    found = swap(keep, worst, worst, 0.5, 2)
    assert int(found.sum()) == 2
    assert int((found & keep).sum()) == 1


CHANNELS = [ChannelGroup(6, ("0.weight",), {"2.weight": torch.arange(6)})]


def _weights(sparsity=0.5, allocation="erk", seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    denoiser = WeightDenoiser(prunable_weights(model), optimizer, sparsity, allocation, CHANNELS)
    return model, optimizer, denoiser


def _train(model, optimizer, seed=0):
    inputs = torch.randn(5, 8, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    (model(inputs) - 1).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("allocation", ["erk", "live", "uniform", "global"])
def test_weight_counts_are_exact_while_the_sparsity_rises(allocation):
    model, optimizer, denoiser = _weights(0.3, allocation)
    for event, sparsity in enumerate([0.3, 0.45, 0.6, 0.6]):
        _train(model, optimizer, event)
        denoiser.accumulate()
        before = {name: mask.clone() for name, mask in denoiser.mask.items()}
        grown = denoiser.swap(0.3, sparsity)
        assert denoiser.mask.num_kept == 72 - num_removed(72, sparsity)
        fresh = {name: mask & ~before[name] for name, mask in denoiser.mask.items()}
        assert grown == sum(int(mask.sum()) for mask in fresh.values())
        for name, weight in prunable_weights(model).items():
            assert torch.count_nonzero(weight[~denoiser.mask[name]]) == 0
            assert torch.count_nonzero(weight[fresh[name]]) == 0


def test_weights_regrow_where_the_summed_gradient_is_largest():
    model, _, denoiser = _weights(0.5)
    weight = model[0].weight
    pruned = ~denoiser.mask["0.weight"]
    favourite = pruned.nonzero()[-1].tolist()
    for sign in (1.0, 1.0):
        weight.grad = torch.full_like(weight, 0.1)
        weight.grad[tuple(favourite)] = sign * 0.3
        denoiser.accumulate()
    denoiser.swap(0.05, 0.5)
    assert denoiser.mask["0.weight"][tuple(favourite)]


def test_gradients_of_an_earlier_interval_are_forgotten():
    model, _, denoiser = _weights(0.5)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    denoiser.accumulate()
    denoiser.swap(0.3, 0.5)
    assert denoiser._gradients == {}


def test_a_removed_weight_denoiser_holds_nothing_down():
    model, optimizer, denoiser = _weights(0.5)
    denoiser.remove()
    for seed in range(3):
        _train(model, optimizer, seed)
    assert torch.count_nonzero(model[0].weight) > denoiser.mask["0.weight"].sum()


def _groups():
    data = graph(30)
    return EdgeGroups.from_edge_index(data.edge_index, data.num_nodes)


@pytest.mark.parametrize("sparsity", [0.0, 0.29, 0.5, 0.98])
def test_edges_are_cut_to_exactly_the_sparsity_by_score(sparsity):
    groups = _groups()
    score = torch.arange(groups.num_groups).float()
    mask = EdgeDenoiser(groups, sparsity, score).mask
    kept = groups.num_groups - num_removed(groups.num_groups, sparsity)
    assert mask.num_kept == num_kept_groups(groups, sparsity) == kept
    assert mask.keep[-kept:].all()


def test_a_budget_that_empties_the_graph_is_refused_and_an_empty_graph_is_not():
    edge_index = torch.tensor([[0, 1], [1, 0]])
    one = EdgeGroups.from_edge_index(edge_index, 2)
    assert num_kept_groups(one, 0.99) == 1
    none = EdgeGroups.from_edge_index(edge_index[:, :0], 2)
    assert num_kept_groups(none, 0.9) == 0
    with pytest.raises(BudgetError, match="edge_sparsity must be in"):
        num_kept_groups(one, 1.0)


def test_trained_gates_are_0_where_pruned_and_regrow_at_the_mean_of_the_kept():
    groups = _groups()
    gate = nn.Parameter(torch.linspace(0.5, 1.5, groups.num_groups))
    optimizer = torch.optim.Adam([gate], lr=0.1)
    denoiser = EdgeDenoiser(groups, 0.5, gate.detach(), gate, optimizer)
    gate.sum().backward()
    optimizer.step()
    old = denoiser.mask.keep
    assert torch.count_nonzero(gate[~old]) == 0
    mean = float(gate.detach()[old].mean())
    swapped = denoiser.swap(0.3, 0.5, gate.detach().abs(), torch.rand(groups.num_groups))
    new = denoiser.mask.keep
    grown = new & ~old
    assert swapped == int(grown.sum()) > 0
    assert gate.detach()[grown].tolist() == pytest.approx([mean] * swapped)
    assert torch.count_nonzero(gate[~new]) == 0
    state = optimizer.state[gate]
    assert torch.count_nonzero(state["exp_avg"][grown]) == 0
