"""Worker processes that share the machine's cores."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.context import BaseContext


def num_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def worker_context(preload: str) -> BaseContext:
    """A way to start processes that does not copy this one, whose threads would be missing.

    Args:
        preload: Module that all workers need, imported once where that is possible.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    return context
