"""What the commands that run studies share: running cells, and printing tables."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

from fastglt._atomic import check_writable
from fastglt._processes import num_cores
from fastglt.cli import formats
from fastglt.cli.cells import run_job
from fastglt.cli.options import StudyOptions
from fastglt.cli.output import STDOUT, Output
from fastglt.errors import FastGLTError, InputError, OutputPathError
from fastglt.study.cells import CELLS, Cell
from fastglt.study.jobs import Done, Engine, Job, Key, run_jobs
from fastglt.study.processes import Processes
from fastglt.study.statistics import Interval
from fastglt.study.summary import Comparison, Row, Table

HEADER = (
    "method", "seeds", "test", "- dense", "at least", "verdict", "like for like", "search",
    "epochs", "MACs", "bytes", "cost of ugs / its",
)  # fmt: skip


class StudyError(FastGLTError):
    """Some runs of a study failed; the message says which."""


@dataclass(frozen=True)
class Finished:
    """Jobs that have ended.

    Attributes:
        cells: Of those that did not fail, in the order of the jobs.
        failures: The others.
    """

    cells: list[Cell]
    failures: list[Done]


@dataclass(frozen=True)
class Outcome:
    """Tables of what was finished, and what failed."""

    tables: list[Table]
    failures: list[Done]

    def check(self) -> None:
        """Say what failed, after everything else was said.

        Raises:
            StudyError: If something did.
        """
        if not self.failures:
            return
        first, *more = self.failures
        others = f", and {len(more)} more" if more else ""
        raise StudyError(
            f"{first.job.label} with seed {first.job.seed}{others} failed: {first.error}"
        )


@contextmanager
def engine_of(options: StudyOptions, device: str) -> Iterator[Engine]:
    """Where the runs of a study are made: in processes of this machine, or on Ray.

    Args:
        options: Of the study.
        device: Where a run computes.

    Raises:
        InputError: If options contradict each other, or Ray is not installed.
    """
    if options.ray is None:
        cores = num_cores()
        yield Processes(options.workers or cores, options.threads or cores)
        return
    if options.workers is not None:
        raise InputError(
            f"workers is for processes of this machine (got {options.workers} with ray="
            f"{options.ray}); the cluster runs as many at once as its cores and GPUs allow"
        )
    if device not in ("cpu", "cuda"):
        raise InputError(f"with ray, device must be cpu or cuda; Ray says which (got {device!r})")
    from fastglt.study.ray_engine import RayEngine

    gpus = int(device == "cuda")
    # Ray tells of dead workers on stdout, which is for results.
    with (
        redirect_stdout(sys.stderr),
        RayEngine(options.ray, threads=options.threads or 1, gpus=gpus) as engine,
    ):
        yield engine


def run_all(engine: Engine, options: StudyOptions, jobs: Sequence[Job]) -> Finished:
    """Run what is missing; a line on stderr tells of each run as it ends.

    Raises:
        InputError: If the engine cannot run them.
        OutputPathError: If the study cannot be written.
    """
    cells: dict[Key, Cell] = {}
    failures: list[Done] = []
    start = time.monotonic()
    ended = run_jobs(options.out, jobs, run_job, engine)
    for count, done in enumerate(ended, start=1):
        if done.cell is None:
            failures.append(done)
        else:
            cells[done.job.key] = done.cell
        if done.is_new:
            _tell(done, count, len(jobs), time.monotonic() - start)
    return Finished([cells[job.key] for job in jobs if job.key in cells], failures)


def check_study(options: StudyOptions) -> None:
    """Refuse now what could not be written after hours.

    Raises:
        OutputPathError: If the study's folder or the file of the result cannot be written.
    """
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputPathError(f"study {str(options.out)!r} cannot be a folder: {reason}") from error
    check_writable(options.out / CELLS)
    if options.json_file not in (None, STDOUT):
        check_writable(options.json_file)


def print_tables(tables: Iterable[Table], output: Output) -> None:
    """One table of methods for each budget."""
    for table in tables:
        output.line()
        output.line(heading(table))
        output.table(HEADER, [_cells(row) for row in table.rows], text=(0, 5, 6))


def heading(table: Table) -> str:
    """Such as ``gcn on Cora, 30 % of the edges and 95 % of the weights removed``."""
    dense = "" if table.dense is None else f"; dense: {_mean(table.dense)}"
    return (
        f"{formats.text(table.model)} on {formats.text(table.title)}, "
        f"{100 * table.edge_sparsity:g} % of the edges and {100 * table.weight_sparsity:g} % of "
        f"the weights removed; {formats.text(table.metric)} in points, margin {table.margin:g}"
        f"{dense}"
    )


def as_json(tables: Iterable[Table]) -> list[dict[str, Any]]:
    """Tables for programs; what is not finite or not there is ``None``."""
    return [
        {
            "dataset": table.title,
            "model": table.model,
            "metric": table.metric,
            "edge_sparsity": table.edge_sparsity,
            "weight_sparsity": table.weight_sparsity,
            "margin": table.margin,
            "dense": _interval_json(table.dense),
            "rows": [
                {
                    "label": row.label,
                    "method": row.cells[0].method,
                    "seeds": [cell.seed for cell in row.cells],
                    "test": _interval_json(row.test),
                    "versus_dense": _comparison_json(row.versus_dense),
                    "versus_like": _comparison_json(row.versus_like),
                    "search_seconds": row.search_seconds,
                    "search_epochs": row.search_epochs,
                    "cost_ratio_ugs": row.cost_ratio,
                    "macs": row.median("macs_ticket"),
                    "bytes": row.median("bytes_ticket"),
                }
                for row in table.rows
            ],
        }
        for table in tables
    ]


def _tell(done: Done, count: int, total: int, elapsed: float) -> None:
    where = f"[{count}/{total}] {done.job.label}, seed {done.job.seed}"
    if done.cell is None:
        text = f"failed: {str(done.error).splitlines()[0]}"
    else:
        text = _scores(done.cell)
    print(f"{where}: {text} ({formats.seconds(elapsed)})", file=sys.stderr, flush=True)  # noqa: T201


def _scores(cell: Cell) -> str:
    split = "validation" if cell.test_ticket is None else "test"
    dense, ticket = (
        (cell.val_dense, cell.val_ticket)
        if cell.test_ticket is None or cell.test_dense is None
        else (cell.test_dense, cell.test_ticket)
    )
    return f"{split} {formats.percent(ticket)}, dense {formats.percent(dense)}"


def _cells(row: Row) -> tuple[str, ...]:
    against = row.versus_dense
    return (
        row.label,
        str(len(row.cells)),
        "-" if row.test is None else _mean(row.test),
        "-" if against is None else _signed(against.test.difference.mean),
        "-" if against is None else _signed(against.test.lower_bound),
        _verdict(against),
        _verdict(row.versus_like),
        formats.seconds(row.search_seconds),
        f"{row.search_epochs:g}",
        formats.large(row.median("macs_ticket")),
        formats.size(int(row.median("bytes_ticket"))),
        "-" if row.cost_ratio is None else f"{row.cost_ratio:.2f}",
    )


def _verdict(comparison: Comparison | None) -> str:
    if comparison is None:
        return "-"
    return comparison.verdict.value if comparison.is_due else "not finished"


def _mean(interval: Interval) -> str:
    if not math.isfinite(interval.half_width):
        return f"{interval.mean:.2f}"
    return f"{interval.mean:.2f} +- {interval.half_width:.2f}"


def _signed(value: float) -> str:
    return f"{value:+.2f}" if math.isfinite(value) else "-"


def _interval_json(interval: Interval | None) -> dict[str, float | None] | None:
    if interval is None:
        return None
    return {
        "mean": interval.mean,
        "low": _finite(interval.low),
        "high": _finite(interval.high),
    }


def _comparison_json(comparison: Comparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    test = comparison.test
    return {
        "difference": _interval_json(test.difference),
        "lower_bound": _finite(test.lower_bound),
        "p_win": test.p_win,
        "p_lose": test.p_lose,
        "verdict": comparison.verdict.value,
        "is_due": comparison.is_due,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
