"""Studies made of runs of ``fastglt compare``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from fastglt.study.cells import read_cells
from fastglt.study.plan import Plan
from fastglt.study.statistics import Verdict
from fastglt.study.summary import Comparison, Table, tables

HEADER = (
    f"{'graph':9} {'model':5} {'edges':>6} {'weights':7}  {'method':22} {'seeds':6}  {'- dense':25}"
    f"  {'verdict':12}  like for like"
)


def fastglt(*arguments: str) -> None:
    """Run the command line."""
    subprocess.run([sys.executable, "-m", "fastglt", *arguments], check=True)


def finished(study: Path) -> list[Table]:
    """The tables of a study, with verdicts at the looks that were declared of it."""
    plan = Plan.load(study)
    return tables(read_cells(study), looks=None if plan is None else plan.looks)


def print_tables(study: Path) -> None:
    """A line for each method and budget: paired difference from dense, and its verdicts."""
    for table in finished(study):
        place = f"{table.title:9} {table.model:5} {table.edge_sparsity:6.3g} "
        place += f"{table.weight_sparsity:7.3g}"
        for row in table.rows:
            dense, like = row.versus_dense, row.versus_like
            if dense is None:
                continue
            gap = dense.test.difference
            print(f"{place}  {row.label:22} {gap.num:6}  {gap.mean:+6.2f} ({gap.low:+6.2f} to "
                  f"{gap.high:+6.2f})  {dense.verdict.value:12}  "
                  f"{'-' if like is None else like.verdict.value}")  # fmt: skip


def markdown_rows(study: Path, methods: Sequence[str]) -> Iterator[str]:
    """A row of a page's table for each budget: what every method is better by than dense."""
    for table in finished(study):
        rows = {row.label: row for row in table.rows}
        seeds = sorted({len(rows[name].cells) for name in methods if name in rows})
        if not seeds:
            continue
        found = [_told(rows[name].versus_dense) if name in rows else "–" for name in methods]
        where = f"{table.model.upper()}, {table.title.removeprefix('Amazon ').split(' (')[0]}"
        removed = f"{100 * table.edge_sparsity:g} %, {100 * table.weight_sparsity:g} %"
        count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]}–{seeds[-1]}"
        yield f"| {where} | {removed} | {count} | {' | '.join(found)} |"


def _told(comparison: Comparison | None) -> str:
    if comparison is None or comparison.test.difference.num < 2:
        return "–"
    gap = comparison.test.difference
    mark = {Verdict.WINS: " ✓", Verdict.LOSES: " ✗"}.get(comparison.verdict, "")
    return f"{gap.mean:+.1f} ± {gap.half_width:.1f}{mark}".replace("-", "−")
