"""``find_seeds``: tickets of several seeds at once."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt._memory import keep_memory
from fastglt._processes import num_cores, worker_context
from fastglt.api.entry import find
from fastglt.errors import FastGLTError, InputError
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

    One search of a small graph does not keep several cores busy. Every ticket is the one that
    :func:`find` gives for its seed on as many threads as a worker has.

    Starting the workers takes some seconds, which short searches do not win back: ``workers=1``
    does without. They import the caller's main module, as Python's :mod:`multiprocessing` has it,
    so a script must call this under ``if __name__ == "__main__":``, and classes of one's own have
    to stand in a module or outside of that block.

    Args:
        build: Makes a model; called once a seed, with torch's random state seeded by it. It can
            also be ``lambda: model``, for one initialisation.
        data: As in :func:`find`. A graph on a GPU is searched in this process, one seed after the
            other.
        seeds: The seeds, all different.
        workers: Number of processes; ``None`` takes one a core, and no more than seeds; 1 uses
            this process. The cores are divided among them.
        settings: Anything else that :func:`find` takes, but no ``seed``, ``callback`` or
            ``checkpoint``. Must be picklable, like model and data, unless ``workers`` is 1.

    Returns:
        The tickets, in the order of ``seeds``.

    Raises:
        InputError: If seeds or workers cannot be used, the workers cannot be started or cannot
            read what they are given, or whatever :func:`find` raises; the searches that are not
            yet begun are left out then.
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
    try:
        # Pickled by hand: torch would hand over every tensor as an open file of its own.
        shared, jobs = pickle.dumps((data, settings)), list(map(pickle.dumps, models))
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise InputError(f"workers could not be sent model, data or settings: {_WAY}") from error
    threads = max(1, num_cores() // count)
    try:
        context = worker_context(__name__)
        with ProcessPoolExecutor(count, context, _start, (shared, threads)) as pool:
            return [pickle.loads(found) for found in pool.map(_find, jobs, seeds)]
    except (BrokenProcessPool, ConnectionError, EOFError) as error:
        raise InputError(f"the workers could not be started: {_WAY}") from error


_WAY = (
    "a script must call find_seeds under if __name__ == '__main__':, and classes of the model and "
    "the task must stand where the workers can import them; workers=1 uses no other process"
)


def _check(seeds: Sequence[int], workers: int | None, settings: dict[str, Any]) -> None:
    if not isinstance(seeds, Sequence) or not all(isinstance(seed, int) for seed in seeds):
        raise InputError(f"seeds must be a sequence of whole numbers (got {seeds!r})")
    if len(set(seeds)) != len(seeds):
        raise InputError(f"seeds must all be different (got {list(seeds)})")
    if workers is not None and workers < 1:
        raise InputError(f"workers must be at least 1 (got {workers})")
    for name in ("seed", "callback", "checkpoint"):
        if name in settings:
            raise InputError(f"{name} cannot be given to find_seeds; use find for a single run")


def _num_workers(num_seeds: int, workers: int | None, data: Data) -> int:
    if not isinstance(data, Data):  # which find refuses
        return 1
    tensors = [value for value in data.to_dict().values() if isinstance(value, Tensor)]
    if any(tensor.device.type != "cpu" for tensor in tensors):
        return 1
    return max(1, min(num_seeds, num_cores() if workers is None else workers))


def _start(shared: bytes, threads: int) -> None:
    keep_memory()
    torch.set_num_threads(threads)
    _shared["data"], _shared["settings"] = pickle.loads(shared)


def _find(model: bytes, seed: int) -> bytes:
    try:
        loaded = pickle.loads(model)
    except (AttributeError, ImportError) as error:
        raise InputError(f"a worker could not read the model ({error}): {_WAY}") from None
    try:
        return pickle.dumps(find(loaded, _shared["data"], seed=seed, **_shared["settings"]))
    except FastGLTError as error:
        if hasattr(error, "add_note"):  # since Python 3.11
            error.add_note(f"in the search with seed {seed}")
        raise
