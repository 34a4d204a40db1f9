from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch_geometric.nn import GCN2Conv

import fastglt
from fastglt.allocation import allocate, allocation_names, cut_weights
from fastglt.errors import BudgetError, InputError, ModelError
from fastglt.masks import num_removed, parse_pattern
from fastglt.search import METHODS
from fastglt.search.presets import resolve_settings
from helpers import PRUNING_METHODS, TINY, build, graph

patterns = st.sampled_from(["1:2", "2:4", "3:5", "1:8", "4:4", "1x1", "2x2", "3x4", "8x1", "1x8"])


@st.composite
def scored(draw):
    shape = (draw(st.integers(1, 12)), draw(st.integers(1, 17)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    levels = draw(st.sampled_from([2, 5, 1000]))
    draws = [torch.randint(0, levels, shape, generator=generator) / levels for _ in range(2)]
    return torch.Size(shape), *draws


def _groups(mask, size):
    return [row[start : start + size] for row in mask for start in range(0, len(row), size)]


def _blocks(mask, rows, columns):
    return [
        mask[i : i + rows, j : j + columns]
        for i, j in itertools.product(range(0, mask.size(0), rows), range(0, mask.size(1), columns))
    ]


def _follows(text, mask):
    if ":" in text:
        most, size = map(int, text.split(":"))
        return all(int(group.sum()) <= most for group in _groups(mask, size))
    rows, columns = map(int, text.split("x"))
    cut = [block for block in _blocks(mask, rows, columns) if 0 < block.sum() < block.numel()]
    return len(cut) <= 1


@given(patterns, scored(), st.data())
def test_a_selection_is_exact_and_follows_the_pattern(text, case, data):
    shape, score, _ = case
    pattern = parse_pattern(text)
    count = data.draw(st.integers(0, pattern.capacity(shape)))
    mask = pattern.select(score, count)
    assert int(mask.sum()) == count
    assert _follows(text, mask)
    assert torch.equal(mask, pattern.select(score, count))


@given(scored(), st.data())
def test_of_a_group_only_the_best_are_selected(case, data):
    shape, score, _ = case
    pattern = parse_pattern("2:4")
    mask = pattern.select(score, data.draw(st.integers(0, pattern.capacity(shape))))
    for kept, values in zip(_groups(mask, 4), _groups(score, 4), strict=True):
        order = sorted(range(len(values)), key=lambda place: (-values[place], place))
        assert kept.nonzero().view(-1).tolist() == sorted(order[: int(kept.sum())])


@given(scored())
def test_blocks_are_chosen_by_their_mean(case):
    _, score, _ = case
    pattern = parse_pattern("2x3")
    blocks = _blocks(score, 2, 3)
    best = max(range(len(blocks)), key=lambda place: (blocks[place].double().mean(), -place))
    kept = _blocks(pattern.select(score, blocks[best].numel()), 2, 3)
    assert bool(kept[best].all())


@given(patterns, scored(), st.floats(0, 1), st.data())
def test_a_swap_follows_the_pattern_and_hits_its_target(text, case, share, data):
    shape, first, second = case
    pattern = parse_pattern(text)
    room = pattern.capacity(shape)
    keep = pattern.select(first, data.draw(st.integers(0, room)))
    target = data.draw(st.integers(0, room))
    found = pattern.swap(keep, first, second, share, target)
    assert int(found.sum()) == target
    assert _follows(text, found)


@given(patterns, scored(), st.data())
def test_a_swap_of_nothing_changes_nothing(text, case, data):
    shape, first, second = case
    pattern = parse_pattern(text)
    keep = pattern.select(first, data.draw(st.integers(0, pattern.capacity(shape))))
    assert torch.equal(pattern.swap(keep, second, first, 0.0, int(keep.sum())), keep)


def test_a_swap_moves_weights_where_there_is_room():
    keep = torch.tensor([[1, 1, 0, 0, 1, 0, 0, 0]], dtype=torch.bool)
    drop = torch.tensor([[5.0, 4, 0, 0, 1, 0, 0, 0]])
    grow = torch.tensor([[0, 0, 9.0, 8, 0, 1, 7, 0]])
    # The first group is full, so the best there is to regrow is in the second.
    found = parse_pattern("2:4").swap(keep, drop, grow, 0.34, 3)
    assert found.tolist() == [[True, True, False, False, False, False, True, False]]
    wide = parse_pattern("1x4").swap(keep, drop, grow, 0.5, 4)
    assert wide.tolist() == [[True, True, True, True, False, False, False, False]]


def test_vectors_and_tensors_of_more_dimensions_are_read_by_rows():
    vector = parse_pattern("1:4").select(torch.arange(8.0), 2)
    assert vector.nonzero().view(-1).tolist() == [3, 7]
    cube = parse_pattern("1:6").select(torch.arange(24.0).view(2, 3, 4), 4)
    assert cube.shape == (2, 3, 4)
    assert int(cube.sum()) == 4
    assert int(parse_pattern("1x6").select(torch.rand(2, 3, 4), 6).view(4, 6).all(dim=1).sum()) == 1


@given(patterns, st.sampled_from(allocation_names()), st.integers(0, 99))
def test_a_cut_of_several_layers_is_exact(text, rule, seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": torch.Size([12, 17]), "b": torch.Size([5, 12])}
    scores = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    pattern = parse_pattern(text)
    total = sum(score.numel() for score in scores.values())
    try:
        mask, counts = cut_weights(scores, 0.9, rule, pattern)
    except BudgetError:
        assume(rule != "global")  # which may leave a layer without any
        raise
    assert mask.num_kept == total - num_removed(total, 0.9) == sum(counts.values())
    assert all(_follows(text, keep) for keep in mask.values())
    if rule != "global":
        assert counts == allocate(shapes, 0.9, rule, pattern)


def test_layers_take_no_more_than_the_pattern_lets_them_hold():
    shapes = {"big": torch.Size([100, 100]), "small": torch.Size([2, 8])}
    counts = allocate(shapes, 0.9, "erk", parse_pattern("1:4"))
    assert counts["small"] == 4
    assert sum(counts.values()) == 1002


@pytest.mark.parametrize("rule", ["erk", "global"])
def test_a_pattern_that_cannot_hold_the_budget_is_refused(rule):
    scores = {"a": torch.rand(8, 8)}
    with pytest.raises(BudgetError, match=r"keeps 48 weights, more than the 32 .* at least 0.5"):
        cut_weights(scores, 0.25, rule, parse_pattern("2:4"))


@pytest.mark.parametrize("text", ["4:2", "0:4", "2x0", "2:4:8", "blocks", "", " 2:4", "-1x4"])
def test_what_is_no_pattern_is_refused(text):
    with pytest.raises(InputError, match="weight_pattern must be 'none'"):
        resolve_settings({"weight_pattern": text})


def _find(**settings):
    data = graph()
    return fastglt.find(build("gcn", data), data, **{**TINY, **settings})


@pytest.mark.parametrize("method", PRUNING_METHODS)
@pytest.mark.parametrize("text", ["1:4", "2x2"])
def test_methods_follow_the_pattern_or_refuse_it(method, text):
    settings = {"method": method, "weight_pattern": text, "weight_sparsity": 0.8}
    if METHODS[method].prunes_in_rounds:
        with pytest.raises(BudgetError, match="prunes in rounds"):
            resolve_settings(settings)
        return
    masks = _find(**settings).weight_masks.values()
    assert all(_follows(text, keep) for keep in masks)
    total = sum(keep.numel() for keep in masks)
    assert sum(int((~keep).sum()) for keep in masks) == num_removed(total, 0.8)


@pytest.mark.parametrize("text", ["1:4", "2x2"])
def test_denoising_swaps_within_the_pattern(text):
    ticket = _find(weight_pattern=text, weight_sparsity=0.8, denoise_steps=22)
    assert all(_follows(text, keep) for keep in ticket.weight_masks.values())
    assert any(event["weights_swapped"] for event in ticket.history)


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"edge_sparsity": 0.3}, InputError, "weight_sparsity must be above 0"),
        ({"max_drop": 1.0, "axis": "weights"}, InputError, "starts from low sparsities"),
        ({"weight_sparsity": 0.3, "allocation": "global"}, BudgetError, "at least 0.5"),
        (
            {"weight_sparsity": 0.8, "warmup_start": 0.5, "warmup_events": 1},
            BudgetError,
            "warmup_start=0.5 begins at too low a sparsity",
        ),
    ],
)
def test_what_a_pattern_has_no_room_for_is_refused_before_training(settings, error, match):
    class Untrained(fastglt.Callback):
        def on_phase_start(self, phase, total):
            raise AssertionError(phase)

    with pytest.raises(error, match=match):
        _find(weight_pattern="2:4", callback=Untrained(), **settings)


