"""Paired comparisons over seeds. Differences and margins are in points, hundredths of a metric.

The tests are SciPy's. A ticket *wins* at a margin if it is shown not to be worse than what it is
compared with by as much as the margin (a one-sided paired t-test of non-inferiority); it *loses*
if it is shown to be worse by more than that; else the comparison is inconclusive.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

import numpy as np
from scipy import optimize, stats

LEVEL = 0.05
"""Error rate of a verdict."""


class Verdict(str, Enum):
    """What a comparison shows."""

    WINS = "wins"
    LOSES = "loses"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its two-sided 95 % confidence interval.

    Attributes:
        num: Number of values.
        mean: Their mean.
        low: Lower end of the interval; ``-inf`` of a single value.
        high: Upper end.
    """

    num: int
    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """What to write after the ±."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class PairedTest:
    """A ticket against a reference, over pairs of the same seed and split, in points.

    Attributes:
        difference: Ticket minus reference.
        margin: Largest loss that still counts as none.
        lower_bound: One-sided 95 % lower bound of the mean difference.
        upper_bound: One-sided 95 % upper bound.
        p_win: p-value of "worse by at least the margin"; low shows that the ticket wins.
        p_lose: p-value of "not worse by more than the margin"; low shows that it loses.
    """

    difference: Interval
    margin: float
    lower_bound: float
    upper_bound: float
    p_win: float
    p_lose: float

    def verdict(self, level: float = LEVEL) -> Verdict:
        """The verdict at an error rate, without correction for other comparisons."""
        return verdict(self.p_win < level, self.p_lose < level)


def verdict(wins: bool, loses: bool) -> Verdict:
    """What two tests show, which cannot both show something."""
    if wins:
        return Verdict.WINS
    return Verdict.LOSES if loses else Verdict.INCONCLUSIVE


def interval(values: Sequence[float], confidence: float = 1 - LEVEL) -> Interval:
    """Mean and two-sided confidence interval by Student's t.

    Args:
        values: At least one.
        confidence: Such as 0.95.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(len(values), mean, -math.inf, math.inf)
    if _is_constant(values):
        return Interval(len(values), mean, mean, mean)
    low, high = stats.t.interval(
        confidence, len(values) - 1, loc=mean, scale=stats.sem(np.asarray(values))
    )
    return Interval(len(values), mean, float(low), float(high))


def paired_test(differences: Sequence[float], margin: float) -> PairedTest:
    """Test differences of pairs against ``-margin``, in points.

    Args:
        differences: Ticket minus reference, one a seed, at least one. A single one shows nothing.
        margin: At least 0.
    """
    difference = interval(differences)
    if len(differences) < 2:
        return PairedTest(difference, margin, -math.inf, math.inf, 1.0, 1.0)
    if _is_constant(differences):
        return _test_of_constant(difference, margin)
    values = np.asarray(differences, dtype=np.float64)
    better = stats.ttest_1samp(values, -margin, alternative="greater")
    worse = stats.ttest_1samp(values, -margin, alternative="less")
    return PairedTest(
        difference,
        margin,
        float(better.confidence_interval(1 - LEVEL).low),
        float(worse.confidence_interval(1 - LEVEL).high),
        float(better.pvalue),
        float(worse.pvalue),
    )


def _is_constant(values: Sequence[float]) -> bool:
    """Whether all are equal but for rounding, which leaves nothing to estimate a spread from."""
    return max(values) - min(values) <= _rounding(*values)


def _rounding(*values: float) -> float:
    """Differences of metrics that are smaller than this are none."""
    return 1e-9 * max(1.0, *map(abs, values))


FEWEST = 5
"""So many differences must be equal for that to say more than that metrics are coarse."""


def _test_of_constant(difference: Interval, margin: float) -> PairedTest:
    mean = difference.mean
    if difference.num < FEWEST:
        return PairedTest(difference, margin, mean, mean, 1.0, 1.0)
    excess, rounding = mean + margin, _rounding(mean, margin)
    wins, loses = excess > rounding, excess < -rounding
    return PairedTest(difference, margin, mean, mean, 0.0 if wins else 1.0, 0.0 if loses else 1.0)


def rejected(p_values: Sequence[float], looks: Sequence[int], level: float = LEVEL) -> list[bool]:
    """Which of a family of tests show something, at an error rate for all of them together.

    Holm's step-down method (Scandinavian Journal of Statistics 6, 1979): of ``m`` tests the
    smallest p-value is compared with the rate of ``level / m``, the next with that of ``level / (m
    - 1)`` and so on, up to the first that is not below it. A rate is that of one look, see
    :func:`look_level`.

    Args:
        p_values: One a test.
        looks: Number of pairs at each look, declared before the first.
        level: Error rate of the family over all looks.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    result = [False] * len(p_values)
    for rank, index in enumerate(order):
        if p_values[index] >= look_level(tuple(looks), level / (len(order) - rank)):
            break
        result[index] = True
    return result


@functools.cache
def look_level(looks: tuple[int, ...], level: float = LEVEL) -> float:
    """The error rate of each look at growing data, so that all looks together err at ``level``.

    Pocock's boundary (Biometrika 64, 1977): the same one-sided rate at every look, for statistics
    that are normal with correlation ``sqrt(n_i / n_j)`` between looks after ``n_i < n_j`` pairs.
    The probability of crossing it is integrated from look to look (Armitage, McPherson and Rowe,
    Journal of the Royal Statistical Society A 132, 1969).

    Args:
        looks: Number of pairs at each look, ascending; declared before the first.
        level: Error rate of the whole.
    """
    if len(looks) == 1:
        return level
    bound = optimize.brentq(
        lambda bound: _crossing(looks, bound) - level,
        stats.norm.isf(level),
        stats.norm.isf(level / len(looks)),
    )
    return float(stats.norm.sf(bound))


NODES = 128
"""Points of Gauss-Legendre quadrature; with twice as many, levels differ by less than 1e-8."""
LOWEST = -8.0
"""Standard normal values below this have no weight."""


def _crossing(looks: Sequence[int], bound: float) -> float:
    """Probability that a sum of normal pairs exceeds ``bound`` standard deviations at any look."""
    points, weights = np.polynomial.legendre.leggauss(NODES)
    half_width = (bound - LOWEST) / 2
    grid, weights = LOWEST + (points + 1) * half_width, weights * half_width
    density = stats.norm.pdf(grid)  # of the sum so far, in units of its own deviation
    for before, after in pairwise(looks):
        gap = math.sqrt(after) * grid[:, None] - math.sqrt(before) * grid
        step = stats.norm.pdf(gap, scale=math.sqrt(after - before)) * math.sqrt(after)
        density = step @ (density * weights)
    return 1 - float(density @ weights)


def looks_up_to(first: int, last: int) -> tuple[int, ...]:
    """Number of seeds at each look: ``first``, twice as many, and so on, ``last`` at the end."""
    return (*range(first, last, first), last)
