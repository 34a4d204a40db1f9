"""Words, slices of budgets and layouts behind the report."""

from __future__ import annotations

import math

import pytest
from sample_cells import cell

from fastglt.report import wording
from fastglt.report.figures.neighbourhood import layout, proper_edges
from fastglt.report.figures.sparsity_axis import SparsityAxis
from fastglt.report.harm import by_leading_number, harm
from fastglt.report.pruned import degrees
from fastglt.report.records import Analysis, analysis
from fastglt.report.slices import lanes
from fastglt.study.statistics import interval


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.344, "+0.34"), (-1.5, "−1.50"), (-0.004, "0.00"), (0.004, "0.00"), (-1234.5, "−1,234.50")],
)
def test_signed(value, text):
    assert wording.signed(value) == text


def test_a_single_value_has_no_interval():
    assert wording.plus_minus(interval([81.5])) == "81.50"
    assert wording.bounds(interval([81.5])) == "no interval"
    assert wording.plus_minus(interval([1.0, 1.0])) == "1.00 ± 0.00"


@pytest.mark.parametrize(
    ("edges", "weights", "text"),
    [
        (0.3, 0.0, "30 % of edges removed"),
        (0.0, 0.995, "99.5 % of weights removed"),
        (0.29, 0.9, "29 % of edges and 90 % of weights removed"),
        (0.0, 0.0, "nothing removed"),
    ],
)
def test_budget(edges, weights, text):
    assert wording.budget(edges, weights) == text


def test_large_numbers():
    assert wording.large(2_012_345_678) == "2.01 G"
    assert wording.large(999_999) == "1.00 M"
    assert wording.large(12) == "12.0"
    assert wording.size(8_023_456) == "8.02 MB"


def test_lanes_are_budgets_that_differ_on_one_axis():
    grid = [(0.0, 0.9), (0.0, 0.95), (0.3, 0.9)]
    assert lanes(grid) == [
        ("edges", 0.9, [(0.0, 0.9), (0.3, 0.9)]),
        ("weights", 0.0, [(0.0, 0.9), (0.0, 0.95)]),
    ]
    assert lanes([(0.5, 0.98), (0.1, 0.9)]) == [("joint", None, [(0.1, 0.9), (0.5, 0.98)])]
    assert lanes([(0.1, 0.9)]) == []


def test_close_sparsities_lie_apart_where_densities_differ_much():
    axis = SparsityAxis([0.5, 0.9, 0.99, 0.999])
    places = [axis.at(sparsity) for sparsity in (0.9, 0.99, 0.999)]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1])
    assert SparsityAxis([0.1, 0.5]).at(0.1) == 0.1


def test_groups_are_averaged_over_seeds():
    def one(ticket):
        group = {"name": "3-4", "nodes": 10, "dense": 0.8, "ticket": ticket}
        return Analysis.model_validate({"groups": {"degree": [group]}})

    (mean,) = harm([one(0.7), one(0.8)])["degree"]
    assert mean.dense == pytest.approx(80)
    assert mean.ticket == pytest.approx(75)
    assert mean.change.mean == pytest.approx(-5)
    assert mean.change.low < -10


def test_ranges_are_in_the_order_of_their_numbers():
    names = ["129-256", "3-4", "0", "17-32", "other", "0.2-0.4"]
    assert sorted(names, key=by_leading_number) == [
        "0",
        "0.2-0.4",
        "3-4",
        "17-32",
        "129-256",
        "other",
    ]


def test_degree_counts_add_up_to_all_nodes():
    found = degrees([analysis(cell(seed=seed)) for seed in range(3)])
    assert sum(each.before for each in found) == pytest.approx(2708)
    assert sum(each.after for each in found) == pytest.approx(2708)


def test_the_layout_is_the_same_every_time_and_no_nodes_coincide():
    part = analysis(cell()).neighbourhood
    positions = layout(part)
    assert positions == layout(part)
    assert len(set(positions)) == len(part.nodes)
    assert all(math.isfinite(x) and math.isfinite(y) for x, y in positions)


def test_edges_to_nowhere_and_to_oneself_are_not_drawn():
    part = analysis(cell()).neighbourhood.model_copy(
        update={"edges": [(0, 1, True), (2, 2, True), (0, 99, False), (-1, 0, True)]}
    )
    assert proper_edges(part) == [(0, 1, True)]
    assert len(layout(part)) == len(part.nodes)