def test_rows_that_are_no_outputs_are_refused():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encode = torch.nn.Linear(12, 8)
            self.conv = GCN2Conv(8, 0.1)
            self.head = torch.nn.Linear(8, 3)

        def forward(self, x, edge_index):
            hidden = self.encode(x)
            return self.head(self.conv(hidden, hidden, edge_index))

    given = TINY | {"weight_sparsity": 0.8, "weight_pattern": "2:4"}
    with pytest.raises(ModelError, match=r"'conv\.weight1' of GCN2Conv.*exclude='conv\.weight1'"):
        fastglt.find(Net(), graph(), **given)
    ticket = fastglt.find(Net(), graph(), exclude="conv.*", **given)
    assert all(_follows("2:4", keep) for keep in ticket.weight_masks.values())


def test_groups_that_are_wider_than_a_row_take_no_memory():
    assert int(parse_pattern("1:900000000").select(torch.rand(64, 32), 64).sum()) == 64


def test_the_sparsity_that_a_refusal_proposes_has_room():
    shapes = {"a": torch.Size((512, 1433)), "b": torch.Size((7, 512))}
    for text in ("1:3", "1:6", "1:7", "1:9"):
        with pytest.raises(BudgetError) as caught:
            allocate(shapes, 0.5, "erk", parse_pattern(text))
        allocate(shapes, float(str(caught.value).rpartition(" ")[2]), "erk", parse_pattern(text))
