"""The search for the highest sparsity that wins, against a border that is known."""

from __future__ import annotations

import math

import pytest

from fastglt.study.frontier import FIRST, LAST, search, sparsities

AXES = ("edges", "weights", "joint")
WIN, LOSE = (0.1, 0.0, -0.1), (-5.0, -5.1, -4.9)


def border_at(axis, rounds):
    """Tickets win up to that many rounds."""
    tried = []

    def validate(edge_sparsity, weight_sparsity):
        tried.append((edge_sparsity, weight_sparsity))
        limit = sparsities(axis, rounds)
        return WIN if edge_sparsity <= limit[0] and weight_sparsity <= limit[1] else LOSE

    return validate, tried


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("resolution", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("border", [1.0, 3.3, 4.0, 7.9, 8.1, 13.0, 21.7, 31.9, 45.0, 63.0])
def test_finds_the_border_within_the_resolution(axis, resolution, border):
    validate, tried = border_at(axis, border)
    found = search(axis, validate, 0.5, resolution)
    best = 0.0 if found.best is None else found.best.rounds
    slack = 0.01  # sparsities are rounded
    assert border - resolution - slack < best <= border + slack
    assert len(tried) == len(found.probes)
    assert len(tried) <= 2 + math.log2(LAST / FIRST) + math.log2(LAST / resolution)
    assert all(not probe.passes for probe in found.probes if probe.rounds > best)


@pytest.mark.parametrize("axis", AXES)
def test_what_always_wins_stops_at_the_last(axis):
    found = search(axis, lambda *_: WIN, 0.5, 1.0)
    assert [probe.rounds for probe in found.probes] == [4, 8, 16, 32, 64]
    assert found.best is found.probes[-1]
    assert (found.best.edge_sparsity, found.best.weight_sparsity) == sparsities(axis, LAST)


@pytest.mark.parametrize("differences", [LOSE, None, (-0.25,), (-3.0, 2.4)])
def test_what_never_wins_has_no_best(differences):
    found = search("joint", lambda *_: differences, 0.5, 0.5)
    assert found.best is None
    assert [probe.rounds for probe in found.probes] == [4, 2, 1, 0.5]


def test_an_impossible_budget_is_one_that_does_not_win():
    validate, _ = border_at("joint", 100)
    limit = sparsities("joint", 10)
    found = search("joint", lambda *budget: None if budget > limit else validate(*budget), 0.5, 0.5)
    assert 9.5 < found.best.rounds <= 10
    assert any(probe.test is None for probe in found.probes)
    assert not any(probe.passes for probe in found.probes if probe.test is None)


def test_half_of_the_margin_is_left_to_the_confirmation():
    losses = (-0.9, -1.0, -1.1)
    assert search("edges", lambda *_: losses, 2.0, 1.0).best is None
    found = search("edges", lambda *_: losses, 2.5, 1.0)
    assert found.best.rounds == LAST
    assert found.best.test.margin == 2.5


@pytest.mark.parametrize(
    ("axis", "rounds", "expected"),
    [
        ("edges", 1, (0.05, 0.0)), ("weights", 1, (0.0, 0.2)), ("joint", 1, (0.05, 0.2)),
        ("joint", 4, (0.1855, 0.5904)), ("joint", 20, (0.6415, 0.98847)),
        ("weights", 64, (0.0, 0.9999993723)), ("edges", 0, (0.0, 0.0)),
    ],
)  # fmt: skip
def test_sparsities_are_the_decimals_that_they_print_as(axis, rounds, expected):
    found = sparsities(axis, rounds)
    assert found == expected
    assert all(len(repr(each)) <= len("0.999999XXXX") for each in found)


def test_sparsities_grow_with_the_rounds():
    for axis in AXES:
        found = [sparsities(axis, quarter / 4) for quarter in range(4 * int(LAST) + 1)]
        assert found == sorted(found)
        assert all(0 <= each < 1 for pair in found for each in pair)
