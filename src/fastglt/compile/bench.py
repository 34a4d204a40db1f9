"""What a ticket takes in time, memory and arithmetic, by every way of using it, side by side."""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch_geometric.data import Data

from fastglt.compile.compiled import Compiled, compile_applied, runner_for
from fastglt.compile.kernels import timed
from fastglt.compile.lower import Unsupported
from fastglt.compile.ways import Cost
from fastglt.cost import count_macs, num_bytes
from fastglt.training.inputs import with_sparse_inputs
from fastglt.training.task import Task

MEGABYTE = 1e6
STREAM_NUMBERS = 1 << 24
"""Numbers in each of the three arrays of the bandwidth test: far more than a cache holds."""
PRODUCT_SIZE = 1024
"""Rows and columns of the matrices of the arithmetic test."""
REPEATS = 5
"""Tries of both tests, the best of which counts."""


@dataclass(frozen=True)
class Variant:
    """What one way of using a ticket takes for outputs of the whole graph.

    Attributes:
        median_ms: Median milliseconds.
        p10_ms: What a tenth of the calls stays below.
        p90_ms: What nine tenths of the calls stay below.
        peak_mb: Largest number of megabytes (10^6 bytes) allocated at a time during a call, besides
            the model and the graph.
        macs: Multiply-accumulates that are really executed.
        bytes: Bytes of the parameters.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    peak_mb: float
    macs: int
    bytes: int


@dataclass(frozen=True)
class Bench:
    """Measurements of a ticket.

    Attributes:
        variants: ``dense``: the model as it was, as PyG computes it. ``dense_sparse_features``: the
            same by our kernels, with sparse features and everything precomputed that depends on
            the edges alone, but nothing pruned. ``masked``: weights and edges multiplied by masks.
            ``materialised``: the kept edges, and weights that are 0. ``compiled``:
            :meth:`Compiled.predict`.
        bound_ms: The larger of what the compiled model moves by the measured bandwidth and what it
            computes by the measured arithmetic; ``None`` where it kept its shape.
        max_abs_diff: Largest difference of compiled and materialised outputs.
        bandwidth_gb_s: Gigabytes a second of a STREAM triad.
        peak_gflop_s: 10^9 operations a second of a dense product in single precision.
        threads: Of torch.
        device: Of torch.
    """

    variants: dict[str, Variant]
    bound_ms: float | None
    max_abs_diff: float
    bandwidth_gb_s: float
    peak_gflop_s: float
    threads: int
    device: str

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, strings and dicts."""
        return asdict(self)


@torch.no_grad()
def bench(
    dense: tuple[nn.Module, Data],
    applied: tuple[nn.Module, Data],
    edge_keep: Tensor,
    task: Task,
    repeats: int = 20,
) -> Bench:
    """Measure a ticket in all ways, in turn.

    Args:
        dense: The model that was searched and its graph.
        applied: The model with its pruned weights at 0, and the graph with its kept edges.
        edge_keep: ``[num_edges]`` bool, the kept edges of the searched graph.
        task: Calls the model.
        repeats: Timed calls of each.

    Raises:
        CompileError: If the compiled model differs from the masked one.
    """
    model, data = dense[0].eval(), dense[1]
    small, kept = applied[0].eval(), applied[1]
    compiled = compile_applied(small, kept, task)
    ours, ours_cost = _optimised(model, data, task)
    gate = edge_keep.to(next(model.parameters()).dtype)
    calls: dict[str, Callable[[], Tensor]] = {
        "dense": lambda: task.call(model, data),
        "dense_sparse_features": ours,
        "masked": lambda: task.encode(small, data, gate),
        "materialised": lambda: task.call(small, kept),
        "compiled": compiled.predict,
    }
    times = timed(calls, repeats)
    whole = count_macs(model, lambda called: task.call(called, data))
    fewer = count_macs(small, lambda called: task.call(called, kept))
    bandwidth, arithmetic = measured_bandwidth(), measured_arithmetic()
    macs = {
        "dense": whole,
        "dense_sparse_features": whole if ours_cost is None else ours_cost.macs,
        "masked": whole,
        "materialised": fewer,
        "compiled": fewer if compiled.cost is None else compiled.cost.macs,
    }
    sizes = dict.fromkeys(calls, num_bytes(model)) | {"compiled": num_bytes(compiled.model)}
    variants = {
        name: Variant(*_spread(times[name]), peak_megabytes(call), macs[name], sizes[name])
        for name, call in calls.items()
    }
    gap = compiled.predict() - task.call(small, kept)
    return Bench(
        variants,
        _bound(compiled, bandwidth, arithmetic),
        float(gap.abs().max()) if gap.numel() else 0.0,
        bandwidth / 1e9,
        arithmetic / 1e9,
        torch.get_num_threads(),
        str(kept.edge_index.device),
    )


def _optimised(
    model: nn.Module, data: Data, task: Task
) -> tuple[Callable[[], Tensor], Cost | None]:
    """The dense model with sparse inputs, by our kernels where it can be taken apart."""
    try:
        runner = runner_for(model, data)
    except Unsupported:
        sparse = with_sparse_inputs(model, data, task)
        return lambda: task.call(model, sparse), None
    return runner, runner.cost


def _bound(compiled: Compiled, bandwidth: float, arithmetic: float) -> float | None:
    if compiled.cost is None:
        return None
    moved = compiled.cost.traffic / bandwidth
    return 1000 * max(moved, 2 * compiled.cost.macs / arithmetic)


def _spread(times: list[float]) -> tuple[float, float, float]:
    deciles = statistics.quantiles(times, n=10, method="inclusive")
    return statistics.median(times), deciles[0], deciles[-1]


def peak_megabytes(call: Callable[[], object]) -> float:
    """Largest number of megabytes that a call has allocated at a time, by torch's own count."""
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


def measured_bandwidth() -> float:
    """Bytes a second of a STREAM triad, ``a = b + 3 * c`` (McCalpin, 1995), with torch's threads.

    As in STREAM, each number counts once where it is read and once where it is written.
    """
    b, c, a = (torch.ones(STREAM_NUMBERS) for _ in range(3))
    times = timed({"triad": lambda: torch.add(b, c, alpha=3, out=a)}, REPEATS)["triad"]
    return 3 * STREAM_NUMBERS * a.element_size() / (min(times) / 1000)


def measured_arithmetic() -> float:
    """Operations a second (two for each multiply-accumulate) of a dense product in float32."""
    matrix = torch.rand(PRODUCT_SIZE, PRODUCT_SIZE)
    times = timed({"product": lambda: matrix @ matrix}, REPEATS)["product"]
    return 2 * PRODUCT_SIZE**3 / (min(times) / 1000)
