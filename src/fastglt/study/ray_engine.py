"""Jobs as tasks of a cluster of Ray (extra ``ray``): any number of machines, and retries."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import fastglt
from fastglt import errors
from fastglt.errors import FastGLTError, InputError
from fastglt.study.cells import cell_of, line_of
from fastglt.study.jobs import Done, Job, Run, key_of, tried
from fastglt.study.processes import prepare_process
from fastglt.study.ray_cluster import Cluster, Needs, check_address, import_ray

TRIES = 4
"""How often a job is begun, as long as it is its worker that dies."""
_LOG = logging.getLogger(__name__)
_CELL = "cell"
Answer = tuple[str, str]
"""``"cell"`` and the cell's line; or the name of an exception and its message. Text alone, so that
nothing but strict JSON comes from the cluster into the study."""


class _Attempt(NamedTuple):
    job: Job
    number: int


class RayEngine:
    """An engine, see :class:`fastglt.study.jobs.Engine`; a context that leaves the cluster.

    The cluster is joined when the first job is to be run.

    Args:
        address: ``auto``, ``host:port`` or ``ray://host:port``.
        threads: Threads, and so cores, of each job.
        gpus: GPUs of each job, 0 or 1.

    Raises:
        InputError: If the address is none, or Ray is not installed.
    """

    def __init__(self, address: str, *, threads: int = 1, gpus: int = 0) -> None:
        check_address(address)
        import_ray()
        self._address, self._needs = address, Needs(threads, gpus)
        self._cluster: Cluster | None = None

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None

    def ended(self, jobs: Sequence[Job], run: Run) -> Iterator[Done]:
        """Yield every job as it ends.

        A job whose worker died is begun again, :data:`TRIES` times in all. One that failed by
        itself is not.

        Raises:
            InputError: If the cluster cannot be joined, or is lost.
        """
        if not jobs:
            return
        if self._cluster is None:
            self._cluster = Cluster(self._address, self._needs)
        ray = self._cluster.ray
        # Ray's own retries would be silent, and would not count those who run out of memory.
        task = ray.remote(
            num_cpus=self._needs.threads, num_gpus=self._needs.gpus, max_retries=0
        )(answer)  # fmt: skip

        def begun(job: Job) -> Any:
            return task.remote(job, run, self._needs.threads, _version())

        waiting = {begun(job): _Attempt(job, 1) for job in jobs}
        try:
            while waiting:
                (reference, *_), _ = ray.wait(list(waiting), num_returns=1)
                job, number = waiting.pop(reference)
                try:
                    done = _understood(job, ray.get(reference))
                except ray.exceptions.RayTaskError as error:
                    done = Done(job, None, FastGLTError(_not_run(error)))
                except ray.exceptions.RayError as error:
                    if number < TRIES:
                        _tell(job, number, error)
                        waiting[begun(job)] = _Attempt(job, number + 1)
                        continue
                    done = Done(job, None, FastGLTError(_died(error)))
                yield done
        except ConnectionError as error:
            raise InputError(
                f"the cluster of Ray was lost ({error}); finished cells are kept: go on with the "
                "same command"
            ) from error
        finally:
            for reference in waiting:
                with suppress(ConnectionError):  # of a cluster that was lost
                    ray.cancel(reference, force=True)


def answer(job: Job, run: Run, threads: int, version: str) -> Answer:
    """Run a job in a worker; what comes back is text.

    Args:
        job: The job.
        run: Runs it.
        threads: To compute with.
        version: That of the study's own package; another one would give other cells.
    """
    if version != _version():
        return "InputError", (
            f"the study is run by fastglt {version} and this worker has {_version()}; install the "
            "same on all machines"
        )
    prepare_process(threads)
    done = tried(run, job)
    try:
        if done.cell is not None:
            return _CELL, line_of(done.cell)
    except FastGLTError as error:  # a figure that has no JSON, such as NaN
        return type(error).__name__, str(error)
    return type(done.error).__name__, str(done.error)


def _version() -> str:
    # Imported where it is run: what a method does is told by this number, not by the package's.
    from fastglt.search import METHOD_VERSION

    return f"{fastglt.__version__}, method {METHOD_VERSION}"


def _understood(job: Job, answered: Answer) -> Done:
    kind, text = answered
    if kind != _CELL:
        return Done(job, None, _error(kind, text))
    try:
        cell = cell_of(text.encode(), f"the cell of {job.label} with seed {job.seed}")
    except InputError as error:
        return Done(job, None, error)
    if key_of(cell) != job.key:
        return Done(job, None, FastGLTError(f"the worker made another cell: {key_of(cell)}"))
    return Done(job, cell)


def _error(kind: str, text: str) -> FastGLTError:
    """An error of the class of that name, which callers tell apart, or of the nearest one."""
    found = getattr(errors, kind, None)
    if not (isinstance(found, type) and issubclass(found, FastGLTError)):
        return FastGLTError(text)
    # Those with an __init__ of their own cannot be made from their message.
    plain = next(base for base in found.__mro__ if "__init__" not in vars(base))
    return plain(text) if issubclass(plain, FastGLTError) else FastGLTError(text)


def _tell(job: Job, number: int, error: Exception) -> None:
    _LOG.warning(
        "%s, seed %d: its worker died (%s); begun again, try %d of %d",
        job.label, job.seed, type(error).__name__, number + 1, TRIES,
    )  # fmt: skip


def _died(error: Exception) -> str:
    return (
        f"its worker died {TRIES} times, as when a machine runs out of memory "
        f"({type(error).__name__}); finished cells are kept: go on with the same command"
    )


def _not_run(error: Exception) -> str:
    *_, reason = str(error).strip().splitlines()
    return f"the worker could not run it; it needs what this machine has installed: {reason}"
