"""Sparsities that are not given but follow from a goal: a loss, a cost or a latency."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import torch
from torch import nn
from torch_geometric.data import Data

from fastglt.api.finder import Baseline, Finder, Pruned
from fastglt.api.macs import macs_on
from fastglt.errors import BudgetError, InputError
from fastglt.search.base import SearchResult
from fastglt.settings import Settings
from fastglt.study.cells import BUDGET
from fastglt.study.frontier import Axis, border, sparsities
from fastglt.ticket import Ticket
from fastglt.training.known_graph import kept_view
from fastglt.training.loop import predict
from fastglt.training.progress import Progress
from fastglt.training.task import Task

Kind = Literal["max_drop", "target_macs", "target_latency_ms"]
MEASURE: dict[Kind, str] = {
    "max_drop": "points lost on validation",
    "target_macs": "multiply-accumulates",
    "target_latency_ms": "milliseconds",
}
"""What is measured of a sparsity."""
ROUNDING = 1e-6
"""Points by which a drop may be over for want of precision."""
WARM_UP, REPEATS = 3, 15
"""Inferences before a latency is measured, and those that its median is of."""


@dataclass(frozen=True)
class Goal:
    """What sparsities are chosen by.

    Attributes:
        kind: ``"max_drop"``: the highest sparsity whose ticket loses at most ``value`` points of
            the metric on validation. ``"target_macs"``: the lowest one whose ticket needs at most
            ``value`` multiply-accumulates an inference, below 1 a share of the dense model's.
            ``"target_latency_ms"``: the lowest one at which the model with its masked weights takes
            at most ``value`` milliseconds for the kept graph, measured here and now.
        value: See ``kind``.
        axis: What is pruned: ``"edges"``, ``"weights"``, or both in step.
        resolution: How closely to look, in rounds of 5 % of the remaining edges and 20 % of the
            remaining weights.
    """

    kind: Kind
    value: float
    axis: Axis = "joint"
    resolution: float = 1.0

    @classmethod
    def of(cls, given: Mapping[Kind, float | None], axis: Axis, resolution: float) -> Goal | None:
        """The goal among those that may be given, if one is.

        Raises:
            InputError: If several are, or a value is out of range.
        """
        wanted = {kind: value for kind, value in given.items() if value is not None}
        if not wanted:
            return None
        if axis not in get_args(Axis):
            raise InputError(f"axis must be one of {', '.join(get_args(Axis))} (got {axis!r})")
        if len(wanted) > 1:
            raise InputError(f"one goal at a time (got {' and '.join(wanted)})")
        ((kind, value),) = wanted.items()
        if not value > 0 and not (kind == "max_drop" and value == 0):
            least = "at least 0" if kind == "max_drop" else "positive"
            raise InputError(f"{kind} must be {least} (got {value})")
        if not resolution > 0:
            raise InputError(f"resolution must be positive (got {resolution})")
        return cls(kind, float(value), axis, float(resolution))


@dataclass(frozen=True)
class Trial:
    """One sparsity that was tried.

    Attributes:
        edge_sparsity: Share of the edges removed.
        weight_sparsity: Share of the weights removed.
        value: What the goal is about: points lost on validation, multiply-accumulates or
            milliseconds; ``None`` where the budget leaves a layer or the graph empty.
        meets: Whether it meets the goal.
    """

    edge_sparsity: float
    weight_sparsity: float
    value: float | None
    meets: bool


class GoalFinder:
    """Runs of :class:`Finder` at several sparsities, which share the dense run.

    Args:
        make: Makes the finder of settings.
        settings: All settings; the sparsity of the axis that is chosen is 0.
        goal: What sparsities are chosen by.
        progress: Records the runs, as it does in those that ``make`` makes.

    Raises:
        BudgetError: If a sparsity is given that is to be chosen.
    """

    def __init__(
        self,
        make: Callable[[Settings], Finder],
        settings: Settings,
        goal: Goal,
        progress: Progress,
    ) -> None:
        self._make, self._settings, self._goal = make, settings, goal
        self._progress = progress
        self._trials: list[Trial] = []
        self._baseline: Baseline | None = None
        self._dense_macs: int | None = None
        self._best: tuple[Finder, Pruned] | None = None
        self._cheap: tuple[Finder, SearchResult] | None = None
        _check_free(settings, goal)

    def run(self) -> Ticket:
        """Choose the sparsities; the ticket there, with what was tried among its metrics.

        Raises:
            BudgetError: If no sparsity that was tried meets the goal.
        """
        start = time.perf_counter()
        loses = self._goal.kind == "max_drop"
        try_at = self._loses_little if loses else self._is_too_dear
        border(try_at, self._goal.resolution)
        if self._cheap is not None:
            finder, result = self._cheap
            with self._progress.scope("chosen"):
                self._best = finder, finder.prune(self._dense(finder), result)
        if self._best is None:
            raise BudgetError(self._none_meets())
        finder, pruned = self._best
        spent = self._progress.earlier_seconds + time.perf_counter() - start
        others = spent - sum(finder.seconds.values())
        finder.start = start
        finder.seconds["trials"] = others
        ticket = finder.ticket(pruned)
        ticket.metrics["goal"] = asdict(self._goal) | {"trials": [asdict(t) for t in self._trials]}
        return ticket

    def _budget(self, rounds: float) -> dict[str, float]:
        """Both sparsities after so many rounds; one that is not chosen is as given."""
        chosen = zip(
            ("edge_sparsity", "weight_sparsity"), sparsities(self._goal.axis, rounds), strict=True
        )
        return {
            name: value if _is_chosen(name, self._goal.axis) else getattr(self._settings, name)
            for name, value in chosen
        }

    def _finder(self, rounds: float) -> Finder:
        return self._make(self._settings.model_copy(update=self._budget(rounds)))

    def _dense(self, finder: Finder) -> Baseline:
        """The dense run, of whichever finder comes first."""
        if self._baseline is None:
            self._baseline = finder.baseline()
        return self._baseline

    def _loses_little(self, rounds: float) -> bool:
        """Whether the ticket after so many rounds loses at most as much as is allowed."""
        try:
            finder = self._finder(rounds)
            dense = self._dense(finder)
            with self._progress.scope(f"after {rounds} rounds"):
                pruned = finder.prune(dense)
        except BudgetError:
            return self._note(rounds, None, meets=False)
        drop = 100 * (pruned.baseline.dense.val_metric - pruned.retrained.val_metric)
        meets = drop <= self._goal.value + ROUNDING
        if meets:  # sparser than all before, since a sparsity is tried only above one that passed
            self._best = finder, pruned
        return self._note(rounds, drop, meets=meets)

    def _is_too_dear(self, rounds: float) -> bool:
        """Whether the model after so many rounds costs more than is allowed."""
        try:
            finder = self._finder(rounds)
            dense = self._dense(finder)
            with self._progress.scope(f"after {rounds} rounds"):
                result = finder.masks(dense)
                # A latency is not the same again.
                value = self._progress.once("cost", lambda: self._cost(finder, result))
        except BudgetError:
            self._note(rounds, None, meets=False)
            return False  # sparser still is no way either
        meets = value <= self._limit(finder)
        if meets:  # less sparse than all before, since only those below one that met are tried
            self._cheap = finder, result
        return not self._note(rounds, value, meets=meets)

    def _limit(self, finder: Finder) -> float:
        limit = self._goal.value
        if self._goal.kind != "target_macs" or limit >= 1:
            return limit
        if self._dense_macs is None:
            self._dense_macs = macs_on(finder.untrained, finder.task, finder.views.whole)
        return limit * self._dense_macs

    def _cost(self, finder: Finder, result: SearchResult) -> float:
        kept = kept_view(finder.views.whole, finder.edge_keep(result))
        if self._goal.kind == "target_macs":
            return macs_on(finder.pruned, finder.task, kept, result.weight_mask)
        return latency_ms(finder.masked_model(result), finder.task, kept)

    def _note(self, rounds: float, value: float | None, *, meets: bool) -> bool:
        self._trials.append(Trial(**self._budget(rounds), value=value, meets=meets))
        return meets

    def _none_meets(self) -> str:
        tried = ", ".join(
            f"{trial.edge_sparsity:.3g}/{trial.weight_sparsity:.3g}: "
            f"{'impossible' if trial.value is None else format(trial.value, '.4g')}"
            for trial in self._trials
        )
        kind, value = self._goal.kind, self._goal.value
        return (
            f"no sparsity that was tried meets {kind}={value:g} (edges/weights removed: "
            f"{MEASURE[kind]}: {tried})"
        )


@torch.no_grad()
def latency_ms(model: nn.Module, task: Task, data: Data) -> float:
    """Median milliseconds of one inference on a graph, in eval mode.

    Args:
        model: The model; it is left in eval mode.
        task: Calls it.
        data: The graph.
    """
    times = []
    for repeat in range(WARM_UP + REPEATS):
        start = time.perf_counter()
        predict(task, model, data)
        if data.edge_index.is_cuda:
            torch.cuda.synchronize()
        if repeat >= WARM_UP:
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def _is_chosen(name: str, axis: Axis) -> bool:
    return axis == "joint" or name == {"edges": "edge_sparsity", "weights": "weight_sparsity"}[axis]


def _check_free(settings: Settings, goal: Goal) -> None:
    if ":" in settings.weight_pattern and _is_chosen("weight_sparsity", goal.axis):
        raise InputError(
            f"{goal.kind} starts from low sparsities, which weight_pattern="
            f"{settings.weight_pattern!r} has no room for; give a weight_sparsity instead"
        )
    for name in BUDGET:
        if getattr(settings, name) and _is_chosen(name, goal.axis):
            raise BudgetError(
                f"{name} follows from {goal.kind}, so it must not be given too (got "
                f"{getattr(settings, name)}); to fix one of them, choose the axis of the other"
            )
