"""Denoising events on synthetic graphs of the largest datasets' shapes: seconds and memory.

An event is one :meth:`fastglt.Denoiser.step` that swaps edges, and the kept graph after it: once
with scores by the gradient of every edge's gate, once by the influence of predictions that are
there. Each graph is measured in a fresh process, whose peak memory is that of everything. Building
the graph is not timed. Results are appended to a JSON-lines file; give ``--machine shared`` where
other programs run at the same time: only the processor's seconds, summed over threads, mean
something then::

    python benchmarks/scale.py --threads 2
    python benchmarks/scale.py --graphs proteins --fraction 0.05 --out /tmp/rehearsal.jsonl
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.nn import GCN

import fastglt
from _cells import RESULTS, append_cell, names, pending
from fastglt import scores
from fastglt.gating.csr import csr_messages
from fastglt.masks import select_top
from fastglt.search import METHOD_VERSION
from fastglt.study.provenance import run_provenance

HIDDEN = 64
SPARSITY = 0.5
SHARE = 0.3
Seconds = dict[str, dict[str, float]]
"""Wall and processor seconds by what was done."""


@dataclass(frozen=True)
class Shape:
    """Size of a dataset: nodes, undirected edges, features, labels and edge attributes."""

    nodes: int
    edges: int
    features: int
    classes: int
    attributes: int


SHAPES = {
    "proteins": Shape(132_534, 39_561_252, 8, 112, 8),
    "collab": Shape(235_868, 1_285_465, 128, 112, 0),
}


def synthetic(shape: Shape, fraction: float, seed: int = 0) -> Data:
    """A graph of a shape, or of a fraction of its nodes and edges, with power-law degrees.

    Both directions of an edge stand next to each other, as OGB's loader leaves them.
    """
    generator = torch.Generator().manual_seed(seed)
    nodes, edges = int(shape.nodes * fraction), int(shape.edges * fraction)
    keys = _distinct_pairs(nodes, edges, generator)
    low, high = keys // nodes, keys % nodes
    both_directions = torch.stack([low, high, high, low], dim=1).view(-1, 2)
    data = Data(
        x=torch.randn(nodes, shape.features, generator=generator),
        edge_index=both_directions.t().contiguous(),
        y=torch.randint(2, (nodes, shape.classes), generator=generator).to(torch.float32),
        num_nodes=nodes,
    )
    if shape.attributes:
        attributes = torch.rand(edges, shape.attributes, generator=generator)
        data.edge_attr = attributes.repeat_interleave(2, dim=0)
    return data


def _distinct_pairs(nodes: int, count: int, generator: torch.Generator) -> Tensor:
    """``count`` distinct pairs ``low * nodes + high``, ends drawn in proportion to rank^-0.4."""
    total = torch.arange(1, nodes + 1, dtype=torch.float64).pow_(-0.4).cumsum(0)
    label = torch.randperm(nodes, generator=generator)
    found = torch.empty(0, dtype=torch.long)
    while found.numel() < count:
        draws = int(1.1 * (count - found.numel())) + 16
        ends = torch.rand(2, draws, dtype=torch.float64, generator=generator).mul_(total[-1])
        first, second = label[torch.searchsorted(total, ends).clamp_(max=nodes - 1)]
        fresh = torch.minimum(first, second).mul_(nodes).add_(torch.maximum(first, second))
        found = torch.cat([found, fresh[first != second]])
        found.numpy().sort()
        found = torch.unique_consecutive(found)
    return found[select_top(torch.rand(found.numel(), generator=generator), count)]


def measure(key: dict[str, Any]) -> dict[str, Any]:
    """Seconds of the one-shot cut and of denoising events, and the peak memory of this process."""
    torch.set_num_threads(key["threads"])
    data = synthetic(SHAPES[key["graph"]], key["fraction"])
    built = _peak_gib()
    torch.manual_seed(0)
    model = GCN(data.num_features, HIDDEN, 2, data.y.size(1))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    probability = torch.rand(data.num_nodes, data.y.size(1)).softmax(dim=-1)
    seconds: Seconds = {}
    with _timed(seconds, "groups and one-shot cut"):
        denoiser = fastglt.Denoiser(
            model,
            torch.optim.Adam(model.parameters()),
            data,
            steps=8,
            edge_sparsity=SPARSITY,
            config=fastglt.DenoiseConfig(interval=1, accumulation=1, alpha=SHARE),
        )
        kept = denoiser.data.num_edges
    prepared = _peak_gib()

    def gradient(edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        with csr_messages(model, edge_index):
            out = model(data.x, edge_index, edge_weight=edge_weight)
        return F.binary_cross_entropy_with_logits(out, data.y)

    def influence(_: Tensor, __: Tensor) -> Tensor:
        return scores.influence(probability, denoiser.groups, denoiser.edge_mask.keep)

    event: Seconds = {}
    for name, score in (("gradient", gradient), ("influence", influence)):
        with _timed(event, name):
            swapped = denoiser.step(score=score)
            kept_again = denoiser.data.num_edges
        if swapped is None or not swapped.edges_swapped or kept_again != kept:
            raise RuntimeError("the event did not swap edges at a constant count")
    return {
        "nodes": data.num_nodes,
        "directed_edges": data.num_edges,
        "groups": denoiser.groups.num_groups,
        "undirected": denoiser.groups.undirected,
        "kept_edges": kept,
        "seconds": seconds,
        "event_seconds": event,
        "peak_gib": {"built": built, "prepared": prepared, "events": _peak_gib()},
    }


@contextmanager
def _timed(seconds: Seconds, name: str) -> Iterator[None]:
    wall, processor = time.perf_counter(), time.process_time()
    yield
    spent = {
        "wall": round(time.perf_counter() - wall, 3),
        "processor": round(time.process_time() - processor, 3),
    }
    seconds[name] = spent
    print(
        f"  {name:24} {spent['wall']:8.2f} s, processor {spent['processor']:8.2f} s, "
        f"peak so far {_peak_gib():6.2f} GiB",
        flush=True,
    )


def _peak_gib() -> float:
    """Highest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 2**30, 3)


def parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    top = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    top.add_argument("--out", type=Path, default=RESULTS / "scale.jsonl")
    top.add_argument("--graphs", type=names, default=["collab", "proteins"])
    top.add_argument("--fraction", type=float, default=1.0, help="share of the nodes and edges")
    top.add_argument("--threads", type=int, default=2)
    top.add_argument("--machine", choices=["idle", "shared"], default="idle")
    return top


def main(args: argparse.Namespace) -> None:
    """Measure the graphs that have no result yet, one after the other."""
    keys = [
        {
            "graph": graph,
            "fraction": args.fraction,
            "hidden": HIDDEN,
            "sparsity": SPARSITY,
            "share": SHARE,
            "threads": args.threads,
            "machine": args.machine,
            "events": ["gradient", "influence"],
            "version": METHOD_VERSION,
        }
        for graph in args.graphs
    ]
    for key in pending(keys, args.out):
        print(key, flush=True)
        load = round(os.getloadavg()[0], 2)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            result = fresh.submit(measure, key).result()
        result["load_before"] = load
        append_cell(args.out, {"key": key, "result": result, "provenance": run_provenance()})


if __name__ == "__main__":
    main(parser().parse_args())
