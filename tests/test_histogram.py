"""The exact cut of scores by histograms, against a stable sort."""

from __future__ import annotations

import math
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastglt.masks import Cut, histogram, select_top, selection, swap
from peak_memory import LINUX, peak_bytes

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")


def oracle(score, count, among=None):
    """The mask by a stable sort of Python's numbers."""
    values = score.tolist()
    there = [i for i in range(len(values)) if among is None or among[i]]
    result = torch.zeros(len(values), dtype=torch.bool)
    result[sorted(there, key=lambda i: -values[i])[:count]] = True
    return result


def in_parts(parts, count, pools=None):
    """The mask of scores in several pieces, as processes would find it that exchange counts."""
    pools = pools or [None] * len(parts)
    pairs = list(zip(parts, pools, strict=True))
    cut = Cut.start(parts[0].dtype, count)
    while not cut.is_final:
        cut = cut.narrowed(torch.stack([cut.counts(*pair) for pair in pairs]).sum(0))
    masks, left = [], cut.wanted
    for part, pool in pairs:
        own = min(left, cut.num_ties(part, pool))
        masks.append(cut.mask(part, own, pool))
        left -= own
    return torch.cat(masks)


@st.composite
def scores(draw, dtypes=(*FLOATS, *INTEGERS)):
    """Scores of one type, with ties, infinities, signed zeros and denormals among them."""
    dtype = draw(st.sampled_from(dtypes))
    if not dtype.is_floating_point:
        bounds = (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
        element = st.sampled_from([0, 1, bounds[0], bounds[1]]) | st.integers(*bounds)
        return torch.tensor(draw(st.lists(element, max_size=40)), dtype=dtype)
    limits = torch.finfo(dtype)
    special = [0.0, 1.0, math.inf, limits.max, limits.tiny, limits.smallest_normal / 2]
    special += [limits.smallest_normal * limits.eps, 1.0 + limits.eps]
    element = st.sampled_from(special + [-value for value in special])
    element |= st.floats(-1e4, 1e4, width=16)
    values = draw(st.lists(element, max_size=40))
    return torch.tensor(values, dtype=torch.float64).to(dtype)


@given(scores(), st.data())
def test_histograms_select_what_a_stable_sort_selects(score, draw):
    among = torch.tensor(draw.draw(st.lists(st.booleans(), **_size(score))), dtype=torch.bool)
    pool = draw.draw(st.sampled_from([None, among]))
    size = len(score) if pool is None else int(pool.sum())
    count = draw.draw(st.integers(0, size))
    with mock.patch.dict(histogram._CHUNK, cpu=7), mock.patch.object(selection, "_MANY", 0):
        found = select_top(score, count, pool)
    assert torch.equal(found, oracle(score, count, pool))
    assert torch.equal(select_top(score, count, pool), found)


def _size(score):
    return {"min_size": len(score), "max_size": len(score)}


@given(scores(), st.data())
def test_parts_whose_counts_are_added_up_give_the_mask_of_the_whole(score, draw):
    count = draw.draw(st.integers(0, len(score)))
    borders = sorted(draw.draw(st.lists(st.integers(0, len(score)), max_size=3)))
    parts = list(torch.tensor_split(score, borders))
    assert torch.equal(in_parts(parts, count), oracle(score, count))


@given(scores(), st.data())
def test_parts_may_have_entries_that_do_not_count(score, draw):
    among = torch.tensor(draw.draw(st.lists(st.booleans(), **_size(score))), dtype=torch.bool)
    count = draw.draw(st.integers(0, int(among.sum())))
    border = draw.draw(st.integers(0, len(score)))
    parts, pools = (torch.tensor_split(each, [border]) for each in (score, among))
    assert torch.equal(in_parts(parts, count, list(pools)), oracle(score, count, among))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [0.0, -0.0, -1.5, math.inf, -math.inf])
def test_equal_scores_are_taken_by_index(dtype, value):
    score = torch.full((1000,), value, dtype=dtype)
    for count in (0, 1, 999, 1000):
        found = in_parts([score], count)
        assert found[:count].all()
        assert not found[count:].any()


