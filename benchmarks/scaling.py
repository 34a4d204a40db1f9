"""How seconds and memory grow with the graph: csbm graphs from 10^4 to 10^7 edges.

Measured are a training epoch on the kept graph, with validation; a denoising event by influence and
one by the gradient of every edge's gate; the first epoch after an event, which makes the matrices
of the new kept graph; the peak memory of the process; and the bytes that the search itself holds
besides the graph. Each graph has a fresh process, which keeps its memory as that of the command
line does (:func:`fastglt._memory.keep_memory`): else most of the time on the largest graph goes
into page faults. Building the graph is not timed. Sizes without a result yet are appended to a
JSON-lines file::

    python benchmarks/scaling.py run --threads 2
    python benchmarks/scaling.py summary
"""

from __future__ import annotations

import argparse
import functools
import gc
import resource
import statistics
import sys
import time
import types
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.nn import GCN

import fastglt
from _cells import Key, Result, names, read_cells, run_missing, study_parser
from fastglt import scores
from fastglt._memory import keep_memory
from fastglt.data import csbm
from fastglt.gating.csr import csr_messages
from fastglt.search import METHOD_VERSION
from fastglt.training.inputs import with_sparse_inputs
from fastglt.training.loop import make_optimizer, predict, train_step
from fastglt.training.tasks import make_task
from fastglt.training.teacher import Objective

DEGREE, FEATURES, HIDDEN, SPARSITY, REPEATS = 20, 32, 64, 0.5, 5
_OPAQUE = (type, types.FunctionType, types.MethodType, types.ModuleType)
FIGURES = ("epoch", "first", "influence", "gradient", "prepare")


def all_keys(args: argparse.Namespace) -> list[Key]:
    """The cells that the arguments ask for: one a size and repetition."""
    return [
        {
            "edges": int(float(edges)),
            "degree": DEGREE,
            "hidden": HIDDEN,
            "sparsity": SPARSITY,
            "threads": args.threads,
            "repetition": repetition,
            "version": METHOD_VERSION,
        }
        for repetition in range(args.repetitions)
        for edges in args.edges
    ]


def measure(key: Key) -> Result:
    """Seconds of each part, bytes held and peak memory, in this process."""
    keep_memory()
    torch.set_num_threads(key["threads"])
    data = csbm(
        key["edges"] // DEGREE,
        average_degree=DEGREE,
        num_features=FEATURES,
        degree_exponent=2.5,
        seed=key["repetition"],
    )
    torch.manual_seed(0)
    model = GCN(FEATURES, HIDDEN, 2, int(data.y.max()) + 1, dropout=0.5)
    task = make_task(None, data)
    objective = Objective(task)
    before = _peak_bytes()
    plain = {tensor.data_ptr() for tensor in _tensors((data, model))}
    seconds: dict[str, list[float]] = defaultdict(list)
    optimizer = make_optimizer(model, 0.01, 5e-4)

    def prepare() -> fastglt.Denoiser:
        return fastglt.Denoiser(
            model,
            optimizer,
            with_sparse_inputs(model, data, task),
            steps=100,
            edge_sparsity=SPARSITY,
            config=fastglt.DenoiseConfig(interval=1, accumulation=1),
        )

    denoiser = _timed(seconds, "prepare", prepare)

    def epoch() -> None:
        model.train()
        train_step(optimizer, objective(task.forward(model, denoiser.data), denoiser.data), "here")
        out = predict(task, model, denoiser.data)
        task.metric(out, denoiser.data, "val")

    def gradient(edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        with csr_messages(model, edge_index):
            out = model(data.x, edge_index, edge_weight=edge_weight)
        return objective(out, data)

    def influence(_: Tensor, __: Tensor) -> Tensor:
        out = predict(task, model, denoiser.data)
        return scores.influence(task.profile(out), denoiser.groups, denoiser.edge_mask.keep)

    def event(score: Callable[[Tensor, Tensor], Tensor]) -> None:
        denoiser.step(score=score)
        denoiser.data  # noqa: B018  (the kept graph is part of an event)

    for score in (influence, gradient):  # not timed: the first of everything
        epoch()
        event(score)
    for _ in range(REPEATS):
        for name, score in (("influence", influence), ("gradient", gradient)):
            _timed(seconds, "first", epoch)
            _timed(seconds, "epoch", epoch)
            _timed(seconds, name, functools.partial(event, score))
    epoch()
    held = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in _tensors((denoiser,))
        if tensor.data_ptr() not in plain
    }
    return {
        "edges": data.num_edges,
        "seconds": {name: statistics.median(times) for name, times in seconds.items()},
        "held_bytes": sum(held.values()),
        "peak_bytes": _peak_bytes(),
        "peak_bytes_before": before,
    }


