"""Running the cells of a study that are not there yet, wherever an engine runs them."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fastglt.errors import FastGLTError, InputError, OutputPathError
from fastglt.study.cells import Cell, Stage, append_cell, hash_of, read_cells

Key = tuple[str, str, int, int]
"""Stage, settings hash, seed and seed of the split: one cell of a study."""


@dataclass(frozen=True)
class Job:
    """A cell that is wanted.

    Attributes:
        stage: What it is for.
        label: What tables call its method.
        spec: What was asked for, all of it but the seeds, JSON-able; see :class:`Cell`.
        seed: Seed of everything random.
        split_seed: Seed of the split.
        options: What is needed to run it, picklable, and has no say in the result.
    """

    stage: Stage
    label: str
    spec: Mapping[str, Any]
    seed: int
    split_seed: int
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """What tells it from the other cells of a study."""
        return self.stage, hash_of(self.spec), self.seed, self.split_seed


Run = Callable[[Job], Cell]
"""Runs one job; a function of a module, so that worker processes can find it."""


@dataclass(frozen=True)
class Done:
    """A job that has ended.

    Attributes:
        job: The job.
        cell: Its cell; ``None`` if it failed.
        error: What it failed by.
        is_new: Whether it was run now, not found in the study.
    """

    job: Job
    cell: Cell | None
    error: FastGLTError | None = None
    is_new: bool = True


class Engine(Protocol):
    """Where jobs are run: :class:`fastglt.study.processes.Processes` or ``ray_engine.RayEngine``.

    A cell must depend on its job alone and not on the engine, so that a study that was begun by one
    can be gone on with by another. Engines never write: :func:`run_jobs` alone does.
    """

    def ended(self, jobs: Sequence[Job], run: Run) -> Iterator[Done]:
        """Yield every job once, as it ends, failed ones with their error.

        Args:
            jobs: What is to be run.
            run: Runs one.

        Raises:
            InputError: If the jobs cannot be run at all, or not any longer.
        """
        ...


def key_of(cell: Cell) -> Key:
    """The key of the job that a cell was made for."""
    return cell.stage, cell.settings_hash, cell.seed, cell.split_seed


def run_jobs(folder: Path, jobs: Sequence[Job], run: Run, engine: Engine) -> Iterator[Done]:
    """Yield every job as it ends: those in the study first, then the others as they are run.

    New cells are appended to the study before they are yielded, so what was yielded is safe. The
    order in which jobs end says nothing; their cells do not depend on it.

    Args:
        folder: The study.
        jobs: What is wanted.
        run: Runs a job.
        engine: Where.

    Raises:
        InputError: If the engine cannot run them.
        OutputPathError: If the study cannot be written.
    """
    found = {key_of(cell): cell for cell in read_cells(folder)}
    missing = []
    for job in jobs:
        if job.key in found:
            yield Done(job, found[job.key], is_new=False)
        else:
            missing.append(job)
    for done in engine.ended(missing, run):
        yield done if done.cell is None else _stored(folder, done, done.cell)


def tried(run: Run, job: Job) -> Done:
    """The job with its cell, or with what it failed by; for engines, in whatever process."""
    try:
        return Done(job, run(job))
    except FastGLTError as error:
        return Done(job, None, error)
    except Exception as error:  # noqa: BLE001  (the user's model may raise anything)
        text = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
        return Done(job, None, FastGLTError(text))


def _stored(folder: Path, done: Done, cell: Cell) -> Done:
    """The job with its cell in the study; failed if a figure of it, such as NaN, has no JSON."""
    try:
        append_cell(folder, cell)
    except OutputPathError:
        raise
    except InputError as error:
        return Done(done.job, None, error)
    return done
