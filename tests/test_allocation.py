from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from fastglt.allocation import (
    RULES,
    allocate,
    allocate_live,
    allocation_names,
    cut_weights,
    live_shapes,
    shrink,
)
from fastglt.errors import BudgetError, UnknownNameError
from fastglt.masks import ChannelGroup, WeightMask, num_removed, select_top

shape_maps = st.lists(
    st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=5
).map(lambda shapes: {f"layer{i}": torch.Size(shape) for i, shape in enumerate(shapes)})
sparsities = st.decimals("0", "0.99", places=2).map(float)


def _allocate_or_skip(shapes, sparsity, rule):
    try:
        return allocate(shapes, sparsity, rule)
    except BudgetError:
        assume(False)


@given(shape_maps, sparsities, st.sampled_from(sorted(RULES)))
def test_counts_sum_to_the_budget_and_fit_their_layers(shapes, sparsity, rule):
    counts = _allocate_or_skip(shapes, sparsity, rule)
    total = sum(math.prod(shape) for shape in shapes.values())
    assert sum(counts.values()) == total - num_removed(total, sparsity)
    assert counts.keys() == shapes.keys()
    for name, count in counts.items():
        assert 0 < count <= math.prod(shapes[name])


@given(shape_maps, sparsities)
def test_uniform_is_the_largest_remainder_of_equal_shares(shapes, sparsity):
    counts = _allocate_or_skip(shapes, sparsity, "uniform")
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    total = sum(sizes.values())
    budget = total - num_removed(total, sparsity)
    quotas = {name: Fraction(size * budget, total) for name, size in sizes.items()}
    assert all(abs(counts[name] - quotas[name]) < 1 for name in shapes)
    rounded_up = [quotas[n] % 1 for n in shapes if counts[n] > math.floor(quotas[n])]
    rounded_down = [quotas[n] % 1 for n in shapes if counts[n] == math.floor(quotas[n])]
    if rounded_up and rounded_down:
        assert min(rounded_up) >= max(rounded_down)


@given(shape_maps, sparsities)
def test_erk_densities_follow_the_rule_up_to_the_cap(shapes, sparsity):
    counts = _allocate_or_skip(shapes, sparsity, "erk")
    rule = RULES["erk"](shapes)
    scales = {}
    for name, shape in shapes.items():
        size = math.prod(shape)
        if counts[name] < size - 1:
            # Rounding moves a count by less than 1.
            scales[name] = (
                (counts[name] - 1) / size / float(rule[name]),
                (counts[name] + 1) / size / float(rule[name]),
            )
    for low, _ in scales.values():
        assert all(low <= high for _, high in scales.values())


def test_erk_keeps_small_layers_denser():
    shapes = {"big": torch.Size([512, 1433]), "small": torch.Size([7, 512])}
    counts = allocate(shapes, 0.95, "erk")
    density = {name: count / math.prod(shapes[name]) for name, count in counts.items()}
    assert density["small"] > density["big"]
    uniform = allocate(shapes, 0.95, "uniform")
    assert uniform["small"] < counts["small"]


def test_a_capped_layer_is_full_and_the_rest_takes_the_remainder():
    shapes = {"big": torch.Size([100, 100]), "tiny": torch.Size([1, 2])}
    counts = allocate(shapes, 0.5, "erk")
    assert counts["tiny"] == 2
    assert sum(counts.values()) == 10002 - 5001


def test_erk_keeps_single_numbers():
    shapes = {"matrix": torch.Size([50, 50]), "epsilon": torch.Size([]), "one": torch.Size([1])}
    counts = allocate(shapes, 0.9, "erk")
    assert counts["epsilon"] == counts["one"] == 1


@pytest.mark.parametrize("rule", ["uniform", "erk"])
def test_nothing_is_removed_at_sparsity_0(rule):
    shapes = {"a": torch.Size([3, 5]), "b": torch.Size([2, 2])}
    assert allocate(shapes, 0.0, rule) == {"a": 15, "b": 4}


def test_an_emptied_layer_is_named():
    shapes = {"encoder.weight": torch.Size([100, 100]), "head.weight": torch.Size([1, 1])}
    with pytest.raises(BudgetError, match=r"'head.weight' without any of its 1 weights"):
        allocate(shapes, 0.9, "uniform")
    scores = {"loud": torch.ones(10, 10), "quiet": torch.zeros(2, 2)}
    with pytest.raises(BudgetError, match="'quiet'"):
        cut_weights(scores, 0.5, "global")


def test_an_unknown_rule_is_answered_with_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"allocation 'erq'.*did you mean 'erk'.*global"):
        allocate({"a": torch.Size([2, 2])}, 0.5, "erq")
    assert set(allocation_names()) == {"live", "erk", "uniform", "global"}


