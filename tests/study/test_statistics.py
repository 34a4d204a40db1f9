"""Verdicts err as rarely as they say: on simulated studies, and against SciPy's paired test."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fastglt.study.statistics import (
    LEVEL,
    Verdict,
    interval,
    look_level,
    looks_up_to,
    paired_test,
    rejected,
    verdict,
)

MARGIN = 0.5
STUDIES, SEEDS = 4000, 10
LOOKS = (10, 20, 30)


def limits(rate, studies):
    """Where a share of studies lies in all but one of a million cases."""
    return stats.binom.interval(1 - 1e-6, studies, rate)


@pytest.fixture(scope="module")
def verdicts_at_the_margin():
    rng = np.random.default_rng(20)
    studies = rng.normal(-MARGIN, 0.8, size=(STUDIES, SEEDS))
    return [paired_test(list(differences), MARGIN).verdict() for differences in studies]


@pytest.mark.parametrize("wrong", [Verdict.WINS, Verdict.LOSES])
def test_a_loss_of_exactly_the_margin_is_misjudged_at_the_nominal_rate(
    wrong, verdicts_at_the_margin
):
    low, high = limits(LEVEL, STUDIES)
    assert low <= verdicts_at_the_margin.count(wrong) <= high


def p_values(studies, margin):
    """p-values of "worse by at least the margin" for many studies at once."""
    return stats.ttest_1samp(studies, -margin, axis=-1, alternative="greater").pvalue


def test_growing_studies_err_at_the_nominal_rate_over_all_looks():
    studies, level = 40_000, look_level(LOOKS)
    differences = np.random.default_rng(21).normal(-MARGIN, 1.0, size=(studies, LOOKS[-1]))
    wins = [p_values(differences[:, :look], MARGIN) < level for look in LOOKS]
    low, high = limits(LEVEL, studies)
    assert low <= np.any(wins, axis=0).sum() <= high
    naive = [p_values(differences[:, :look], MARGIN) < LEVEL for look in LOOKS]
    assert np.any(naive, axis=0).mean() > 1.7 * LEVEL, "looking thrice uncorrected must be caught"


def test_the_fast_p_values_above_are_those_of_the_paired_test():
    differences = np.random.default_rng(22).normal(size=(5, 10))
    for study, p_value in zip(differences, p_values(differences, MARGIN), strict=True):
        assert paired_test(list(study), MARGIN).p_win == pytest.approx(p_value)


def test_holm_keeps_the_rate_of_a_family_of_which_some_are_true():
    studies, true, false = 4000, 6, 4
    rng = np.random.default_rng(23)
    at_margin = p_values(rng.normal(-MARGIN, 1.0, size=(studies, true, SEEDS)), MARGIN)
    better = p_values(rng.normal(3.0, 1.0, size=(studies, false, SEEDS)), MARGIN)
    shown = np.array([rejected(list(row), (SEEDS,)) for row in np.hstack([at_margin, better])])
    any_wrong = shown[:, :true].any(axis=1)
    assert any_wrong.sum() <= limits(LEVEL, studies)[1]
    assert any_wrong.mean() > LEVEL / 2, "nor is it needlessly strict"
    assert shown[:, true:].mean() > 0.99


@pytest.mark.parametrize("rows", [1, 5, 10])
def test_a_family_looked_at_several_times_keeps_its_rate(rows):
    studies = 3000
    rng = np.random.default_rng(rows)
    differences = rng.normal(-MARGIN, 1.0, size=(studies, rows, LOOKS[-1]))
    wrong = np.zeros(studies, dtype=bool)
    for look in LOOKS:
        values = p_values(differences[:, :, :look], MARGIN)
        wrong |= np.array([any(rejected(list(row), LOOKS)) for row in values])
    assert wrong.sum() <= limits(LEVEL, studies)[1]
    assert wrong.mean() > LEVEL / 2, "nor is it needlessly strict"


@pytest.mark.parametrize("margin", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("count", [2, 5, 30])
def test_agrees_with_the_paired_test_of_scipy(count, margin):
    rng = np.random.default_rng(count)
    ticket, dense = rng.normal(80, 1, count), rng.normal(80.3, 1, count)
    test = paired_test(list(ticket - dense), margin)
    for p_value, bound, side in (
        (test.p_win, test.lower_bound, "greater"),
        (test.p_lose, test.upper_bound, "less"),
    ):
        oracle = stats.ttest_rel(ticket, dense - margin, alternative=side)
        assert p_value == pytest.approx(oracle.pvalue)
        ends = stats.ttest_rel(ticket, dense, alternative=side).confidence_interval(0.95)
        assert bound == pytest.approx(ends.low if side == "greater" else ends.high)
    both = stats.ttest_rel(ticket, dense).confidence_interval(0.95)
    assert (test.difference.low, test.difference.high) == pytest.approx((both.low, both.high))
    assert test.difference.half_width == pytest.approx((both.high - both.low) / 2)


def test_a_win_is_a_lower_bound_above_the_margin_and_a_loss_an_upper_bound_below():
    rng = np.random.default_rng(24)
    seen = set()
    for _ in range(300):
        test = paired_test(list(rng.normal(rng.uniform(-2, 1), 0.8, 8)), MARGIN)
        expected = Verdict.INCONCLUSIVE
        if test.lower_bound > -MARGIN:
            expected = Verdict.WINS
        elif test.upper_bound < -MARGIN:
            expected = Verdict.LOSES
        assert test.verdict() is expected
        seen.add(expected)
    assert seen == set(Verdict)


def test_one_seed_shows_nothing():
    test = paired_test([5.0], MARGIN)
    assert test.verdict() is Verdict.INCONCLUSIVE
    assert (test.difference.low, test.lower_bound) == (-math.inf, -math.inf)


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([0.0] * 5, Verdict.WINS),
        ([-0.4] * 5, Verdict.WINS),
        ([-0.6] * 5, Verdict.LOSES),
        ([-0.5] * 5, Verdict.INCONCLUSIVE),
        ([100 * (0.795 - 0.8)] * 5, Verdict.INCONCLUSIVE),  # -0.5 but for rounding
        ([100 * (0.695 - 0.7), *[-0.5] * 4], Verdict.INCONCLUSIVE),
    ],
)
def test_differences_without_any_spread(differences, expected):
    assert paired_test(differences, MARGIN).verdict() is expected


def test_a_verdict_needs_a_test_that_shows_something():
    assert verdict(False, False) is Verdict.INCONCLUSIVE
    assert verdict(True, False) is Verdict.WINS
    assert verdict(False, True) is Verdict.LOSES


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [True, False, False, True]),
        ([0.05], [False]),
        ([0.049], [True]),
        ([0.02, 0.03], [True, True]),
        ([0.03, 0.03], [False, False]),
        ([0.9, 0.6], [False, False]),
        ([], []),
    ],
)
def test_step_down_by_hand(p_values, expected):
    assert rejected(p_values, (10,)) == expected


def test_look_levels():
    assert look_level((10,)) == LEVEL
    # Pocock's nominal levels for evenly spaced looks, one-sided 0.05, from tables of his boundary.
    assert look_level((10, 20)) == pytest.approx(stats.norm.sf(1.875), abs=3e-4)
    assert look_level(LOOKS) == pytest.approx(stats.norm.sf(1.992), abs=3e-4)
    assert look_level(LOOKS) == look_level(LOOKS), "the same whenever it is asked for"
    assert look_level((10, 11)) > look_level((10, 40)) > LEVEL / 2


@pytest.mark.parametrize(
    ("first", "last", "looks"),
    [
        (10, 30, (10, 20, 30)), (10, 25, (10, 20, 25)), (10, 10, (10,)), (10, 11, (10, 11)),
        (1, 3, (1, 2, 3)),
    ],
)  # fmt: skip
def test_looks(first, last, looks):
    assert looks_up_to(first, last) == looks


def test_an_interval_covers_as_often_as_it_says():
    values = np.random.default_rng(25).normal(3.0, 2.0, size=(1500, 6))
    covered = sum(
        each.low <= 3.0 <= each.high for each in (interval(list(study)) for study in values)
    )
    low, high = limits(0.95, 1500)
    assert low <= covered <= high


@pytest.mark.parametrize("looks", [(5, 10), (3, 30), (10, 20, 30), (2, 4, 6, 8)])
@pytest.mark.parametrize("level", [0.05, 0.005])
def test_levels_of_looks_agree_with_the_joint_distribution(looks, level):
    rate = look_level(looks, level)
    counts = np.asarray(looks, dtype=float)
    correlation = np.sqrt(np.minimum.outer(counts, counts) / np.maximum.outer(counts, counts))
    joint = stats.multivariate_normal(cov=correlation, seed=0)
    bound = np.full(len(looks), stats.norm.isf(rate))
    assert 1 - joint.cdf(bound) == pytest.approx(level, rel=2e-3)


def test_many_looks_take_no_time_and_more_of_them_a_lower_rate():
    rates = [look_level(tuple(range(1, last + 1))) for last in (2, 5, 15, 30)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.0070625, rel=1e-4)  # with four times the nodes
