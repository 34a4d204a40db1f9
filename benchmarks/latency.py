"""What compiled tickets take for a whole graph, against the dense model, side by side.

Each cell searches a ticket at the joint budget of its backbone and graph and measures it as
``fastglt bench`` does: all ways in turn in one process, on as many threads as are told. Nothing
else should run on the machine. Finished cells are appended to a JSON-lines file and not computed
again::

    python benchmarks/latency.py run --threads 2
    python benchmarks/latency.py summary
"""

from __future__ import annotations

import argparse

import torch

from _cells import Key, Result, names, read_cells, run_missing, study_parser
from ablation import CELLS, HIDDEN
from fastglt import data as datasets
from fastglt.api import find
from fastglt.compile.bench import bench
from fastglt.models import build_model
from fastglt.models.config import BackboneConfig
from fastglt.search import METHOD_VERSION
from fastglt.training.tasks import NodeClassification


def all_keys(args: argparse.Namespace) -> list[Key]:
    """The cells that the arguments ask for."""
    return [
        {
            "model": cell.split(":")[0],
            "dataset": cell.split(":")[1],
            "budget": CELLS[cell],
            "threads": args.threads,
            "repeats": args.repeats,
            "version": METHOD_VERSION,
        }
        for cell in args.cells
    ]


def run_cell(key: Key, root: str | None) -> Result:
    """Search one ticket and measure it."""
    dataset = datasets.load(key["dataset"], root=root)
    torch.manual_seed(0)
    model = build_model(
        key["model"], dataset.data.num_features, dataset.num_classes, BackboneConfig(hidden=HIDDEN)
    )
    edges, weights = key["budget"]
    ticket = find(model, dataset.data, edge_sparsity=edges, weight_sparsity=weights, seed=0)
    measured = bench(
        (model, dataset.data),
        ticket.apply(model, dataset.data),
        ticket.edge_keep,
        NodeClassification(),
        key["repeats"],
    )
    return measured.to_dict()


def run(args: argparse.Namespace) -> None:
    """Compute and store what is missing."""
    keys = [dict(key, budget=list(key["budget"])) for key in all_keys(args)]
    run_missing(args, keys, lambda key: run_cell(key, args.root), _line)


def summary(args: argparse.Namespace) -> None:
    """Print a line for each cell."""
    for cell in read_cells(args.out):
        if cell["key"]["version"] == METHOD_VERSION:
            print(_line(cell["key"], cell["result"]))


def _line(key: Key, result: Result) -> str:
    """Ratios of medians, distance from the bound, and savings."""
    dense, fair, small = (
        result["variants"][name] for name in ("dense", "dense_sparse_features", "compiled")
    )
    bound = result["bound_ms"]
    parts = (
        f"{key['model']} {key['dataset']}, {key['threads']} threads",
        f"{dense['median_ms'] / small['median_ms']:.1f} times as fast as dense",
        f"{fair['median_ms'] / small['median_ms']:.1f} as dense by our kernels",
        "no bound" if bound is None else f"{small['median_ms'] / bound:.2f} of the bound",
        f"MACs saved {1 - small['macs'] / dense['macs']:.2%}",
        f"{1 - small['macs'] / fair['macs']:.1%} with sparse features on both sides",
        f"parameters {dense['bytes'] / small['bytes']:.1f} times smaller",
        f"memory {small['peak_mb'] / dense['peak_mb']:.2f} of dense",
    )
    return "; ".join(parts)


def parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    top = study_parser(__doc__ or "", "latency.jsonl")
    top.add_argument("--cells", type=names, default=list(CELLS), help="backbone:graph,...")
    top.add_argument("--repeats", type=int, default=20, help="timed calls of each way")
    return top


if __name__ == "__main__":
    arguments = parser().parse_args()
    {"run": run, "summary": summary}[arguments.command](arguments)
