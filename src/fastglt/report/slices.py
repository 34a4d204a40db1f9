"""Budgets that lie on one axis: what accuracy is drawn over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastglt.report import wording
from fastglt.report.subjects import rows_in_order
from fastglt.study.cells import Cell
from fastglt.study.statistics import Interval, interval
from fastglt.study.summary import POINTS, Table

Budget = tuple[float, float]
"""Edge and weight sparsity."""
AXES = ("edges", "weights")


@dataclass(frozen=True)
class Point:
    """One budget of a line: share removed, and what was measured, in points."""

    sparsity: float
    value: Interval


@dataclass(frozen=True)
class Slice:
    """Lines over one axis.

    Attributes:
        axis: ``"edges"``, ``"weights"``, or ``"joint"`` where both vary together; then lines are
            over the weight sparsity.
        fixed: The other sparsity; ``None`` if joint.
        budgets: All budgets on it, ascending.
        lines: Points by the name of the method.
        dense: The dense model, of the budget with most seeds.
    """

    axis: str
    fixed: float | None
    budgets: tuple[Budget, ...]
    lines: dict[str, tuple[Point, ...]]
    dense: Interval | None

    @property
    def name(self) -> str:
        """Part of a file name, such as ``weights-e30``."""
        if self.fixed is None:
            return self.axis
        other = "w" if self.axis == "edges" else "e"
        return f"{self.axis}-{other}{100 * self.fixed:g}".replace(".", "_")

    @property
    def title(self) -> str:
        """Such as ``over weights removed, with 30 % of edges removed``."""
        if self.fixed is None:
            return "over edges and weights removed together"
        other = "weights" if self.axis == "edges" else "edges"
        rest = f"with {wording.percent(self.fixed)} of {other} removed"
        if self.fixed == 0:
            rest = f"with all {other} kept"
        return f"over {self.axis} removed, {rest}"


@dataclass(frozen=True)
class Frontier:
    """A search for the highest sparsity at which a method wins.

    Attributes:
        label: Name of the method.
        axis: As of a :class:`Slice`.
        searched: Ticket minus dense on validation, in points.
        confirmed: The same on test; empty if it did not come to that.
    """

    label: str
    axis: str
    searched: tuple[Point, ...]
    confirmed: tuple[Point, ...]


def slices(tables: Sequence[Table]) -> list[Slice]:
    """Every slice of a subject's budgets with at least two of them."""
    tested = [table for table in tables if any(row.test is not None for row in table.rows)]
    by_budget = {(table.edge_sparsity, table.weight_sparsity): table for table in tested}
    return [
        _slice(axis, fixed, [by_budget[budget] for budget in budgets])
        for axis, fixed, budgets in lanes(list(by_budget))
    ]


def lanes(budgets: Sequence[Budget]) -> list[tuple[str, float | None, list[Budget]]]:
    """Axis, other sparsity and budgets of all that lie on one axis, at least two together."""
    found: list[tuple[str, float | None, list[Budget]]] = []
    for place, axis in enumerate(AXES):
        for fixed in sorted({budget[1 - place] for budget in budgets}):
            lane = sorted(budget for budget in budgets if budget[1 - place] == fixed)
            if len(lane) > 1:
                found.append((axis, fixed, lane))
    if not found and len(budgets) > 1:
        found.append(("joint", None, sorted(budgets, key=lambda budget: (budget[1], budget[0]))))
    return found


def frontiers(cells: Sequence[Cell]) -> list[Frontier]:
    """Every search for a frontier of a subject, by method.

    Args:
        cells: All cells of the subject, sorted.
    """
    by_label: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.stage != "compare":
            by_label.setdefault(cell.label, []).append(cell)
    return [
        _frontier(label, group)
        for label, group in by_label.items()
        if any(cell.stage == "search" for cell in group)
    ]


def _slice(axis: str, fixed: float | None, tables: Sequence[Table]) -> Slice:
    lines: dict[str, list[Point]] = {}
    for table in tables:
        at = table.edge_sparsity if axis == "edges" else table.weight_sparsity
        for row in rows_in_order(table):
            if row.test is not None:
                lines.setdefault(row.label, []).append(Point(at, row.test))
    dense = [table.dense for table in tables if table.dense is not None]
    return Slice(
        axis,
        fixed,
        tuple((table.edge_sparsity, table.weight_sparsity) for table in tables),
        {label: tuple(points) for label, points in lines.items()},
        max(dense, key=lambda each: each.num) if dense else None,
    )


def _frontier(label: str, cells: Sequence[Cell]) -> Frontier:
    axis = _axis({_budget(cell) for cell in cells})
    return Frontier(
        label,
        axis,
        _frontier_points([cell for cell in cells if cell.stage == "search"], axis),
        _frontier_points([cell for cell in cells if cell.stage == "confirm"], axis),
    )


def _axis(budgets: set[Budget]) -> str:
    """Which sparsity varies; of a single budget the one that there is."""
    edges, weights = (len({budget[place] for budget in budgets}) > 1 for place in (0, 1))
    if edges and weights:
        return "joint"
    if not edges and not weights:
        weights = max(weight for _, weight in budgets) > 0
    return "weights" if weights else "edges"


def _frontier_points(cells: Sequence[Cell], axis: str) -> tuple[Point, ...]:
    place = 0 if axis == "edges" else 1
    by_sparsity: dict[float, list[float]] = {}
    for cell in cells:
        difference = _difference(cell)
        if difference is not None:
            by_sparsity.setdefault(_budget(cell)[place], []).append(difference)
    return tuple(
        Point(sparsity, interval(values)) for sparsity, values in sorted(by_sparsity.items())
    )


def _difference(cell: Cell) -> float | None:
    """Ticket minus dense in points: by validation in a search, else by test."""
    if cell.stage == "search":
        return POINTS * (cell.val_ticket - cell.val_dense)
    if cell.test_ticket is None or cell.test_dense is None:
        return None
    return POINTS * (cell.test_ticket - cell.test_dense)


def _budget(cell: Cell) -> Budget:
    return cell.settings["edge_sparsity"], cell.settings["weight_sparsity"]
