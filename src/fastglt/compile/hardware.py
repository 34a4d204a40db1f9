"""What this machine can do, and what a call takes of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity, profile

from fastglt.compile.timing import timed

MEGABYTE = 1e6
STREAM_NUMBERS = 1 << 24
"""Numbers in each of the three arrays of the bandwidth test: far more than a cache holds."""
PRODUCT_SIZE = 1024
"""Rows and columns of the matrices of the arithmetic test."""
REPEATS = 5
"""Tries of both tests, the best of which counts."""


def peak_megabytes(call: Callable[[], object], device: torch.device) -> float:
    """Largest number of megabytes that a call has allocated at a time, by torch's own count."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return (torch.cuda.max_memory_allocated(device) - before) / MEGABYTE
    with (
        _silent_stderr(),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled,
    ):
        result = call()
        del result
    assert profiled.profiler is not None
    events = profiled.profiler.kineto_results.events()
    changes = sorted(
        (event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"
    )
    held, most = 0, 0
    for _, change in changes:
        held += change
        most = max(most, held)
    return most / MEGABYTE


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Keep quiet what torch's profiler tells of its starts and stops, whatever its log level."""
    sys.stderr.flush()
    before = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def measured_bandwidth(device: torch.device) -> float:
    """Bytes a second of a STREAM triad, ``a = b + 3 * c`` (McCalpin, 1995), with torch's threads.

    As in STREAM, each number counts once where it is read and once where it is written.
    """
    b, c, a = (torch.ones(STREAM_NUMBERS, device=device) for _ in range(3))
    calls = {"triad": lambda: torch.add(b, c, alpha=3, out=a)}
    times = timed(calls, REPEATS, device=device)["triad"]
    return 3 * STREAM_NUMBERS * a.element_size() / (min(times) / 1000)


def measured_arithmetic(device: torch.device) -> float:
    """Operations a second (two for each multiply-accumulate) of a dense product in float32."""
    matrix = torch.rand(PRODUCT_SIZE, PRODUCT_SIZE, device=device)
    times = timed({"product": lambda: matrix @ matrix}, REPEATS, device=device)["product"]
    return 2 * PRODUCT_SIZE**3 / (min(times) / 1000)
