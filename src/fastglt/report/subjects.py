"""What a report is about: one graph and model each, and which of their tables comes first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastglt.search import METHODS
from fastglt.study.cells import Cell
from fastglt.study.statistics import Verdict, rejected
from fastglt.study.summary import (
    Row,
    Table,
    is_teacher_control,
    method_names,
    subject_key,
    subject_titles,
    tables,
)

MAIN_METHOD = "fastglt"


@dataclass(frozen=True)
class Subject:
    """One graph and model.

    Attributes:
        key: Beginning of the names of its figures; empty if there is but one subject.
        title: Name of the graph.
        model: Name of the model.
        cells: All its cells, sorted.
        tables: Its tables, by budget.
    """

    key: str
    title: str
    model: str
    cells: tuple[Cell, ...]
    tables: tuple[Table, ...]

    @property
    def first(self) -> Cell:
        """A cell to read what is common to all from."""
        return self.cells[0]

    @property
    def name(self) -> str:
        """Such as ``gcn on Cora``."""
        return f"{self.model} on {self.title}"

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of all methods in the order in which tables and figures show them."""
        return tuple(self.groups)

    @property
    def groups(self) -> dict[str, tuple[Cell, ...]]:
        """The cells of each method by its name in the tables, in the same order."""
        name = method_names(self.cells)
        found: dict[str, tuple[Cell, ...]] = {}
        counted: set[tuple[str, int, int]] = set()
        for table in self.tables:
            for row in table.rows:
                found[row.label] = (*found.get(row.label, ()), *row.cells)
                counted |= {(row.label, cell.seed, cell.split_seed) for cell in row.cells}
        for cell in self.cells:
            is_counted = (name(cell), cell.seed, cell.split_seed) in counted
            if cell.stage == "search" or not is_counted:
                found[name(cell)] = (*found.get(name(cell), ()), cell)
        return dict(sorted(found.items(), key=lambda item: _by_method(item[1][0])))


def subjects(
    cells: Iterable[Cell], margin: float, looks: Sequence[int] | None = None
) -> list[Subject]:
    """All subjects, whatever the order of the cells.

    Args:
        cells: Cells of a study, at least one.
        margin: Largest loss that still counts as none, in points.
        looks: Number of seeds at each look at the data, see :func:`fastglt.study.summary.tables`.
    """
    ordered = sorted(cells, key=_order)
    by_subject: dict[str, list[Cell]] = {}
    for cell in ordered:
        by_subject.setdefault(subject_key(cell), []).append(cell)
    titles = subject_titles(group[0] for group in by_subject.values())
    all_tables = tables(ordered, margin, looks)
    result = []
    for place, (key, group) in enumerate(by_subject.items(), start=1):
        first = group[0]
        result.append(
            Subject(
                key=f"{place}-{slug(first.model)}-{slug(first.dataset)}-"
                if len(by_subject) > 1
                else "",
                title=titles[key],
                model=first.model,
                cells=tuple(group),
                tables=tuple(
                    table for table in all_tables if subject_key(table.rows[0].cells[0]) == key
                ),
            )
        )
    return result


def slug(text: str) -> str:
    """Text as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "unnamed"


def is_control(row: Row) -> bool:
    """Whether a row is there to be beaten."""
    return _is_control(row.cells[0])


def main_row(table: Table) -> Row | None:
    """The row that the report is about: the library's own method, else the first no control."""
    rows = [row for row in table.rows if not is_control(row)]
    preferred = sorted(
        rows, key=lambda row: (row.label != MAIN_METHOD, row.cells[0].method != MAIN_METHOD)
    )
    return preferred[0] if preferred else None


def main_table(found: Sequence[Table]) -> Table | None:
    """The table that the details are of.

    The one that confirms a frontier, else the sparsest at which the main row wins against dense,
    also after correction for having been chosen among the budgets, else the first.
    """
    if not found:
        return None
    confirmed = [table for table in found if _is_confirmed(table)]
    won = _won(found)
    return max(confirmed or won or found[:1], key=_sparsity)


def rows_in_order(table: Table) -> list[Row]:
    """Rows of a table, the main row first and controls last."""
    main = main_row(table)
    return sorted(table.rows, key=lambda row: (row is not main, is_control(row)))


def _sparsity(table: Table) -> tuple[float, float]:
    return table.edge_sparsity + table.weight_sparsity, table.edge_sparsity


def _is_confirmed(table: Table) -> bool:
    main = main_row(table)
    return main is not None and any(cell.stage == "confirm" for cell in main.cells)


def _won(found: Sequence[Table]) -> list[Table]:
    """Tables whose main row wins, in the table and among the main rows of all tables."""
    compared = [None if row is None else row.versus_dense for row in map(main_row, found)]
    wins = [each is not None and each.verdict is Verdict.WINS for each in compared]
    p_values = [1.0 if each is None or not each.is_due else each.test.p_win for each in compared]
    among_all = rejected(p_values, found[0].looks or (1,))
    return [
        table for table, won, holds in zip(found, wins, among_all, strict=True) if won and holds
    ]


def _is_control(cell: Cell) -> bool:
    entry = METHODS.get(cell.method)
    return is_teacher_control(cell) or (entry is not None and entry.is_control)


def _by_method(cell: Cell) -> tuple[bool, bool, int]:
    known = list(METHODS)
    return (
        _is_control(cell),
        cell.method != MAIN_METHOD,
        known.index(cell.method) if cell.method in known else len(known),
    )


def _order(cell: Cell) -> tuple[object, ...]:
    return (
        cell.title,
        cell.model,
        subject_key(cell),
        cell.settings["edge_sparsity"],
        cell.settings["weight_sparsity"],
        _by_method(cell),
        cell.label,
        cell.seed,
        cell.split_seed,
        cell.settings_hash,
        cell.stage,
    )
