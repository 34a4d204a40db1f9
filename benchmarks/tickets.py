"""Tickets against dense and random: accuracy over seeds, budgets, methods and teachers.

Each cell is one whole ``fastglt.find``; finished cells are appended to a JSON-lines file and not
computed again, so the study can be stopped and started at will, and run in several processes::

    python benchmarks/tickets.py run --shard 0/2 --threads 1 &
    python benchmarks/tickets.py run --shard 1/2 --threads 1
    python benchmarks/tickets.py summary
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections import defaultdict
from typing import Any

import fastglt
from _cells import names, read_cells, run_missing, study_parser
from fastglt import data as datasets
from fastglt.models import build_model
from fastglt.models.config import BackboneConfig
from fastglt.search import METHOD_VERSION
from fastglt.training.seeding import seeded

METRICS = (
    "val_dense", "val_ticket", "test_dense", "test_ticket", "edge_sparsity", "weight_sparsity",
    "macs_dense", "macs_ticket", "seconds", "epochs",
)  # fmt: skip


def all_keys(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The cells that the arguments ask for, seeds outermost so that early stops stay balanced."""
    grid = itertools.product(
        range(args.first_seed, args.first_seed + args.seeds),
        args.datasets, args.budgets, args.teachers, args.methods,
    )  # fmt: skip
    return [
        {
            "dataset": dataset,
            "model": "gcn",
            "hidden": args.hidden,
            "edge_sparsity": float(budget.split(":")[0]),
            "weight_sparsity": float(budget.split(":")[1]),
            "teacher": teacher,
            "method": method,
            "preset": args.preset,
            "seed": seed,
            "settings": dict(args.set),
            "version": METHOD_VERSION,
        }
        for seed, dataset, budget, teacher, method in grid
    ]


def run_cell(key: dict[str, Any], root: str | None) -> dict[str, Any]:
    """One search; the figures of the ticket."""
    dataset = datasets.load(key["dataset"], root=root)
    with seeded(key["seed"]):
        model = build_model(
            key["model"],
            dataset.data.num_features,
            dataset.num_classes,
            BackboneConfig(hidden=key["hidden"]),
        )
    chosen = ("edge_sparsity", "weight_sparsity", "teacher", "method", "preset", "seed")
    ticket = fastglt.find(
        model, dataset.data, **{name: key[name] for name in chosen}, **key["settings"]
    )
    return {name: ticket.metrics[name] for name in METRICS}


def run(args: argparse.Namespace) -> None:
    """Compute the missing cells."""
    run_missing(args, all_keys(args), lambda key: run_cell(key, args.root))


def summary(args: argparse.Namespace) -> None:
    """Print a line per cell group: mean test of dense and ticket, and the paired difference."""
    groups: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for cell in read_cells(args.out):
        key, result = dict(cell["key"]), cell["result"]
        key.pop("seed")
        groups[json.dumps(key)].append(
            (result["test_dense"], result["test_ticket"], result["val_ticket"])
        )
    print(f"{'dataset':9} {'edges':>5} {'weights':>7} {'teacher':7} {'method':9} {'n':>2} "
          f"{'dense':>6} {'ticket':>6} {'diff':>6} {'sd':>5} {'val':>6}  settings")  # fmt: skip
    for text, rows in sorted(groups.items()):
        key = json.loads(text)
        dense, ticket, val = (100 * statistics.mean(column) for column in zip(*rows, strict=True))
        differences = [100 * (row[1] - row[0]) for row in rows]
        spread = statistics.stdev(differences) if len(rows) > 1 else 0.0
        other = {} if key["preset"] == "default" else {"preset": key["preset"]}
        settings = key["settings"] | other
        print(
            f"{key['dataset']:9} {key['edge_sparsity']:5} {key['weight_sparsity']:7} "
            f"{key['teacher']:7} {key['method']:9} {len(rows):2} {dense:6.2f} {ticket:6.2f} "
            f"{ticket - dense:+6.2f} {spread:5.2f} {val:6.2f}  {settings or ''}"
        )


def _setting(text: str) -> tuple[str, Any]:
    name, value = text.split("=", 1)
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    top = study_parser(__doc__, "tickets.jsonl")
    top.add_argument("--datasets", type=names, default=["cora", "citeseer"])
    top.add_argument(
        "--budgets", type=names, default=["0:0.95", "0.4:0"], help="edges:weights, comma-separated"
    )
    top.add_argument("--methods", type=names, default=["fastglt", "one-shot", "random"])
    top.add_argument("--teachers", type=names, default=["dense", "none"])
    top.add_argument("--preset", default="default")
    top.add_argument("--hidden", type=int, default=512)
    top.add_argument("--seeds", type=int, default=5)
    top.add_argument("--first-seed", type=int, default=0)
    top.add_argument(
        "--set", type=_setting, action="append", default=[], help="further setting, name=value"
    )
    return top


if __name__ == "__main__":
    arguments = parser().parse_args()
    {"run": run, "summary": summary}[arguments.command](arguments)
