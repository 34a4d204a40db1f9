"""Jobs in processes of this machine, which share its cores."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import parent_process
from threading import Thread
from typing import TYPE_CHECKING

from fastglt._memory import keep_memory
from fastglt._processes import worker_context
from fastglt.errors import InputError
from fastglt.study.jobs import Done, Job, Run, tried

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess as ParentProcess


@dataclass(frozen=True)
class Processes:
    """An engine, see :class:`fastglt.study.jobs.Engine`.

    Attributes:
        workers: Number of processes; 1 uses this one.
        threads: Threads of all of them together.
    """

    workers: int
    threads: int

    def ended(self, jobs: Sequence[Job], run: Run) -> Iterator[Done]:
        """Yield every job as it ends.

        Raises:
            InputError: If a worker dies; what has ended until then is yielded first.
        """
        workers = min(self.workers, len(jobs))
        # Whatever is missing, so that a resumed study agrees.
        threads = max(1, self.threads // self.workers)
        if workers > 1:
            yield from _ended_in_workers(jobs, run, workers, threads)
            return
        prepare_process(threads)
        for job in jobs:
            yield tried(run, job)


def prepare_process(threads: int) -> None:
    """Make this process one that runs jobs: its memory and its number of threads."""
    keep_memory()
    import torch

    torch.set_num_threads(threads)


def _ended_in_workers(jobs: Sequence[Job], run: Run, workers: int, threads: int) -> Iterator[Done]:
    # Threads that wait by spinning slow the other workers down.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    context = worker_context("fastglt.api")
    pool = ProcessPoolExecutor(workers, context, _start, (threads,))
    futures: list[Future[Done]] = [pool.submit(tried, run, job) for job in jobs]
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
    prepare_process(threads)


def _end_with(parent: ParentProcess) -> None:
    """A killed study leaves no worker behind, whose result nobody would store."""
    parent.join()
    os._exit(1)
