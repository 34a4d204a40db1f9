"""Denoising events on synthetic graphs of the largest datasets' shapes: seconds and memory.

Each graph is measured in a fresh process, whose peak memory is that of everything: the graph, its
groups, the kept view and the event. Building the graph is not timed. Results are appended to a
JSON-lines file; give ``--machine shared`` where other programs run at the same time: only the
processor's seconds, summed over threads, mean something then::

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
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCN

from _cells import RESULTS, append_cell, pending, provenance, use_threads
from fastglt import scores
from fastglt.gating import edge_gradient, keep_edges
from fastglt.gating.csr import csr_messages
from fastglt.masks import EdgeGroups, EdgeMask, select_top
from fastglt.search.swap import EdgeDenoiser

HIDDEN = 64
SPARSITY = 0.5
SHARE = 0.3
VERSION = 1
Seconds = dict[str, dict[str, float]]
"""Wall and processor seconds of each part."""


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
    """Seconds of each part of one denoising event, and the peak memory of this process."""
    use_threads(key["threads"])
    data = synthetic(SHAPES[key["graph"]], key["fraction"])
    built = _peak_gib()
    seconds: Seconds = {}
    with _timed(seconds, "groups"):
        groups = EdgeGroups.from_edge_index(
            data.edge_index, data.num_nodes, edge_attr=data.get("edge_attr")
        )
    grouped = _peak_gib()
    torch.manual_seed(0)
    gate = nn.Parameter(1 + 1e-4 * torch.randn(groups.num_groups))
    optimizer = torch.optim.Adam([gate], lr=1e-3)
    with _timed(seconds, "one_shot"):
        degree = scores.unit_gate(None, groups, EdgeMask.full(groups).keep)
        denoiser = EdgeDenoiser(groups, SPARSITY, degree, gate, optimizer)
        kept = keep_edges(data, denoiser.mask.edges)
    model = GCN(data.num_features, HIDDEN, 2, data.y.size(1))
    probability = torch.rand(data.num_nodes, data.y.size(1)).softmax(dim=-1)
    del degree
    event: Seconds = {}
    _score_and_swap(event, data, groups, denoiser, model, gate, probability)
    with _timed(event, "kept_view"):
        kept = keep_edges(data, denoiser.mask.edges)
    if denoiser.mask.num_kept != groups.num_groups - int(SPARSITY * groups.num_groups):
        raise RuntimeError("the event did not keep the exact number of groups")
    return {
        "nodes": data.num_nodes,
        "directed_edges": data.num_edges,
        "groups": groups.num_groups,
        "undirected": groups.undirected,
        "kept_edges": kept.num_edges,
        "seconds": seconds,
        "event_seconds": event,
        "event_total": {
            clock: round(sum(part[clock] for part in event.values()), 3)
            for clock in ("wall", "processor")
        },
        "peak_gib": {"built": built, "grouped": grouped, "event": _peak_gib()},
    }


def _score_and_swap(
    event: Seconds,
    data: Data,
    groups: EdgeGroups,
    denoiser: EdgeDenoiser,
    model: nn.Module,
    gate: Tensor,
    probability: Tensor,
) -> None:
    keep = denoiser.mask.keep

    def loss(edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        with csr_messages(model, edge_index):
            out = model(data.x, edge_index, edge_weight=edge_weight)
        return F.binary_cross_entropy_with_logits(out, data.y)

    with _timed(event, "degree"):
        scores.degree_product(groups, keep, power=-0.5)
    with _timed(event, "influence"):
        scores.influence(probability, groups, keep)
    with _timed(event, "gate_gradient"):
        gradient = edge_gradient(loss, data.edge_index, groups, keep)
    with _timed(event, "unit_gate"):
        scores.unit_gate(gradient, groups, keep)
    with _timed(event, "trained_gate"):
        drop, grow = scores.trained_gate(gate, gradient, groups, keep)
    with _timed(event, "swap"):
        denoiser.swap(SHARE, SPARSITY, drop, grow)


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
        f"  {name:14} {spent['wall']:8.2f} s, processor {spent['processor']:8.2f} s, "
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
    top.add_argument("--graphs", type=lambda text: text.split(","), default=["collab", "proteins"])
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
            "version": VERSION,
        }
        for graph in args.graphs
    ]
    for key in pending(keys, args.out, (0, 1)):
        print(key, flush=True)
        load = round(os.getloadavg()[0], 2)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            result = fresh.submit(measure, key).result()
        result["load_before"] = load
        append_cell(args.out, {"key": key, "result": result, "provenance": provenance()})
        print(f"  event {result['event_total']}, peak {result['peak_gib']['event']} GiB")


if __name__ == "__main__":
    main(parser().parse_args())
