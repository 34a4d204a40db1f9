"""Searches in mini-batches on graphs of millions of edges: accuracy, seconds and peak memory.

Each cell runs in a process of its own, whose peak memory is its largest resident set. On
ogbn-arxiv (substitute features) a search on sampled neighbourhoods is compared with a dense model
trained on the whole graph; on a stochastic block model of 2 million nodes and 50 million edges
with random masks of the same sparsity, searched and retrained alike. Finished cells are appended
to a JSON-lines file and not computed again::

    python benchmarks/minibatch.py run --threads 2
    python benchmarks/minibatch.py summary
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch_geometric.data import Data

from _cells import Key, Result, names, read_cells, run_missing, study_parser
from fastglt import data as datasets
from fastglt.api import find
from fastglt.data.synthetic import csbm
from fastglt.models import build_model
from fastglt.models.config import BackboneConfig
from fastglt.search import METHOD_VERSION


@dataclass(frozen=True)
class Run:
    """One search.

    Attributes:
        graph: ``"ogbn-arxiv"``, or the number of nodes of a stochastic block model.
        model: Options of a GCN.
        settings: Of the search.
    """

    graph: str | int
    model: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)


ARXIV = {"hidden": 256, "layers": 3}
ARXIV_DECAY = 5e-5
"""Weight decay on ogbn-arxiv, where half of the nodes have a label: by validation better than the
default, and as good as none."""
BLOCKS = {"hidden": 64, "layers": 2}
_ARXIV_SEARCH = {
    "edge_sparsity": 0.5,
    "weight_sparsity": 0.9,
    "sampler": "neighbor",
    "fanout": (10, 8, 5),
    "batch_size": 8192,
    "weight_decay": ARXIV_DECAY,
    # Of several, that which costs the dense model's validation least: see edge_scores.py.
    "edge_score": "agreement+degree",
    "dense_epochs": 12,
    "pretrain_epochs": 2,
    "denoise_steps": 41,
    "interval": 10,
    "retrain_epochs": 20,
}
_ARXIV_DENSE = {
    "method": "dense",
    "weight_decay": ARXIV_DECAY,
    "dense_epochs": 150,
    "patience": 30,
    "retrain_epochs": 1,  # of the dense model itself: not looked at
}
_BLOCKS_SEARCH = {
    "edge_sparsity": 0.8,
    "weight_sparsity": 0.5,
    "edge_score": "unit-gate",
    "sampler": "neighbor",
    "fanout": (5, 3),
    "batch_size": 8192,
    # Under the teacher an epoch has all nodes, without it the training nodes only.
    "dense_epochs": 10,
    "pretrain_epochs": 1,
    "denoise_steps": 16,
    "interval": 5,
    "retrain_epochs": 1,
}
RUNS = {
    "arxiv-dense": Run("ogbn-arxiv", ARXIV, _ARXIV_DENSE),
    "arxiv-neighbor": Run("ogbn-arxiv", ARXIV, _ARXIV_SEARCH),
    "blocks": Run(2_000_000, BLOCKS, _BLOCKS_SEARCH),
    "blocks-random": Run(2_000_000, BLOCKS, _BLOCKS_SEARCH | {"method": "random"}),
}
"""Every cell by its name."""
EDGES_A_NODE = 25
"""Directed edges of the block model, over its nodes."""


def block_model(num_nodes: int, seed: int) -> Data:
    """A graph whose features tell little, so that neighbours count, most of which mislead."""
    return csbm(
        num_nodes,
        average_degree=EDGES_A_NODE,
        num_classes=10,
        homophily=0.4,
        num_features=32,
        feature_noise=4.0,
        train_fraction=0.02,
        val_fraction=0.02,
        seed=seed,
    )


def search(name: str, seed: int, threads: int, root: str | None, scale: float) -> Result:
    """One cell, in the process that this is."""
    torch.set_num_threads(threads)
    run, start = RUNS[name], time.perf_counter()
    if isinstance(run.graph, str):
        dataset = datasets.load(run.graph, root=root)
        data, num_classes = dataset.data, dataset.num_classes
    else:
        data = block_model(round(run.graph * scale), seed)
        num_classes = int(data.y.max()) + 1
    loaded = time.perf_counter() - start
    torch.manual_seed(seed)
    model = build_model("gcn", data.num_features, num_classes, BackboneConfig(**run.model))
    ticket = find(model, data, seed=seed, **run.settings)
    kept = ("seconds", "epochs", "val_dense", "test_dense", "val_ticket", "test_ticket",
            "edge_sparsity", "weight_sparsity", "notes")  # fmt: skip
    return {
        **{name: ticket.metrics[name] for name in kept},
        "num_nodes": data.num_nodes,
        "num_edges": data.num_edges,
        "load_seconds": loaded,
        "events": [
            {
                key: event[key]
                for key in ("step", "share", "edges_swapped", "weights_swapped", "metric")
            }
            for event in ticket.history
        ],
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def run_cell(key: Key, root: str | None) -> Result:
    """One cell, in a process of its own."""
    arguments = (key["run"], key["seed"], key["threads"], root, key["scale"])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(search, arguments)


def all_keys(args: argparse.Namespace) -> list[Key]:
    """The cells that the arguments ask for."""
    return [
        {
            "run": name,
            "seed": seed,
            "threads": args.threads,
            "scale": args.scale,
            "settings": {
                k: [*v] if isinstance(v, tuple) else v for k, v in RUNS[name].settings.items()
            },
            "version": METHOD_VERSION,
        }
        for seed in range(args.seeds)
        for name in args.cells
    ]


def run(args: argparse.Namespace) -> None:
    """Compute and store what is missing."""
    run_missing(args, all_keys(args), lambda key: run_cell(key, args.root), _line)


def summary(args: argparse.Namespace) -> None:
    """Print a line for each cell."""
    for cell in read_cells(args.out):
        print(_line(cell["key"], cell["result"]))


def _line(key: Key, result: Result) -> str:
    seconds = ", ".join(f"{name} {value:.0f}" for name, value in result["seconds"].items())
    return (
        f"{key['run']} seed {key['seed']} scale {key['scale']}: {result['num_nodes']:,} nodes, "
        f"{result['num_edges']:,} edges; test dense {result['test_dense']:.4f}, ticket "
        f"{result['test_ticket']:.4f} at {result['edge_sparsity']:.1%} edges and "
        f"{result['weight_sparsity']:.1%} weights; {len(result['events'])} events; "
        f"peak {result['peak_gb']:.2f} GB; seconds: {seconds}"
    )


def parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    top = study_parser(__doc__ or "", "minibatch.jsonl")
    top.add_argument("--cells", type=names, default=list(RUNS), help="names of runs")
    top.add_argument("--seeds", type=int, default=1)
    top.add_argument("--scale", type=float, default=1.0, help="of the block model, to try it")
    return top


if __name__ == "__main__":
    arguments = parser().parse_args()
    {"run": run, "summary": summary}[arguments.command](arguments)
