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
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _cells import RESULTS, append_cell, pending, provenance, read_cells

BACKBONES = ("gcn", "gin", "gat", "sage", "deepergcn")
DATASETS = ("cora", "citeseer", "tolokers", "ogbl-ddi", "ogbn-arxiv", "pubmed", "computers")
BUDGET = {"edge-sparsity": 0.3, "weight-sparsity": 0.9}
SHORT = {"dense-epochs": 2, "pretrain-epochs": 1, "denoise-steps": 6, "retrain-epochs": 2}
"""For graphs of more than a million edges."""
SHORTENED = {"dense-epochs": 40, "denoise-steps": 20, "retrain-epochs": 40}
FULL = {("gcn", "cora"), ("gcn", "citeseer"), ("gcn", "pubmed"), ("gat", "cora")}
OPTIONS: dict[tuple[str, str], dict[str, Any]] = {
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
        {"dataset": dataset, "model": model, "options": options_of(model, dataset), "seed": 0}
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


def run_cell(key: dict[str, Any], args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Find and evaluate; figures of both, and the most memory that either took."""
    ticket = folder / f"{key['dataset']}-{key['model']}.safetensors"
    common = ["--json=-", f"--threads={args.threads}"]
    if args.root:
        common.append(f"--root={args.root}")
    options = [f"--{name}={value}" for name, value in key["options"].items()]
    found = _call(
        "find", f"--dataset={key['dataset']}", f"--model={key['model']}", f"--seed={key['seed']}",
        f"--out={ticket}", *options, *common,
    )  # fmt: skip
    evaluated = _call("eval", str(ticket), *common)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {
        "find": found,
        "agrees": evaluated["agrees"],
        "val_again": evaluated["val_ticket"],
        "test_again": evaluated["test_ticket"],
        "peak_bytes": peak,
        "ticket_bytes": ticket.stat().st_size,
    }


def _call(*arguments: str) -> dict[str, Any]:
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        [sys.executable, "-m", "fastglt", *arguments],
        check=False, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"fastglt {' '.join(arguments)} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def run(args: argparse.Namespace) -> None:
    """Compute the missing cells; each in a process of its own, so that peaks do not mix."""
    index, count = (int(part) for part in args.shard.split("/"))
    with tempfile.TemporaryDirectory() as name:
        for key in pending(all_keys(args), args.out, (index, count)):
            child = os.fork()
            if child == 0:
                try:
                    result = run_cell(key, args, Path(name))
                except RuntimeError as error:
                    print(key["dataset"], key["model"], error, file=sys.stderr, flush=True)
                    os._exit(1)
                append_cell(args.out, {"key": key, "result": result, "provenance": provenance()})
                print(_row(key, result), flush=True)
                os._exit(0)
            os.waitpid(child, 0)


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


def _list(text: str) -> list[str]:
    return text.split(",")


def parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    top = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    top.add_argument("command", choices=["run", "summary"])
    top.add_argument("--out", type=Path, default=RESULTS / "grid.jsonl")
    top.add_argument("--root", help="data folder (default: $FASTGLT_DATA, cache, download)")
    top.add_argument("--datasets", type=_list, default=list(DATASETS))
    top.add_argument("--models", type=_list, default=list(BACKBONES))
    top.add_argument("--threads", type=int, default=1)
    top.add_argument("--shard", default="0/1", help="index/count of this process")
    return top


if __name__ == "__main__":
    arguments = parser().parse_args()
    {"run": run, "summary": summary}[arguments.command](arguments)