@pytest.mark.parametrize("dtype", FLOATS)
def test_zeros_of_both_signs_are_equal(dtype):
    score = torch.tensor([-0.0, 0.0, -0.0, 0.0, -1.0], dtype=dtype)
    assert in_parts([score], 2).tolist() == [True, True, False, False, False]
    assert in_parts([score], 3).tolist() == [True, True, True, False, False]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_nan_is_refused_unless_it_does_not_count(dtype, sign):
    score = torch.tensor([1.0, math.nan, 3.0, math.inf], dtype=dtype) * sign
    with mock.patch.object(selection, "_MANY", 0):
        with pytest.raises(ValueError, match="NaN"):
            select_top(score, 1)
        among = torch.tensor([True, False, True, False])
        assert int(select_top(score, 1, among).sum()) == 1
    assert int(select_top(score, 1, among).sum()) == 1


def test_what_cannot_be_selected_is_refused():
    with pytest.raises(ValueError, match=r"count must be at most 3 \(got 4\)"):
        in_parts([torch.zeros(3)], 4)
    with pytest.raises(ValueError, match=r"real numbers of 8 to 64 bits \(got torch.complex64\)"):
        Cut.start(torch.complex64, 1)
    with pytest.raises(ValueError, match=r"count must be in \[0, 1\] \(got 2\)"):
        select_top(torch.zeros(3), 2, torch.tensor([True, False, False]))


def test_select_top_is_the_same_below_and_above_the_size_where_it_changes():
    generator = torch.Generator().manual_seed(0)
    score = (torch.randn(selection._MANY + 5, generator=generator) * 50).round()
    count = 300_000
    order = np.argsort(-score.numpy(), kind="stable")[:count]
    expected = torch.zeros(len(score), dtype=torch.bool)
    expected[torch.from_numpy(order)] = True
    found = select_top(score, count)
    assert torch.equal(found, expected)
    with mock.patch.object(selection, "_MANY", len(score) + 1):
        assert torch.equal(select_top(score, count), found)


@pytest.mark.parametrize("many", [0, 1 << 20])
def test_swap_is_the_same_on_both_ways_and_keeps_its_counts(many):
    generator = torch.Generator().manual_seed(0)
    drop, grow = (torch.randn(3, 700, generator=generator).round() for _ in range(2))
    keep = select_top(torch.rand(3, 700, generator=generator), 900)
    with mock.patch.object(selection, "_MANY", many):
        found = swap(keep, drop, grow, 0.3, 800)
    assert int((found & ~keep).sum()) == 270
    assert int(found.sum()) == 800
    assert torch.equal(found, swap(keep, drop, grow, 0.3, 800))


def test_scores_in_a_memory_mapped_file_are_cut_without_reading_them_as_a_whole(tmp_path):
    values = np.random.default_rng(0).integers(-50, 50, 300_000).astype(np.float32)
    np.save(tmp_path / "scores.npy", values)
    mapped = torch.from_numpy(np.load(tmp_path / "scores.npy", mmap_mode="c"))
    assert torch.equal(in_parts(list(mapped.split(70_000)), 1234), oracle(mapped, 1234))


@LINUX
@pytest.mark.parametrize("scores", ["torch.rand(n)", "torch.zeros(n).double()"])
def test_many_scores_need_little_memory_beyond_the_result(scores):
    before = f"from fastglt.masks import select_top\nn = 1 << 24\nscore = {scores}"
    # The result has a byte a score; chunks and histograms take some megabytes at any size.
    assert peak_bytes(before, "select_top(score, n // 3)") < 3 * (1 << 24)


@LINUX
def test_a_swap_of_many_needs_a_few_bytes_each():
    before = (
        "from fastglt.masks import swap\n"
        "n = 1 << 24\nkeep = torch.rand(n) < 0.5\ndrop, grow = torch.rand(n), torch.rand(n)"
    )
    assert peak_bytes(before, "swap(keep, drop, grow, 0.3, n // 2)") < 5 * (1 << 24)


@CUDA
@pytest.mark.parametrize("dtype", [*FLOATS, torch.int32, torch.int64])
def test_a_gpu_finds_the_same(dtype):
    generator = torch.Generator().manual_seed(0)
    score = (torch.randn(3_000_000, generator=generator) * 20).to(dtype)
    among = torch.rand(len(score), generator=generator) < 0.7
    for pool in (None, among):
        expected = select_top(score, 1_000_000, pool)
        found = select_top(score.cuda(), 1_000_000, None if pool is None else pool.cuda())
        assert torch.equal(found.cpu(), expected)
