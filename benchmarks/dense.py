"""Dense models against published figures: are baseline, data and metric what they should be?

A ticket is compared with its own dense run, so a weak dense run would flatter it. Each cell is one
dense training as ``fastglt find`` does it; finished cells are appended to a JSON-lines file::

    python benchmarks/dense.py run --root DATA
    python benchmarks/dense.py summary
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any, NamedTuple

from _cells import read_cells, run_missing, study_parser
from fastglt import data as datasets
from fastglt.models import BackboneConfig, build_model
from fastglt.search import METHOD_VERSION
from fastglt.settings import Settings
from fastglt.training.inputs import with_sparse_inputs
from fastglt.training.loop import FitConfig, fit, predict
from fastglt.training.seeding import seeded
from fastglt.training.task import Task
from fastglt.training.tasks import make_task
from fastglt.training.teacher import Objective


class Published(NamedTuple):
    """A published range of the test metric, in percent, and where it stands."""

    low: float
    high: float
    source: str


SHCHUR = "Shchur et al., arXiv 1811.05868, table 1 (mean and deviation over random splits)"
PLATONOV = "Platonov et al., arXiv 2302.11640, table 4 (tuned, with residuals, norms, 1000 steps)"
CELLS: dict[tuple[str, str], tuple[dict[str, Any], Published]] = {
    ("cora", "gat"): ({}, Published(80, 84, "Velickovic et al., arXiv 1710.10903: 83.0 +- 0.7")),
    ("cora", "gin"): ({"lr": 0.005}, Published(75, 81, "range of public runs; ACE-GLT README")),
    ("cora", "gcn"): ({}, Published(80, 83, "Kipf & Welling, arXiv 1609.02907: 81.5")),
    ("citeseer", "gcn"): ({}, Published(69.5, 72.5, "Kipf & Welling, arXiv 1609.02907: 70.3")),
    ("pubmed", "gcn"): ({}, Published(77.5, 80.5, "Kipf & Welling, arXiv 1609.02907: 79.0")),
    ("computers", "gcn"): ({"hidden": 64}, Published(80.2, 85.0, f"82.6 +- 2.4, {SHCHUR}")),
    ("tolokers", "gcn"): (
        {"hidden": 128, "epochs": 500, "dropout": 0.2, "weight_decay": 0.0},
        Published(82.9, 84.3, f"GCN 83.64 +- 0.67, {PLATONOV}"),
    ),
    ("tolokers", "deepergcn"): (
        {"hidden": 64, "layers": 4, "epochs": 500, "dropout": 0.2, "weight_decay": 0.0},
        Published(82.4, 84.3, f"SAGE 82.43, GCN 83.64, GAT 83.70, {PLATONOV}"),
    ),
}


def all_keys(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The cells that the arguments ask for; the seed is also that of the split."""
    return [
        {
            "dataset": dataset,
            "model": model,
            "options": options,
            "seed": seed,
            "version": METHOD_VERSION,
        }
        for seed in range(args.first_seed, args.first_seed + args.seeds)
        for (dataset, model), (options, _) in CELLS.items()
    ]


def run_cell(key: dict[str, Any], root: str | None) -> dict[str, Any]:
    """Train one dense model; its metrics at the best validation epoch."""
    options = dict(key["options"])
    config = FitConfig(
        epochs=options.pop("epochs", Settings().dense_epochs),
        lr=options.pop("lr", Settings().lr),
        weight_decay=options.pop("weight_decay", Settings().weight_decay),
        patience=Settings().patience,
    )
    dataset = datasets.load(key["dataset"], root=root, split_seed=key["seed"])
    data = dataset.data
    with seeded(key["seed"]):
        model = build_model(
            key["model"], data.num_features, dataset.num_classes, BackboneConfig(**options)
        )
    task: Task = make_task(dataset.task, data, metric=dataset.metric)
    data = with_sparse_inputs(model, data, task)
    objective = Objective(task)
    done = fit(model, data, objective, config, seed=key["seed"], phase="dense")
    out = predict(task, model, data)
    return {
        "metric": task.metric_name,
        "val": done.val_metric,
        "test": task.metric(out, data, "test"),
        "best_epoch": done.best_epoch,
        "epochs": done.epochs,
    }


def run(args: argparse.Namespace) -> None:
    """Compute the missing cells."""
    run_missing(args, all_keys(args), lambda key: run_cell(key, args.root))


def summary(args: argparse.Namespace) -> None:
    """Print a line each model and dataset, with what is published."""
    cells = read_cells(args.out)
    for (dataset, model), (options, published) in CELLS.items():
        rows = [
            cell["result"]
            for cell in cells
            if (cell["key"]["dataset"], cell["key"]["model"]) == (dataset, model)
            and cell["key"]["options"] == options
        ]
        if not rows:
            continue
        val, test = ([100 * row[split] for row in rows] for split in ("val", "test"))
        mean = statistics.mean(test)
        verdict = (
            "below" if mean < published.low else "above" if mean > published.high else "within"
        )
        print(
            f"{dataset:9} {model:10} {rows[0]['metric']:8} n={len(rows)} "
            f"val {statistics.mean(val):5.1f} test {mean:5.1f} (from {min(test):.1f} to "
            f"{max(test):.1f}) {verdict} {published.low}-{published.high}: {published.source}"
        )


def parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    top = study_parser(__doc__, "dense.jsonl")
    top.add_argument("--seeds", type=int, default=2)
    top.add_argument("--first-seed", type=int, default=0)
    return top


if __name__ == "__main__":
    arguments = parser().parse_args()
    {"run": run, "summary": summary}[arguments.command](arguments)
