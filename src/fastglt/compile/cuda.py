"""What only a CUDA device can do: launch all kernels of a call at once, as a CUDA graph."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fastglt.compile.kernels import Choice, Runner
from fastglt.compile.timing import in_turn

WARM_UP = 3
"""Calls on the stream of the capture before it, which allocate and choose what is reused."""


class Replayed:
    """A runner whose kernels were captured as a CUDA graph.

    Small graphs leave a GPU idle while kernels are launched one by one. Attributes are those of the
    runner.

    Raises:
        RuntimeError: If it does what cannot be captured, such as waiting for the device.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner, self.choices, self.cost = runner, runner.choices, runner.cost
        self._graph, self._out, self._kept = _captured(runner)
        self._done: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._lock = threading.Lock()

    def __call__(self) -> Tensor:
        """Output ``[num_nodes, num_outputs]``, in memory of its own."""
        with self._lock:  # each replay overwrites what the last one wrote, on whatever stream
            torch.cuda.current_stream(self._out.device).wait_event(self._done)
            self._graph.replay()
            out = self._out.clone()
            self._done.record(torch.cuda.current_stream(self._out.device))
        return out

    def num_bytes_kept(self) -> int:
        """Bytes of memory that are kept from call to call."""
        return self._kept


def launched(runner: Runner) -> tuple[Runner | Replayed, list[Choice]]:
    """A runner whose kernels are launched in the way that is the fastest here.

    Args:
        runner: Launches them one by one.

    Returns:
        tuple: The runner, and what was measured on a CUDA device; elsewhere there is no choice.
    """
    if runner.device.type != "cuda":
        return runner, []
    ways: dict[str, Runner | Replayed] = {"one by one": runner}
    try:
        with torch.cuda.device(runner.device):
            ways["CUDA graph"] = Replayed(runner)
    except RuntimeError:  # what torch raises for what it cannot capture
        pass
    times = in_turn(ways)
    fastest = min(times, key=times.__getitem__)
    return ways[fastest], [Choice("launches", fastest, times)]


def _captured(call: Callable[[], Tensor]) -> tuple[torch.cuda.CUDAGraph, Tensor, int]:
    """A call as a CUDA graph, the output that it overwrites, and the bytes that it holds."""
    before: Any = torch.cuda.current_stream()
    stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(before)
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            call()
        with _never_waits():
            call()
    before.wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    allocated = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    try:
        with _own_random_state(), torch.cuda.graph(graph):
            out = call()
    finally:
        torch.cuda.set_stream(before)  # a capture that fails does not
    return graph, out, torch.cuda.max_memory_allocated() - allocated


@contextmanager
def _never_waits() -> Iterator[None]:
    """Have what waits for the device raise a RuntimeError: a capture that fails leaves traces."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the mode itself: it may miss some
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@contextmanager
def _own_random_state() -> Iterator[None]:
    """Give a capture another random state: where it fails, torch refuses to use it ever after."""
    generator: Any = torch.cuda.default_generators[torch.cuda.current_device()]
    before = generator.graphsafe_get_state()
    generator.graphsafe_set_state(generator.clone_state())
    try:
        yield
    finally:
        generator.graphsafe_set_state(before)
