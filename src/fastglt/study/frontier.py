"""The highest sparsity that still wins: bracketed and bisected on validation, confirmed on test.

Sparsities are measured in *rounds* of the published iterative pruning, each of which removes 5 % of
the remaining edges and 20 % of the remaining weights (UGS, arXiv 2102.06790): ``k`` rounds leave
``0.95 ** k`` of the edges and ``0.8 ** k`` of the weights, for any ``k >= 0``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from fastglt.study.statistics import PairedTest, paired_test

EDGES_KEPT, WEIGHTS_KEPT = 0.95, 0.8
"""Shares that a round keeps."""
DIGITS = 4
"""Significant digits of the shares that are kept."""
FIRST = 4.0
"""Rounds that are tried first."""
LAST = 64.0
"""Rounds beyond which nobody looks: 96 % of the edges and all but one of 1.6 million weights."""

RESERVE = 0.5
"""Share of the margin that a sparsity may lose on validation, on average."""

Axis = Literal["edges", "weights", "joint"]
Validate = Callable[[float, float], Sequence[float] | None]
"""``validate(edge_sparsity, weight_sparsity)`` gives the validation metric of ticket minus dense in
points, one a search seed, or ``None`` where the budget leaves a layer or the graph empty."""


@dataclass(frozen=True)
class Probe:
    """One sparsity that was tried on validation.

    Attributes:
        rounds: Rounds of pruning that it stands for.
        edge_sparsity: Share of the edges removed.
        weight_sparsity: Share of the weights removed.
        test: The differences on validation; ``None`` where the budget is impossible.
    """

    rounds: float
    edge_sparsity: float
    weight_sparsity: float
    test: PairedTest | None

    @property
    def passes(self) -> bool:
        """Whether the mean difference leaves half of the margin to the confirmation.

        A few seeds on validation cannot show that a ticket wins; that is for the test set to show.
        """
        if self.test is None:
            return False
        return self.test.difference.mean > -RESERVE * self.test.margin


@dataclass(frozen=True)
class Search:
    """A finished search.

    Attributes:
        probes: All sparsities that were tried, in that order.
        best: The highest that passes; ``None`` if none does.
    """

    probes: tuple[Probe, ...]
    best: Probe | None


def sparsities(axis: Axis, rounds: float) -> tuple[float, float]:
    """Edge and weight sparsity after so many rounds; 0 on an axis that is not pruned."""
    edges = 0.0 if axis == "weights" else _sparsity(EDGES_KEPT**rounds)
    weights = 0.0 if axis == "edges" else _sparsity(WEIGHTS_KEPT**rounds)
    return edges, weights


def _sparsity(kept: float) -> float:
    """The sparsity that keeps a share, which is rounded to :data:`DIGITS`."""
    return round(1 - float(f"{kept:.{DIGITS}g}"), 12)


def search(axis: Axis, validate: Validate, margin: float, resolution: float) -> Search:
    """Find the highest sparsity that passes on validation.

    Rounds are doubled until a sparsity does not pass, then the gap is halved until it is no wider
    than ``resolution``. This finds one border; where passing is not monotonic in sparsity there may
    be others.

    Args:
        axis: What is pruned.
        validate: Tries a sparsity.
        margin: Largest loss that still counts as none, in points.
        resolution: In rounds; 1 is a step of 5 % of the kept edges and 20 % of the kept weights.
    """
    probes: list[Probe] = []

    def passes(rounds: float) -> bool:
        budget = sparsities(axis, rounds)
        differences = validate(*budget)
        test = None if differences is None else paired_test(differences, margin)
        probes.append(Probe(rounds, *budget, test))
        return probes[-1].passes

    low, _ = border(passes, resolution)
    winning = [probe for probe in probes if probe.passes and probe.rounds == low]
    return Search(tuple(probes), winning[0] if winning else None)


def border(passes: Callable[[float], bool], resolution: float) -> tuple[float, float]:
    """The most rounds that pass, or 0, and the fewest that do not, of those that were tried.

    Rounds are doubled from :data:`FIRST` until they do not pass or are beyond :data:`LAST`, which
    is not tried and counts as not passing. Then the gap is halved.

    Args:
        passes: Tries so many rounds.
        resolution: The gap, in rounds, at which to stop.
    """
    low, high = 0.0, FIRST
    while passes(high):
        low, high = high, 2 * high
        if high > LAST:
            return low, high
    while high - low > resolution:
        middle = (low + high) / 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low, high
