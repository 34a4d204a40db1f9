"""What a search costs: ``find`` and its controls against one ordinary dense training.

The yardstick is a training loop as in PyG's own examples: dense features, 200 epochs, validation
and test accuracy after each. All methods run one after the other in one process, in a new order
each repetition, so that their ratios mean something on a noisy machine. The process keeps its
memory as that of the command line does (:func:`fastglt._memory.keep_memory`), for all methods
alike. Loading the graph and building the models is not timed; the dense run that ``find`` starts
from is::

    python benchmarks/search.py run --root DATA --threads 2
    python benchmarks/search.py summary

On a GPU, for the graph of ogbn-arxiv::

    python benchmarks/search.py run --device cuda --datasets ogbn-arxiv --models gcn --hidden 256
    python benchmarks/search.py run --device cuda --datasets ogbn-arxiv --models deepergcn

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
from torch_geometric.nn import GCN

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
"""What runs unless ``--methods`` says otherwise; ``compiled`` is ``dense`` under torch.compile, any
other is a method of ``find``, with its preset after a colon."""


def all_keys(args: argparse.Namespace) -> list[Key]:
    """The cells that the arguments ask for: one a repetition, with all methods in it."""
    chosen = {"device": args.device, "hidden": args.hidden, "epochs": args.epochs}
    return [
        {
            "dataset": dataset,
            "model": model,
            "methods": args.methods,
            "repetition": repetition,
            "threads": args.threads,
            "version": METHOD_VERSION,
            "label": args.label,
            **{name: value for name, value in chosen.items() if value is not None},
        }
        for repetition, dataset, model in itertools.product(
            range(args.repetitions), args.datasets, args.models
        )
    ]


def run_cell(key: Key, root: str | None) -> Result:
    """Seconds and metrics of every method, in an order of this repetition."""
    dataset = datasets.load(key["dataset"], root=root)
    seed, device, epochs = key["repetition"], key.get("device", "cpu"), key.get("epochs", EPOCHS)
    data = dataset.data.to(device)
    order = list(key["methods"])
    random.Random(seed).shuffle(order)
    result: Result = {}
    for method in order:
        with seeded(seed):
            config = BackboneConfig(hidden=key.get("hidden"))
            model = build_model(key["model"], data.num_features, dataset.num_classes, config)
        model.to(device)
        start = time.perf_counter()
        if method in ("dense", "compiled"):
            called = torch.compile(model) if method == "compiled" else model
            metrics = train_as_pyg(called, data, seed, epochs)
        else:
            lengths = {"dense_epochs": epochs, "retrain_epochs": epochs}
            name, _, preset = method.partition(":")
            ticket = fastglt.find(
                model, data, method=name, preset=preset or "default", seed=seed, **BUDGET, **lengths
            )
            metrics = {
                name: ticket.metrics[name]
                for name in ("val_ticket", "test_ticket", "test_dense", "seconds", "epochs")
            }
        result[method] = {"wall": time.perf_counter() - start, **metrics}
    return result


def train_as_pyg(model: nn.Module, data: Data, seed: int, epochs: int) -> dict[str, Any]:
    """An ordinary full-batch training, evaluated after every epoch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    best = {"val": -1.0, "test": -1.0}
    with seeded(seed):
        for _ in range(epochs):
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
    """Compute the missing repetitions, after something small that loads all there is to load."""
    keep_memory()
    small = datasets.csbm(60, num_features=4)
    tiny = {"dense_epochs": 2, "retrain_epochs": 2, "denoise_steps": 6, **BUDGET}
    fastglt.find(GCN(4, 50, 2, int(small.y.max()) + 1), small, **tiny)
    train_as_pyg(GCN(4, 50, 2, int(small.y.max()) + 1), small, 0, 2)
    run_missing(args, all_keys(args), lambda key: run_cell(key, args.root))


Where = tuple[str, ...]


def summary(args: argparse.Namespace) -> None:
    """Print the ratios to dense, then how tickets differ from those of other labels."""
    groups: dict[Where, dict[int, Result]] = defaultdict(dict)
    for cell in read_cells(args.out):
        key = cell["key"]
        for method in cell["result"]:
            where = (key["dataset"], key["model"], method)
            version = (key["label"], str(key["version"]), _machine(key))
            groups[where + version][key["repetition"]] = cell["result"]
    print(f"{'dataset':9} {'model':5} {'method':9} {'label':9} version {'on':>9}  n  "
          "time / dense (spread)   dense s  test of ticket, dense")  # fmt: skip
    for where, results in sorted(groups.items()):
        timed = [result for result in results.values() if "dense" in result]
        if timed and where[2] != "dense":
            print(_ratio_line(where, timed))
    _print_search_costs(groups)
    print("\nTickets of label 'now' minus those of other labels, same seed, in points of accuracy")
    for where, results in sorted(groups.items()):
        newest = max((other for other in groups if other[:4] == (*where[:3], "now")), default=None)
        is_ticket = where[2] not in ("dense", "compiled")
        if is_ticket and where[3] != "now" and newest is not None:
            print(_difference_line(where, results, groups[newest]))


