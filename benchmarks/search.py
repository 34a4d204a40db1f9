"""What a search costs: ``find`` and its controls against one ordinary dense training.

The yardstick is a training loop as in PyG's own examples: dense features, 200 epochs, validation
and test accuracy after each. All methods run one after the other in one process, in a new order
each repetition, so that their ratios mean something on a noisy machine. The process keeps its
memory as that of the command line does (:func:`fastglt._memory.keep_memory`), for all methods
alike. Loading the graph and building the models is not timed; the dense run that ``find`` starts
from is::

    python benchmarks/search.py run --root DATA --threads 2
    python benchmarks/search.py summary

Finished repetitions are appended to a JSON-lines file and not computed again. Run nothing else at
the same time.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import time
from collections import defaultdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch_geometric.data import Data

import fastglt
from _cells import Key, Result, names, read_cells, run_missing, study_parser
from fastglt import data as datasets
from fastglt._memory import keep_memory
from fastglt.models import BackboneConfig, build_model
from fastglt.search import METHOD_VERSION
from fastglt.training.seeding import seeded

EPOCHS = 200
BUDGET = {"edge_sparsity": 0.5, "weight_sparsity": 0.98}
METHODS = ("dense", "fastglt", "one-shot", "random")


def all_keys(args: argparse.Namespace) -> list[Key]:
    """The cells that the arguments ask for: one a repetition, with all methods in it."""
    return [
        {
            "dataset": dataset,
            "model": model,
            "methods": args.methods,
            "repetition": repetition,
            "threads": args.threads,
            "version": METHOD_VERSION,
            "label": args.label,
        }
        for repetition, dataset, model in itertools.product(
            range(args.repetitions), args.datasets, args.models
        )
    ]


def run_cell(key: Key, root: str | None) -> Result:
    """Seconds and metrics of every method, in an order of this repetition."""
    dataset = datasets.load(key["dataset"], root=root)
    seed = key["repetition"]
    order = list(key["methods"])
    random.Random(seed).shuffle(order)
    result: Result = {}
    for method in order:
        with seeded(seed):
            model = build_model(
                key["model"], dataset.data.num_features, dataset.num_classes, BackboneConfig()
            )
        start = time.perf_counter()
        if method == "dense":
            metrics = train_as_pyg(model, dataset.data, seed)
        else:
            ticket = fastglt.find(model, dataset.data, method=method, seed=seed, **BUDGET)
            metrics = {
                name: ticket.metrics[name]
                for name in ("val_ticket", "test_ticket", "test_dense", "seconds", "epochs")
            }
        result[method] = {"wall": time.perf_counter() - start, **metrics}
    return result


def train_as_pyg(model: nn.Module, data: Data, seed: int) -> dict[str, Any]:
    """An ordinary full-batch training, evaluated after every epoch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    best = {"val": -1.0, "test": -1.0}
    with seeded(seed):
        for _ in range(EPOCHS):
            model.train()
            optimizer.zero_grad()
            out = model(data.x, data.edge_index)
            F.cross_entropy(out[data.train_mask], data.y[data.train_mask]).backward()
            optimizer.step()
            val, test = _evaluate(model, data)
            if val > best["val"]:
                best = {"val": val, "test": test}
    return best


@torch.no_grad()
def _evaluate(model: nn.Module, data: Data) -> tuple[float, float]:
    model.eval()
    hit = model(data.x, data.edge_index).argmax(dim=-1) == data.y
    val, test = (float(hit[mask].float().mean()) for mask in (data.val_mask, data.test_mask))
    return val, test


def run(args: argparse.Namespace) -> None:
    """Compute the missing repetitions."""
    keep_memory()
    run_missing(args, all_keys(args), lambda key: run_cell(key, args.root))


def summary(args: argparse.Namespace) -> None:
    """Print a line each model, graph and method: the median ratio to dense, and what was won."""
    groups: dict[tuple[str, ...], list[Result]] = defaultdict(list)
    for cell in read_cells(args.out):
        key, result = cell["key"], cell["result"]
        for method in result:
            if method != "dense":
                where = (key["label"], key["dataset"], key["model"], method, str(key["threads"]))
                groups[where].append(result)
    print(f"{'label':10} {'dataset':9} {'model':5} {'method':9} threads  n  "
          "time / dense (spread)   dense s  test ticket  test dense")  # fmt: skip
    for where, results in sorted(groups.items()):
        label, dataset, model, method, threads = where
        ratios = sorted(result[method]["wall"] / result["dense"]["wall"] for result in results)
        dense = statistics.median(result["dense"]["wall"] for result in results)
        ticket, own = (
            100 * statistics.mean(result[method][name] for result in results)
            for name in ("test_ticket", "test_dense")
        )
        print(
            f"{label:10} {dataset:9} {model:5} {method:9} {threads:>7} {len(ratios):2}  "
            f"{statistics.median(ratios):5.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})  "
            f"{dense:8.1f}  {ticket:11.2f} {own:11.2f}"
        )


def parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    top = study_parser(__doc__, "search.jsonl")
    top.add_argument("--datasets", type=names, default=["cora", "citeseer", "pubmed"])
    top.add_argument("--models", type=names, default=["gcn", "gin", "gat"])
    top.add_argument("--methods", type=names, default=list(METHODS))
    top.add_argument("--repetitions", type=int, default=5)
    top.add_argument("--label", default="now", help="what is measured, e.g. before a change")
    return top


if __name__ == "__main__":
    arguments = parser().parse_args()
    {"run": run, "summary": summary}[arguments.command](arguments)
