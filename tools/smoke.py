"""Search, show, evaluate and compile on a tiny graph, with the packages that are installed.

Says which versions worked together, for ``docs/reference/tested-versions.md``. It needs neither
the repository nor the network:

    python tools/smoke.py
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import os
import platform
import shlex
import tempfile
from pathlib import Path

PACKAGES = ("fastglt", "torch", "torch_geometric", "numpy", "scipy", "safetensors", "pydantic")
COMMANDS = (
    "find --data graph.npz --hidden 8 --edge-sparsity 0.3 --weight-sparsity 0.5 --threads 1 "
    "--dense-epochs 5 --pretrain-epochs 2 --denoise-steps 12 --retrain-epochs 5 "
    "--json result.json --log run.jsonl",
    "show ticket.safetensors",
    "eval ticket.safetensors --data graph.npz --threads 1",
    "compile ticket.safetensors --data graph.npz --threads 1",
)


def main() -> None:
    """Run the program."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    with tempfile.TemporaryDirectory() as name:
        before = Path.cwd()
        os.chdir(name)
        try:
            try_all()
        finally:
            os.chdir(before)
    print(", ".join([f"Python {platform.python_version()}", *versions, platform.platform()]))


def try_all() -> None:
    """Everything, in the current folder, which is empty."""
    import fastglt
    from fastglt import data

    data.save_npz(data.csbm(200, num_classes=3, seed=0), "graph.npz")
    for command in COMMANDS:
        run(command)
    ticket = fastglt.Ticket.load("ticket.safetensors")
    if not ticket.num_edges_kept < ticket.edge_keep.numel():
        raise SystemExit(f"error: nothing was pruned: {ticket}")
    last = json.loads(Path("run.jsonl").read_text().splitlines()[-1])
    result = json.loads(Path("result.json").read_text())
    if last["metrics"]["val_ticket"] != result["val_ticket"]:
        raise SystemExit(f"error: the log says {last} and the result {result}")
    if not Path("model.pt2").stat().st_size:
        raise SystemExit("error: the compiled model is empty")


def run(command: str) -> None:
    """A command of fastglt, which must succeed."""
    from fastglt.cli import main as fastglt_main

    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            fastglt_main(shlex.split(command))
    except SystemExit as end:
        if end.code:
            raise SystemExit(f"error: exit code {end.code} of fastglt {command}") from None
    if not output.getvalue():
        raise SystemExit(f"error: fastglt {command} printed nothing")


if __name__ == "__main__":
    main()
