"""What a ticket takes in time, memory and arithmetic, by every way of using it, side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.compile.compiled import Compiled, compile_applied, runner_for
from fastglt.compile.cuda import Replayed
from fastglt.compile.hardware import (
    MEGABYTE,
    measured_arithmetic,
    measured_bandwidth,
    peak_megabytes,
)
from fastglt.compile.kernels import Runner
from fastglt.compile.lower import Unsupported
from fastglt.compile.timing import timed
from fastglt.cost import count_macs, num_bytes
from fastglt.errors import FastGLTError
from fastglt.training.inputs import with_sparse_inputs
from fastglt.training.task import Task

HALF = torch.float16
"""What ``compiled_half`` computes in."""


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
            :meth:`Compiled.predict`. On a CUDA device also ``compiled_half``, the same in half
            precision, and, where that replays a CUDA graph, ``compiled_launched``, without one.
        bound_ms: The larger of what the compiled model moves by the measured bandwidth and what it
            computes by the measured arithmetic; ``None`` where it kept its shape.
        max_abs_diff: Largest difference of compiled and materialised outputs.
        bandwidth_gb_s: Gigabytes a second of a STREAM triad.
        peak_gflop_s: 10^9 operations a second of a dense product in single precision.
        threads: Of torch.
        device: Of torch; by its name where it is a CUDA device.
        failed: Why variants are missing, by their names.
    """

    variants: dict[str, Variant]
    bound_ms: float | None
    max_abs_diff: float
    bandwidth_gb_s: float
    peak_gflop_s: float
    threads: int
    device: str
    failed: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, strings and dicts."""
        return asdict(self)


@torch.no_grad()
def bench(
    dense: tuple[nn.Module, Data],
    applied: tuple[nn.Module, Data],
    compiled: Compiled,
    edge_keep: Tensor,
    task: Task,
    repeats: int = 20,
    leave_out: Collection[str] = (),
) -> Bench:
    """Measure a ticket in all ways, in turn.

    Args:
        dense: The model that was searched and its graph.
        applied: The model with its pruned weights at 0, and the graph with its kept edges.
        compiled: What was compiled of these.
        edge_keep: ``[num_edges]`` bool, the kept edges of the searched graph.
        task: Calls the model.
        repeats: Timed calls of each.
        leave_out: Variants that are not measured, such as those that take minutes a call.
    """
    model, data = dense[0].eval(), dense[1]
    small, kept = applied[0].eval(), applied[1]
    optimised, sparse = None, data
    if "dense_sparse_features" not in leave_out:
        optimised = _optimised(model, data)
        sparse = with_sparse_inputs(model, data, task) if optimised is None else data
    gate = edge_keep.to(next(model.parameters()).dtype)
    calls: dict[str, Callable[[], Tensor]] = {
        "dense": lambda: task.call(model, data),
        "dense_sparse_features": optimised or (lambda: task.call(model, sparse)),
        "masked": lambda: task.encode(small, data, gate),
        "materialised": lambda: task.call(small, kept),
        "compiled": compiled.predict,
    }
    calls = {name: call for name, call in calls.items() if name not in leave_out}
    device = kept.edge_index.device
    half: Compiled | None = None
    failed: dict[str, str] = {}
    if device.type == "cuda":
        half, failed = _in_half(small, kept, task)
        if isinstance(compiled.runner, Replayed):
            calls["compiled_launched"] = compiled.runner.runner
        if half is not None:
            calls["compiled_half"] = half.predict
    times = timed(calls, repeats, device=device)
    whole = count_macs(model, lambda called: task.call(called, data))
    fewer = count_macs(small, lambda called: task.call(called, kept))
    bandwidth, arithmetic = measured_bandwidth(device), measured_arithmetic(device)
    macs = {
        "dense": whole,
        "dense_sparse_features": whole if optimised is None else optimised.cost.macs,
        "masked": whole,
        "materialised": fewer,
        "compiled": fewer if compiled.cost is None else compiled.cost.macs,
    }
    sizes = dict.fromkeys(calls, num_bytes(model)) | {"compiled": num_bytes(compiled.model)}
    for name in calls.keys() - macs.keys():
        macs[name], sizes[name] = macs["compiled"], sizes["compiled"]
    # What runners keep from call to call belongs to their peak.
    held = {
        "dense_sparse_features": 0 if optimised is None else optimised.num_bytes_kept(),
        "compiled": compiled.num_bytes_kept(),
        "compiled_half": 0 if half is None else half.num_bytes_kept(),
    }
    peaks = {
        name: peak_megabytes(call, device) + held.get(name, 0) / MEGABYTE
        for name, call in calls.items()
    }
    variants = {
        name: Variant(*_spread(times[name]), peaks[name], macs[name], sizes[name]) for name in calls
    }
    gap = compiled.predict() - task.call(small, kept)
    return Bench(
        variants,
        _bound(compiled, bandwidth, arithmetic),
        float(gap.abs().max()) if gap.numel() else 0.0,
        bandwidth / 1e9,
        arithmetic / 1e9,
        torch.get_num_threads(),
        torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        failed,
    )


def _in_half(model: nn.Module, data: Data, task: Task) -> tuple[Compiled | None, dict[str, str]]:
    """The model compiled in half precision, and why it cannot be had if it cannot."""
    try:
        return compile_applied(model, data, task, HALF), {}
    except (FastGLTError, RuntimeError) as error:  # what torch raises for what it cannot do
        return None, {"compiled_half": str(error).partition("\n")[0]}


def _optimised(model: nn.Module, data: Data) -> Runner | Replayed | None:
    """The dense model by our kernels, if it can be taken apart."""
    try:
        return runner_for(model, data)
    except Unsupported:
        return None


def _bound(compiled: Compiled, bandwidth: float, arithmetic: float) -> float | None:
    if compiled.cost is None:
        return None
    moved = compiled.cost.traffic / bandwidth
    return 1000 * max(moved, 2 * compiled.cost.macs / arithmetic)


def _spread(times: list[float]) -> tuple[float, float, float]:
    deciles = statistics.quantiles(times, n=10, method="inclusive")
    return statistics.median(times), deciles[0], deciles[-1]
