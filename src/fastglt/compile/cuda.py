"""What only a CUDA device can do: launch all kernels of a call at once, as a CUDA graph."""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastglt.compile.kernels import Choice, Runner
from fastglt.compile.timing import in_turn, on_device

WARM_UP = 3
"""Calls on the stream of the capture before it, which allocate and choose what is reused."""
WAITS = "called a synchronizing CUDA operation"
"""What torch warns of, where it is told to."""


class Replayed:
    """A runner whose kernels were captured as a CUDA graph.

    Small graphs leave a GPU idle while kernels are launched one by one.

    Attributes:
        runner: The runner.
        cost: What a call takes.

    Raises:
        RuntimeError: If it does what cannot be captured, such as waiting for the device.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner, self.cost = runner, runner.cost
        with on_device(runner.device):
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


@dataclass(frozen=True)
class Launched:
    """How the kernels of a runner are launched.

    Attributes:
        runner: Launches them in the way that is the fastest here.
        choices: What was measured; nothing but on a CUDA device, where alone there is a choice.
        no_graph: Why they could not be captured as a CUDA graph on one, else ``None``.
    """

    runner: Runner | Replayed
    choices: tuple[Choice, ...] = ()
    no_graph: str | None = None


def launched(runner: Runner) -> Launched:
    """A runner's kernels one by one, or at once where that is faster."""
    if runner.device.type != "cuda":
        return Launched(runner)
    ways: dict[str, Runner | Replayed] = {"one by one": runner}
    reason: str | None = None
    try:
        ways["CUDA graph"] = Replayed(runner)
    except RuntimeError as error:  # what torch raises for what it cannot capture
        reason = str(error).partition("\n")[0]
    times = in_turn(ways)
    fastest = min(times, key=times.__getitem__)
    return Launched(ways[fastest], (Choice("launches", fastest, times),), reason)


def _captured(call: Callable[[], Tensor]) -> tuple[torch.cuda.CUDAGraph, Tensor, int]:
    """A call as a CUDA graph, the output that it overwrites, and the bytes that it holds.

    Warmed up on the stream of the capture, so that libraries have their memory for it already.
    """
    before: Any = torch.cuda.current_stream()
    stream = _stream(torch.cuda.current_device())
    stream.wait_stream(before)
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            call()
        _check_never_waits(call)
    before.wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    allocated = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    # Other threads may go on with what a capture does not allow.
    capture = torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local")
    try:
        with _own_random_state(), capture:
            out = call()
    finally:
        torch.cuda.set_stream(before)  # a capture that fails does not
    return graph, out, torch.cuda.max_memory_allocated() - allocated


@functools.cache
def _stream(device: int) -> Any:
    """The stream that captures of a device are made on: libraries keep memory for each stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _check_never_waits(call: Callable[[], Tensor]) -> None:
    """Refuse a call that waits for the device: a capture that fails leaves traces.

    Raises:
        RuntimeError: If it waits.
    """
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # The mode is one for all threads: they are warned, and an error would end their work.
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    if any(WAITS in str(each.message) for each in caught):
        raise RuntimeError("it waits for the device")


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
