"""Running the cells of a study that are not there yet, in processes that share the cores."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import parent_process
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from fastglt._memory import keep_memory
from fastglt._processes import worker_context
from fastglt.errors import FastGLTError, InputError, OutputPathError
from fastglt.study.cells import Cell, Stage, append_cell, hash_of, read_cells

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess as ParentProcess

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


def key_of(cell: Cell) -> Key:
    """The key of the job that a cell was made for."""
    return cell.stage, cell.settings_hash, cell.seed, cell.split_seed


def run_jobs(
    folder: Path, jobs: Sequence[Job], run: Run, *, workers: int, threads: int
) -> Iterator[Done]:
    """Yield every job as it ends: those in the study first, then the others as they are run.

    New cells are appended to the study before they are yielded, so what was yielded is safe. The
    order in which jobs end says nothing; their cells do not depend on it.

    Args:
        folder: The study.
        jobs: What is wanted.
        run: Runs a job.
        workers: Number of processes; 1 uses this one.
        threads: Threads of all of them together.

    Raises:
        InputError: If the workers cannot be started.
        OutputPathError: If the study cannot be written.
    """
    found = {key_of(cell): cell for cell in read_cells(folder)}
    missing = []
    for job in jobs:
        if job.key in found:
            yield Done(job, found[job.key], is_new=False)
        else:
            missing.append(job)
    each = max(1, threads // workers)  # whatever is missing, so that a resumed study agrees
    for done in _ended(missing, run, min(workers, len(missing)), each):
        yield done if done.cell is None else _stored(folder, done, done.cell)


def _ended(jobs: Sequence[Job], run: Run, workers: int, threads: int) -> Iterator[Done]:
    if workers <= 1:
        _start(threads)
        for job in jobs:
            yield _tried(run, job)
        return
    # Threads that wait by spinning slow the other workers down.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    context = worker_context("fastglt.api")
    pool = ProcessPoolExecutor(workers, context, _start, (threads,))
    futures: list[Future[Done]] = [pool.submit(_tried, run, job) for job in jobs]
    left = set(futures)
    try:
        for future in as_completed(futures):
            left.discard(future)
            yield future.result()
    except BrokenProcessPool as error:
        yield from (future.result() for future in left if _has_result(future))
        raise InputError(
            "a worker process ended without an answer, as when the machine runs out of memory; "
            "finished cells are kept: go on with the same command, or with fewer --workers"
        ) from error
    finally:
        # Without waiting for idle workers their pipe may be closed while Python still writes to it.
        pool.shutdown(wait=not left, cancel_futures=True)


def _has_result(future: Future[Done]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _start(threads: int) -> None:
    parent = parent_process()
    if parent is not None:
        Thread(target=_end_with, args=(parent,), daemon=True).start()
    keep_memory()
    import torch

    torch.set_num_threads(threads)


def _end_with(parent: ParentProcess) -> None:
    """A killed study leaves no worker behind, whose result nobody would store."""
    parent.join()
    os._exit(1)


def _stored(folder: Path, done: Done, cell: Cell) -> Done:
    """The job with its cell in the study; failed if a figure of it, such as NaN, has no JSON."""
    try:
        append_cell(folder, cell)
    except OutputPathError:
        raise
    except InputError as error:
        return Done(done.job, None, error)
    return done


def _tried(run: Run, job: Job) -> Done:
    try:
        return Done(job, run(job))
    except FastGLTError as error:
        return Done(job, None, error)
    except Exception as error:  # noqa: BLE001  (the user's model may raise anything)
        text = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
        return Done(job, None, FastGLTError(text))
