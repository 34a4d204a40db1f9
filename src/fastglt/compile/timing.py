"""How long calls take, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

REPEATS = 5
"""Timed calls of each kernel, in turn."""
SWEPT_BYTES = 1 << 25
"""Bytes that are written before each timed call."""
PATIENCE = 2000.0
"""Milliseconds of a kernel's calls after which it is not called again."""


def in_turn(kernels: Mapping[str, Callable[..., object]], *inputs: Tensor) -> dict[str, float]:
    """Median milliseconds of each, called in turn, the first time not counted.

    What is slow is called less often, at the least once, and then that time counts. Before each
    call other memory is written: who predicts now and then finds nothing in a cache.
    """
    times = {name: [_by_clock(kernel, inputs)] for name, kernel in kernels.items()}
    sweep = torch.empty(SWEPT_BYTES, dtype=torch.uint8)
    for _ in range(REPEATS):
        for name, kernel in kernels.items():
            if sum(times[name]) < PATIENCE:
                sweep.fill_(1)
                times[name].append(_by_clock(kernel, inputs))
    return {name: statistics.median(found[1:] or found) for name, found in times.items()}


def timed(
    kernels: Mapping[str, Callable[..., object]],
    repeats: int,
    *inputs: Tensor,
    device: torch.device | None = None,
) -> dict[str, list[float]]:
    """Milliseconds of each, called in turn so often, after a first round that does not count.

    Args:
        kernels: What is called, by name.
        repeats: Timed calls of each.
        inputs: What they are called with.
        device: A CUDA device to take the time on, by its events; else it is taken here, until all
            devices are done.
    """
    events = device is not None and device.type == "cuda"
    measure = _by_events if events else _by_clock
    times: dict[str, list[float]] = {name: [] for name in kernels}
    with on_device(device):
        for repeat in range(repeats + 1):
            for name, kernel in kernels.items():
                taken = measure(kernel, inputs)
                if repeat:
                    times[name].append(taken)
    return times


def on_device(device: torch.device | None) -> AbstractContextManager[object]:
    """Make a CUDA device the current one, whose clock and streams are meant; nothing elsewhere."""
    is_cuda = device is not None and device.type == "cuda"
    return torch.cuda.device(device) if is_cuda else nullcontext()


def _by_clock(kernel: Callable[..., object], inputs: tuple[Tensor, ...]) -> float:
    _settle()
    start = time.perf_counter()
    kernel(*inputs)
    _settle()
    return 1000 * (time.perf_counter() - start)


def _by_events(kernel: Callable[..., object], inputs: tuple[Tensor, ...]) -> float:
    start: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start.record()
    kernel(*inputs)
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end))


def _settle() -> None:
    """Wait for what a GPU was told to do."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
