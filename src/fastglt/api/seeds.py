"""``find_seeds``: tickets of several seeds at once."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import BaseContext
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt._memory import keep_memory
from fastglt.api.entry import find
from fastglt.errors import InputError
from fastglt.ticket import Ticket
from fastglt.ticket.compiled import uncompiled
from fastglt.training.seeding import seeded

_shared: dict[str, Any] = {}
"""What a worker process was started with."""


def find_seeds(
    build: Callable[[], nn.Module],
    data: Data,
    seeds: Sequence[int],
    *,
    workers: int | None = None,
    **settings: Any,
) -> list[Ticket]:
    """Tickets of several seeds, in processes that share the machine's cores.

    One search of a small graph does not keep several cores busy: two processes with one thread
    each do more in the same time than one process with two. Every ticket is the one that
    :func:`find` gives for its seed on as many threads as a worker has.

    The workers import the caller's main module, as Python's :mod:`multiprocessing` has it, so a
    script must call this under ``if __name__ == "__main__":``.

    Args:
        build: Makes a model; called once a seed, with torch's random state seeded by it. It can
            also be ``lambda: model``, for one initialisation.
        data: As in :func:`find`. A graph on a GPU is searched in this process, one seed after the
            other.
        seeds: The seeds, all different.
        workers: Number of processes; ``None`` takes one a core, and no more than seeds; 1 uses
            this process. The cores are divided among them.
        settings: Anything else that :func:`find` takes, but no ``seed`` and no ``callback``. Must
            be picklable, like model and data, unless ``workers`` is 1.

    Returns:
        The tickets, in the order of ``seeds``.

    Raises:
        InputError: If seeds or workers cannot be used, or whatever :func:`find` raises; the
            searches that are not yet begun are left out then.
    """
    _check(seeds, workers, settings)
    models = []
    for seed in seeds:
        with seeded(seed):
            models.append(uncompiled(build()))
    count = _num_workers(len(seeds), workers, data)
    if count == 1:
        return [
            find(model, data, seed=seed, **settings)
            for model, seed in zip(models, seeds, strict=True)
        ]
    # Pickled by hand: torch would hand over every tensor as an open file of its own.
    shared, jobs = pickle.dumps((data, settings)), list(map(pickle.dumps, models))
    threads = max(1, _num_cores() // count)
    with ProcessPoolExecutor(count, _context(), _start, (shared, threads)) as pool:
        return [pickle.loads(found) for found in pool.map(_find, jobs, seeds)]


def _check(seeds: Sequence[int], workers: int | None, settings: dict[str, Any]) -> None:
    if len(set(seeds)) != len(seeds):
        raise InputError(f"seeds must all be different (got {list(seeds)})")
    if workers is not None and workers < 1:
        raise InputError(f"workers must be at least 1 (got {workers})")
    for name in ("seed", "callback"):
        if name in settings:
            raise InputError(f"{name} cannot be given to find_seeds; use find for a single run")


def _num_workers(num_seeds: int, workers: int | None, data: Data) -> int:
    if not isinstance(data, Data):  # which find refuses
        return 1
    tensors = [value for value in data.to_dict().values() if isinstance(value, Tensor)]
    if any(tensor.device.type != "cpu" for tensor in tensors):
        return 1
    return max(1, min(num_seeds, _num_cores() if workers is None else workers))


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _context() -> BaseContext:
    """A way to start processes that does not copy this one, whose threads would be missing."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _start(shared: bytes, threads: int) -> None:
    keep_memory()
    torch.set_num_threads(threads)
    _shared["data"], _shared["settings"] = pickle.loads(shared)


def _find(model: bytes, seed: int) -> bytes:
    ticket = find(pickle.loads(model), _shared["data"], seed=seed, **_shared["settings"])
    return pickle.dumps(ticket)
