"""The tables of methods, as text."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from fastglt.report import wording
from fastglt.report.subjects import Subject, is_control, main_row, rows_in_order
from fastglt.study.statistics import Verdict
from fastglt.study.summary import Comparison, Row, Table


@dataclass(frozen=True)
class Against:
    """A comparison, as text; ``verdict`` is empty where there is none.

    ``reservation`` says why the verdict is not what the interval alone would make it.
    """

    difference: str = wording.NOTHING
    bounds: str = ""
    verdict: str = ""
    reservation: str = ""


@dataclass(frozen=True)
class Line:
    """A line of a table, as text."""

    label: str
    kind: str
    seeds: str
    metric: str
    dense: Against
    like: Against
    seconds: str
    epochs: str
    macs: str
    macs_share: str
    bytes: str
    bytes_share: str
    ratio: str


@dataclass(frozen=True)
class MethodTable:
    """A table of methods for one budget."""

    budget: str
    metric: str
    margin: str
    lines: tuple[Line, ...]
    is_main: bool


def method_tables(subject: Subject, main: Table | None) -> list[MethodTable]:
    """All tables of a subject, the main one first."""
    ordered = sorted(subject.tables, key=lambda table: table is not main)
    return [method_table(table, is_main=table is main) for table in ordered]


def method_table(table: Table, *, is_main: bool = True) -> MethodTable:
    """One table."""
    first = main_row(table)
    return MethodTable(
        wording.budget(table.edge_sparsity, table.weight_sparsity),
        table.metric,
        f"{table.margin:g}",
        (_dense(table), *(_line(row, row is first) for row in rows_in_order(table))),
        is_main,
    )


def _dense(table: Table) -> Line:
    """The reference: one dense training."""
    cells = {(cell.seed, cell.split_seed): cell for row in table.rows for cell in row.cells}
    some = list(cells.values())
    return Line(
        label=f"dense {table.model}",
        kind="reference",
        seeds=wording.plural(0 if table.dense is None else table.dense.num, "seed"),
        metric=wording.NOTHING if table.dense is None else wording.plus_minus(table.dense),
        dense=Against(),
        like=Against(),
        seconds=wording.seconds(statistics.median(cell.seconds["dense"] for cell in some)),
        epochs=wording.count(statistics.median(cell.epochs["dense"] for cell in some)),
        macs=wording.large(statistics.median(cell.macs_dense for cell in some)),
        macs_share="",
        bytes=wording.size(statistics.median(cell.bytes_dense for cell in some)),
        bytes_share="",
        ratio=wording.NOTHING,
    )


def _line(row: Row, is_main: bool) -> Line:
    return Line(
        label=row.label,
        kind="main" if is_main else "control" if is_control(row) else "method",
        seeds=wording.plural(len(row.cells), "seed"),
        metric=wording.NOTHING if row.test is None else wording.plus_minus(row.test),
        dense=_against(row.versus_dense),
        like=_against(row.versus_like),
        seconds=wording.seconds(row.search_seconds),
        epochs=wording.count(row.search_epochs),
        macs=wording.large(row.median("macs_ticket")),
        macs_share=_share(row.median("macs_ticket"), row.median("macs_dense")),
        bytes=wording.size(row.median("bytes_ticket")),
        bytes_share=_share(row.median("bytes_ticket"), row.median("bytes_dense")),
        ratio=wording.NOTHING if row.cost_ratio is None else f"{row.cost_ratio:.1f}×",
    )


def _against(compared: Comparison | None) -> Against:
    if compared is None:
        return Against()
    test = compared.test
    return Against(
        wording.signed(test.difference.mean),
        wording.bounds(test.difference)
        if math.isfinite(test.difference.half_width)
        else "one run: no interval",
        compared.verdict.value,
        _reservation(compared),
    )


def _reservation(compared: Comparison) -> str:
    if not compared.is_due:
        return "not finished"
    return "" if compared.verdict is compared.test.verdict() else "after correction"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.3g} %" if whole else ""


VERDICTS = tuple(verdict.value for verdict in Verdict)
"""Every text that ``Against.verdict`` may have, besides an empty one."""