@given(shape_maps, sparsities, st.integers(0, 99), st.sampled_from(["uniform", "erk"]))
def test_cut_keeps_the_best_of_each_layer(shapes, sparsity, seed, rule):
    counts = _allocate_or_skip(shapes, sparsity, rule)
    generator = torch.Generator().manual_seed(seed)
    scores = {name: torch.randint(0, 5, s, generator=generator) / 4 for name, s in shapes.items()}
    mask, kept = cut_weights(scores, sparsity, rule)
    assert kept == counts
    for name, score in scores.items():
        assert torch.equal(mask[name], select_top(score, counts[name]))


@given(shape_maps, sparsities, st.integers(0, 99))
def test_the_global_cut_is_a_top_k_of_everything(shapes, sparsity, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = {name: torch.rand(s, generator=generator) for name, s in shapes.items()}
    try:
        mask, counts = cut_weights(scores, sparsity, "global")
    except BudgetError:
        assume(False)
    flat = torch.cat([score.flatten() for score in scores.values()])
    kept = flat.numel() - num_removed(flat.numel(), sparsity)
    assert sum(counts.values()) == kept
    found = torch.cat([mask[name].flatten() for name in scores])
    assert torch.equal(found, select_top(flat, kept))


@given(
    st.dictionaries(st.sampled_from("abcde"), st.integers(1, 500), min_size=1),
    st.floats(0, 1),
)
def test_shrink_scales_all_counts_alike(counts, share):
    total = sum(counts.values())
    budget = int(share * total)
    small = shrink(counts, budget)
    assert sum(small.values()) == budget
    for name, count in counts.items():
        assert abs(small[name] - count * budget / total) <= 1
        assert small[name] <= count


def _chain(kept_rows, kept_columns):
    """Two layers of 4 channels between 6 inputs and 2 outputs."""
    first, second = torch.zeros(4, 6, dtype=torch.bool), torch.zeros(2, 4, dtype=torch.bool)
    first[kept_rows, 0] = True
    second[0, kept_columns] = True
    mask = WeightMask({"first": first, "second": second, "other": torch.ones(3, dtype=torch.bool)})
    return mask, [ChannelGroup(4, ("first",), {"second": torch.arange(4)})]


def test_rows_and_columns_of_dead_channels_are_not_counted():
    mask, groups = _chain([0, 1, 2], [1, 2, 3])
    assert live_shapes(mask, groups) == {"first": (2, 6), "second": (2, 2), "other": (3,)}
    assert live_shapes(mask, []) == {"first": (4, 6), "second": (2, 4), "other": (3,)}
    partial = [ChannelGroup(4, ("first",), {"second": torch.tensor([0, 1, -1, -1])})]
    # Nothing reads channels 2 and 3, and columns 2 and 3 read something else.
    assert live_shapes(mask, partial)["second"] == (2, 3)


def test_a_layer_that_is_not_pruned_keeps_its_channels_alive():
    mask, groups = _chain([0, 1], [1, 2])
    del mask.masks["first"]
    assert live_shapes(mask, groups)["second"] == (2, 2)


def test_what_dead_channels_leave_goes_to_others():
    mask, groups = _chain([0, 1], [0, 1])
    sparsity = 0.5  # of 24 + 8 + 3 weights
    counts = allocate_live(mask, groups, sparsity)
    assert sum(counts.values()) == 35 - num_removed(35, sparsity)
    assert counts["second"] <= 4
    assert counts["first"] <= 12
    assert counts["first"] > allocate({n: m.shape for n, m in mask.items()}, sparsity)["first"]


def test_where_what_is_alive_cannot_hold_the_budget_all_counts():
    mask, groups = _chain([0], [0])
    shapes = {name: keep.shape for name, keep in mask.items()}
    assert allocate_live(mask, groups, 0.1) == allocate(shapes, 0.1, "live")


@given(st.data())
def test_the_budget_is_met_whatever_is_alive(data):
    width = data.draw(st.integers(1, 6))
    alive = [data.draw(st.lists(st.booleans(), min_size=width, max_size=width)) for _ in range(2)]
    first = torch.tensor(alive[0])[:, None].repeat(1, 5)
    second = torch.tensor(alive[1])[None].repeat(3, 1)
    mask = WeightMask({"first": first, "second": second})
    groups = [ChannelGroup(width, ("first",), {"second": torch.arange(width)})]
    sparsity = data.draw(st.floats(0, 0.7))
    counts = allocate_live(mask, groups, sparsity)
    assert sum(counts.values()) == mask.num_weights - num_removed(mask.num_weights, sparsity)
    assert all(0 < counts[name] <= keep.numel() for name, keep in mask.items())
