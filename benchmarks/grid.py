"""Every backbone on every dataset at hand: find a ticket, then evaluate it in a new process.

Each cell is one ``fastglt find`` and one ``fastglt eval`` on the command line. Finished cells are
appended to a JSON-lines file and not computed again::

    python benchmarks/grid.py run --root DATA --threads 1
    python benchmarks/grid.py summary

Only the cells in ``FULL`` run with the settings of the preset. The others are shortened, and those
on graphs of more than a million edges are short: they show that everything works, and what it
costs, not how good a ticket can be.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _cells import Key, Result, names, read_cells, run_missing, study_parser
from fastglt.search import METHOD_VERSION

BACKBONES = ("gcn", "gin", "gat", "sage", "deepergcn")
DATASETS = ("cora", "citeseer", "tolokers", "ogbl-ddi", "ogbn-arxiv", "pubmed", "computers")
BUDGET = {"edge-sparsity": 0.3, "weight-sparsity": 0.9}
SHORT = {"dense-epochs": 2, "pretrain-epochs": 1, "denoise-steps": 6, "retrain-epochs": 2}
"""For graphs of more than a million edges."""
SHORTENED = {"dense-epochs": 40, "denoise-steps": 20, "retrain-epochs": 40}
FULL = {("gcn", "cora"), ("gcn", "citeseer"), ("gcn", "pubmed"), ("gat", "cora")}
OPTIONS: dict[tuple[str, str], dict[str, Any]] = {
    # Sums over some 36 neighbours, twice: without a norm it does not train.
    ("gin", "computers"): {"norm": "batch_norm"},
    ("deepergcn", "computers"): {
        "dense-epochs": 10,
        "pretrain-epochs": 3,
        "denoise-steps": 10,
        "retrain-epochs": 10,
    },
    # The last layer of GAT has as many messages a head and edge as there are classes.
    ("gat", "ogbn-arxiv"): {"heads": 2, "hidden": 64},
    **{(model, "ogbl-ddi"): {"hidden": 64, "batch-size": 400_000} for model in BACKBONES},
    ("deepergcn", "ogbl-ddi"): {"hidden": 64, "batch-size": 400_000, "layers": 14},
    ("deepergcn", "ogbn-arxiv"): {"pretrain-epochs": 3},
}
LARGE = ("tolokers", "ogbn-arxiv", "ogbl-ddi")


def all_keys(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The cells that the arguments ask for."""
    return [
        {
            "dataset": dataset,
            "model": model,
            "options": options_of(model, dataset),
            "seed": 0,
            "version": METHOD_VERSION,
        }
        for dataset, model in itertools.product(args.datasets, args.models)
    ]


def options_of(model: str, dataset: str) -> dict[str, Any]:
    """Options of ``find`` for one cell."""
    options: dict[str, Any] = dict(BUDGET)
    if dataset in LARGE:
        options |= SHORT
    elif (model, dataset) not in FULL:
        options |= SHORTENED
    return options | OPTIONS.get((model, dataset), {})


def run_cell(key: Key, args: argparse.Namespace) -> Result:
    """Find and evaluate; figures of both, and the most memory that either took."""
    common = [f"--threads={args.threads}"]
    if args.root:
        common.append(f"--root={args.root}")
    options = [f"--{name}={value}" for name, value in key["options"].items()]
    with tempfile.TemporaryDirectory() as folder:
        ticket = Path(folder) / "ticket.safetensors"
        found, peak_find = _call(
            "find", f"--dataset={key['dataset']}", f"--model={key['model']}",
            f"--seed={key['seed']}", f"--out={ticket}", *options, *common,
        )  # fmt: skip
        evaluated, peak_eval = _call("eval", str(ticket), *common)
        return {
            "find": found,
            "agrees": evaluated["agrees"],
            "val_again": evaluated["val_ticket"],
            "test_again": evaluated["test_ticket"],
            "peak_bytes": max(peak_find, peak_eval),
            "ticket_bytes": ticket.stat().st_size,
        }


def _call(*arguments: str) -> tuple[dict[str, Any], int]:
    """The figures of a command, and the most memory that it took, in bytes."""
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    with tempfile.TemporaryFile("w+") as figures, tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "fastglt", *arguments, "--json=-"],
            stdout=figures, stderr=errors, env=environment,
        )  # fmt: skip
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            errors.seek(0)
            raise RuntimeError(f"fastglt {' '.join(arguments)} failed:\n{errors.read()}")
        figures.seek(0)
        return json.load(figures), usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run(args: argparse.Namespace) -> None:
    """Compute the missing cells."""
    run_missing(args, all_keys(args), lambda key: run_cell(key, args), _row)


def summary(args: argparse.Namespace) -> None:
    """Print a line each cell."""
    for cell in sorted(
        read_cells(args.out), key=lambda c: (c["key"]["dataset"], c["key"]["model"])
    ):
        print(_row(cell["key"], cell["result"]))


def _row(key: dict[str, Any], result: dict[str, Any]) -> str:
    found = result["find"]
    return (
        f"{found['title']:34} {key['model']:10} {found['metric']:8} "
        f"dense {100 * found['test_dense']:6.2f} ticket {100 * found['test_ticket']:6.2f} "
        f"again {100 * result['test_again']:6.2f} agrees {result['agrees']} "
        f"{found['seconds']['total']:7.0f} s {result['peak_bytes'] / 2**30:5.1f} GiB"
    )


def parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    top = study_parser(__doc__, "grid.jsonl")
    top.add_argument("--datasets", type=names, default=list(DATASETS))
    top.add_argument("--models", type=names, default=list(BACKBONES))
    return top


if __name__ == "__main__":
    arguments = parser().parse_args()
    {"run": run, "summary": summary}[arguments.command](arguments)
