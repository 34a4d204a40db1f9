"""Verdicts of all budgets at a glance."""

from __future__ import annotations

from dataclasses import dataclass

from fastglt.report import wording
from fastglt.report.subjects import Subject, main_row, rows_in_order
from fastglt.study.summary import Comparison, Table


@dataclass(frozen=True)
class Mark:
    """A verdict with its difference in points, as text; empty where there is none."""

    verdict: str = ""
    difference: str = ""


@dataclass(frozen=True)
class BudgetLine:
    """One budget: a mark for each column."""

    budget: str
    is_main: bool
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Overview:
    """Verdicts by budget and method, all against dense but for ``like``."""

    columns: tuple[str, ...]
    lines: tuple[BudgetLine, ...]


def overview(subject: Subject, main: Table | None) -> Overview | None:
    """Verdicts of all budgets; ``None`` where there are fewer than two."""
    if len(subject.tables) < 2:
        return None
    rows = [row for table in subject.tables for row in rows_in_order(table)]
    labels = [label for label in subject.labels if any(row.label == label for row in rows)]
    like = dict.fromkeys(
        row.label
        for table in subject.tables
        if (row := main_row(table)) is not None and row.versus_like is not None
    )
    columns = []
    for label in labels:
        columns.append((label, "versus_dense"))
        if label in like:
            columns.append((label, "versus_like"))
    return Overview(
        tuple(f"{label}, like for like" if kind == "versus_like" else label
              for label, kind in columns),
        tuple(
            BudgetLine(
                wording.budget(table.edge_sparsity, table.weight_sparsity),
                table is main,
                tuple(_mark(table, label, kind) for label, kind in columns),
            )
            for table in subject.tables
        ),
    )  # fmt: skip


def _mark(table: Table, label: str, kind: str) -> Mark:
    row = table.row(label)
    compared: Comparison | None = None if row is None else getattr(row, kind)
    if compared is None:
        return Mark()
    return Mark(compared.verdict.value, wording.signed(compared.test.difference.mean))
