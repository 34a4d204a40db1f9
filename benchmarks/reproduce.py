"""UGS with the settings of its source, at the sparsities that others report for it.

``fastglt compare`` with method ``ugs:paper`` (200 epochs with soft masks and 200 with fixed ones a
round, no early stopping, one axis at a time), the source's learning rate, weight decay and L1
coefficients of each graph for GCN (README of VITA-Group/Unified-LTH-GNN), and its rates a round, 5
% of the edges or 20 % of the weights, for as many rounds as the sparsity takes. The accuracies
beside it are those of the peers' table of ACE-GLT's README. Finished runs are kept in
``benchmarks/results/reproduce`` and not computed again::

    python benchmarks/reproduce.py run
    python benchmarks/reproduce.py summary
    python benchmarks/reproduce.py edges

``edges`` searches once more and tells which edges of CiteSeer were pruned: those that any training
node reads, or the others.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import fastglt
from fastglt import data as datasets
from fastglt.models import build_model
from fastglt.study.cells import read_cells
from fastglt.study.summary import tables
from fastglt.training.seeding import seeded

STUDY = Path(__file__).parent / "results" / "reproduce"


class Row(NamedTuple):
    """A published cell: graph, sparsities, test accuracy in points."""

    dataset: str
    edges: float
    weights: float
    published: float


ROWS = (
    Row("cora", 0.0, 0.672, 82.1),
    Row("citeseer", 0.0, 0.361, 71.0),
    Row("pubmed", 0.0, 0.956, 79.6),
    Row("citeseer", 0.322, 0.0, 71.0),
    Row("pubmed", 0.118, 0.0, 79.6),
)
SOURCE = {
    "cora": {"lr": 0.008, "weight-decay": 8e-5, "edge-l1": 1e-2, "weight-l1": 1e-2},
    "citeseer": {"lr": 0.01, "weight-decay": 5e-4, "edge-l1": 1e-2, "weight-l1": 1e-2},
    "pubmed": {"lr": 0.01, "weight-decay": 5e-4, "edge-l1": 1e-6, "weight-l1": 1e-3},
}
"""Settings of UGS's source for GCN."""


def rounds(row: Row) -> int:
    """Rounds of 5 % of the edges or 20 % of the weights that come nearest to a sparsity."""
    edges = math.log(1 - row.edges) / math.log(0.95)
    weights = math.log(1 - row.weights) / math.log(0.8)
    return max(round(edges), round(weights))


def run(args: argparse.Namespace) -> None:
    """Compute what is missing."""
    for row in ROWS:
        options = {
            **SOURCE[row.dataset],
            "dataset": row.dataset, "model": "gcn", "methods": "ugs:paper", "rounds": rounds(row),
            "edge-sparsity": row.edges, "weight-sparsity": row.weights, "seeds": args.seeds,
            "out": args.study, "workers": args.workers, "threads": args.workers,
        } | ({"root": args.root} if args.root else {})  # fmt: skip
        given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        subprocess.run([sys.executable, "-m", "fastglt", "compare", *given], check=True)


def summary(args: argparse.Namespace) -> None:
    """Print a line per published cell."""
    found = tables(read_cells(args.study))
    print(f"{'graph':9} {'edges':>6} {'weights':>7}  published    ours  difference   dense  seeds")
    for row in ROWS:
        for table in found:
            place = (table.title.lower(), table.edge_sparsity, table.weight_sparsity)
            ours = table.rows[0].test
            if place != row[:3] or ours is None or table.dense is None:
                continue
            print(f"{row.dataset:9} {row.edges:6.3f} {row.weights:7.3f}  {row.published:9.1f}  "
                  f"{ours.mean:6.2f}  {ours.mean - row.published:+10.2f}  {table.dense.mean:6.2f}  "
                  f"{ours.num:5}")  # fmt: skip


def edges(args: argparse.Namespace) -> None:
    """Print the share that is pruned of the edges that the loss of UGS sees, and of the others."""
    row = next(row for row in ROWS if row.dataset == "citeseer" and row.edges > 0)
    dataset = datasets.load(row.dataset, root=args.root)
    data, settings = dataset.data, SOURCE[row.dataset]
    with seeded(0):
        model = build_model("gcn", data.num_features, dataset.num_classes)
    ticket = fastglt.find(
        model, data, method="ugs", preset="paper", rounds=rounds(row), edge_sparsity=row.edges,
        **{name.replace("-", "_"): value for name, value in settings.items()},
    )  # fmt: skip
    near = data.train_mask.clone()
    source, target = data.edge_index
    near[source[near[target]]] = True
    seen = near[target]  # two convs read the edges into training nodes and into their neighbours
    for name, part in (("seen by the loss", seen), ("not seen", ~seen)):
        pruned = 1 - ticket.edge_keep[part].double().mean().item()
        print(f"{name:16} {int(part.sum()):6} edges, {100 * pruned:.1f} % pruned")


def parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    top = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    top.add_argument("command", choices=["run", "summary", "edges"])
    top.add_argument("--study", type=Path, default=STUDY)
    top.add_argument("--root", help="data folder (default: $FASTGLT_DATA, cache, download)")
    top.add_argument("--workers", type=int, default=1, help="processes, of one thread each")
    top.add_argument("--seeds", type=int, default=5)
    return top


if __name__ == "__main__":
    arguments = parser().parse_args()
    {"run": run, "summary": summary, "edges": edges}[arguments.command](arguments)