def _timed(seconds: dict[str, list[float]], name: str, work: Callable[[], Any]) -> Any:
    """The result of some work, whose seconds are noted."""
    start = time.perf_counter()
    result = work()
    seconds[name].append(time.perf_counter() - start)
    return result


def _tensors(roots: tuple[object, ...]) -> list[Tensor]:
    """All tensors that can be reached from some objects."""
    seen: set[int] = set()
    found: list[Tensor] = []
    waiting = list(roots)
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, _OPAQUE):
            continue
        seen.add(id(item))
        if isinstance(item, Tensor) and item.layout == torch.sparse_csr:
            waiting.extend((item.crow_indices(), item.col_indices(), item.values()))
        elif isinstance(item, Tensor):
            found.append(item)
        elif item.__class__.__module__.split(".")[0] in {"fastglt", "torch_geometric", "builtins"}:
            waiting.extend(gc.get_referents(item))
    return found


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


def in_fresh_process(key: Key) -> Result:
    """:func:`measure` in a process of its own, so that peaks do not mix."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(measure, key).result()


def run(args: argparse.Namespace) -> None:
    """Measure the sizes that have no result yet."""
    keep_memory()  # what torch reads, its processes inherit
    run_missing(args, all_keys(args), in_fresh_process)


def summary(args: argparse.Namespace) -> None:
    """Print nanoseconds and bytes an edge by size, and the fitted exponents."""
    sizes: dict[int, list[Result]] = {}
    for cell in read_cells(args.out):
        sizes.setdefault(cell["result"]["edges"], []).append(cell["result"])
    print(f"{'edges':>10}  n " + "".join(f"{name + ' ns':>14}" for name in FIGURES)
          + f"{'held bytes':>12}{'peak bytes':>12}   an edge")  # fmt: skip
    rows = []
    for edges, results in sorted(sizes.items()):
        figures = [
            statistics.median(result["seconds"][name] for result in results) * 1e9
            for name in FIGURES
        ]
        held, peak = (
            statistics.median(of(result) for result in results)
            for of in (
                lambda result: result["held_bytes"],
                lambda result: result["peak_bytes"] - result["peak_bytes_before"],
            )
        )
        rows.append((edges, *figures, held, peak))
        each = "".join(f"{figure / edges:14.1f}" for figure in figures)
        print(f"{edges:10}  {len(results)} {each}{held / edges:12.1f}{peak / edges:12.1f}")
    if len(rows) < 2:
        return
    columns = np.log(np.maximum(np.asarray(rows, dtype=float), 1)).T
    for label, column in zip((*FIGURES, "held", "peak"), columns[1:], strict=True):
        print(f"{label}: grows as edges^{np.polyfit(columns[0], column, 1)[0]:.2f}")


def parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    top = study_parser(__doc__, "scaling.jsonl")
    top.add_argument("--edges", type=names, default=["1e4", "1e5", "1e6", "1e7"])
    top.add_argument("--repetitions", type=int, default=3)
    return top


if __name__ == "__main__":
    arguments = parser().parse_args()
    {"run": run, "summary": summary}[arguments.command](arguments)