def _print_search_costs(groups: dict[Where, dict[int, Result]]) -> None:
    """Search cost of other methods over that of fastglt, from runs that had both in turns."""
    print("\nSearch cost (up to the masks, the dense run included) over that of fastglt, medians")
    print(f"{'dataset':9} {'model':5} {'method':12} {'on':>9}  n  seconds = epochs x per epoch")
    for where, results in sorted(groups.items()):
        both = [result for result in results.values() if "fastglt" in result]
        if not both or where[2] in ("fastglt", "dense", "compiled"):
            continue
        theirs = [_search_cost(result[where[2]]) for result in both]
        ours = [_search_cost(result["fastglt"]) for result in both]
        seconds, epochs = (
            statistics.median(its[axis] / own[axis] for its, own in zip(theirs, ours, strict=True))
            for axis in (0, 1)
        )
        dataset, model, method, _, _, machine = where
        print(f"{dataset:9} {model:5} {method:12} {machine:>9} {len(both):2}  "
              f"{seconds:7.2f} = {epochs:6.2f} x {seconds / epochs:5.2f}")  # fmt: skip


def _search_cost(result: Result) -> tuple[float, float]:
    """Seconds and epochs of everything up to the masks."""
    stages = ("dense", "teacher", "search")
    seconds, epochs = (
        sum(result[kind][stage] for stage in stages) for kind in ("seconds", "epochs")
    )
    return seconds, epochs


def _machine(key: Key) -> str:
    size = "".join(f", {name} {key[name]}" for name in ("hidden", "epochs") if name in key)
    return key.get("device", f"{key['threads']} threads") + size


def _ratio_line(where: Where, results: list[Result]) -> str:
    method = where[2]
    ratios = sorted(result[method]["wall"] / result["dense"]["wall"] for result in results)
    dense = statistics.median(result["dense"]["wall"] for result in results)
    names = ("test",) if method == "compiled" else ("test_ticket", "test_dense")
    tests = [100 * statistics.mean(result[method][name] for result in results) for name in names]
    dataset, model, _, label, version, machine = where
    return (
        f"{dataset:9} {model:5} {method:9} {label:9} {version:>7} {machine:>9} {len(ratios):2}  "
        f"{statistics.median(ratios):5.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})  {dense:8.1f}  "
        + ", ".join(f"{test:.2f}" for test in tests)
    )


def _difference_line(where: Where, before: dict[int, Result], after: dict[int, Result]) -> str:
    method, seeds = where[2], sorted(before.keys() & after.keys())
    parts = []
    for name in ("test_ticket", "val_ticket"):
        differences = [100 * (after[s][method][name] - before[s][method][name]) for s in seeds]
        spread = statistics.stdev(differences) if len(seeds) > 1 else 0.0
        if seeds:
            parts.append(f"{name} {statistics.mean(differences):+.2f} (sd {spread:.2f})")
    return f"{where[0]:9} {where[1]:5} {method:9} {where[3]:9} n={len(seeds)} {'  '.join(parts)}"


def parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    top = study_parser(__doc__, "search.jsonl")
    several = "with commas between them; default: {}".format
    datasets_, models = ["cora", "citeseer", "pubmed"], ["gcn", "gin", "gat"]
    top.add_argument("--datasets", type=names, default=datasets_, help=several(",".join(datasets_)))
    top.add_argument("--models", type=names, default=models, help=several(",".join(models)))
    top.add_argument(
        "--methods",
        type=names,
        default=list(METHODS),
        help=several(",".join(METHODS))
        + "; also compiled, and any method of find, such as ugs or ugs:paper",
    )
    top.add_argument("--repetitions", type=int, default=5, help="one seed each; default: 5")
    top.add_argument("--device", help="such as cuda; default: cpu")
    top.add_argument("--hidden", type=int, help="hidden channels; default: the backbone's")
    top.add_argument("--epochs", type=int, help=f"of dense run and retraining; default: {EPOCHS}")
    top.add_argument("--label", default="now", help="what is measured, e.g. before a change")
    return top


if __name__ == "__main__":
    arguments = parser().parse_args()
    {"run": run, "summary": summary}[arguments.command](arguments)
