"""Studies made of runs of ``fastglt compare``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fastglt.study.cells import read_cells
from fastglt.study.plan import Plan
from fastglt.study.summary import tables

HEADER = (
    f"{'graph':9} {'model':5} {'edges':>6} {'weights':7}  {'method':22} {'seeds':6}  {'- dense':25}"
    f"  {'verdict':12}  like for like"
)


def fastglt(*arguments: str) -> None:
    """Run the command line."""
    subprocess.run([sys.executable, "-m", "fastglt", *arguments], check=True)


def print_tables(study: Path) -> None:
    """A line for each method and budget: paired difference from dense, and its verdicts."""
    plan = Plan.load(study)
    looks = None if plan is None else plan.looks
    for table in tables(read_cells(study), looks=looks):
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
