"""A study on Ray whose workers, and once the study itself, are killed, against an undisturbed one.

``fastglt compare`` on CiteSeer is run in processes, undisturbed. Then the same study is run with
``--ray auto`` while workers that are making a cell are killed by SIGKILL at random instants. The
first commands are killed as well, and the same command is given again, alternately on Ray and in
processes, until one ends well. Then the cells of both studies are compared: all figures must be
equal, and no line may be missing, doubled or cut::

    python benchmarks/ray_kill.py run --root DATA --kills 10
    python benchmarks/ray_kill.py summary

Finished repetitions are appended to a JSON-lines file and not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from _cells import Key, Result, read_cells, run_missing, study_parser
from fastglt.search import METHOD_VERSION
from fastglt.study.cells import CELLS
from fastglt.study.cells import read_cells as study_cells
from fastglt.study.jobs import Key as CellKey
from fastglt.study.jobs import key_of

METHODS = "fastglt,one-shot,random,early-bird"
SMALL = (
    "--dataset=citeseer", "--hidden=16", "--dense-epochs=30", "--pretrain-epochs=5",
    "--denoise-steps=30", "--retrain-epochs=30", "--edge-sparsity=0.3", "--weight-sparsity=0.9",
    f"--methods={METHODS}",
)  # fmt: skip
ENGINES = {"ray": ("--ray=auto",), "processes": ("--workers=2", "--threads=2")}
RETRY = re.compile(r"its worker died .*; begun again")
AT_WORK = "ray::answer"
"""What Ray calls a worker's process while it runs a job."""


def all_keys(args: argparse.Namespace) -> list[Key]:
    """One key a repetition."""
    return [
        {
            "seeds": args.seeds,
            "kills": args.kills,
            "deaths": args.deaths,
            "repetition": repetition,
            "version": METHOD_VERSION,
        }
        for repetition in range(args.repetitions)
    ]


def run_cell(key: Key, root: str | None) -> Result:
    """One repetition."""
    with tempfile.TemporaryDirectory(prefix="ray-kill-") as name:
        folder = Path(name)
        started = start(folder / "calm", "processes", key["seeds"], root)
        if started.wait() != 0:
            raise SystemExit(f"the undisturbed study failed:\n{said(folder / 'calm')}")
        figures = disturbed(key, folder / "killed", root)
        return figures | compared(folder / "calm", folder / "killed")


def start(study: Path, engine: str, seeds: int, root: str | None) -> subprocess.Popen[bytes]:
    """Give the command; what it says is appended to a file beside the study."""
    place = [] if root is None else [f"--root={root}"]
    command = [
        sys.executable, "-m", "fastglt", "compare", *SMALL, *ENGINES[engine], *place,
        f"--seeds={seeds}", f"--out={study}",
    ]  # fmt: skip
    with study.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment())


def environment() -> dict[str, str]:
    """That of this process, less a cluster that it may know of."""
    return {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}


def said(study: Path) -> str:
    """What all commands of a study have said."""
    return study.with_suffix(".log").read_text()


def disturbed(key: Key, study: Path, root: str | None) -> Result:
    """Run the study, kill workers and commands, and go on until a command ends well."""
    chance = random.Random(key["repetition"])
    commands: list[str] = []
    kills, code = 0, 1
    while code != 0:
        engine = "processes" if len(commands) % 2 else "ray"
        is_doomed = len(commands) < key["deaths"]
        most = key["kills"] - kills if engine == "ray" else 0
        if is_doomed:
            most //= 2
        commands.append(engine)
        process = start(study, engine, key["seeds"], root)
        # Killed within a later cell than the first, and after some of its workers.
        enough = len(lines_of(study)) + chance.randint(1, 4)
        kills_here = 0
        while process.poll() is None:
            time.sleep(chance.uniform(0.2, 4.0))
            if kills_here < most:
                kills_here += kill_one(process.pid, chance)
            elif is_doomed and len(lines_of(study)) >= enough:
                process.kill()
        kills += kills_here
        code = process.wait()
        if len(commands) > key["deaths"] + 4:
            raise SystemExit(f"the study does not end:\n{said(study)}")
    return {
        "worker_kills": kills,
        "study_kills": key["deaths"],
        "commands": commands,
        "retries": len(RETRY.findall(said(study))),
    }


def kill_one(study: int, chance: random.Random) -> bool:
    """Kill a worker of a study that is making a cell, if there is one."""
    at_work = [pid for pid in descendants(study) if title(pid).startswith(AT_WORK)]
    if not at_work:
        return False
    try:
        os.kill(chance.choice(at_work), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def descendants(ancestor: int) -> set[int]:
    """Children of a process, and theirs (Linux)."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):  # it has ended meanwhile
            continue
    found, older = {ancestor}, 0
    while len(found) > older:
        older = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    return found - {ancestor}


def title(pid: int) -> str:
    """What a process calls itself; empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def lines_of(study: Path) -> list[str]:
    """Whole lines of a study; ``splitlines`` would also split at other ends of lines."""
    file = study / CELLS
    return file.read_text().split("\n")[:-1] if file.exists() else []


def compared(calm: Path, killed: Path) -> Result:
    """How the cells of two studies differ."""
    expected, found = by_key(calm), by_key(killed)
    equal = [key for key in expected if found.get(key, [])[:1] == expected[key][:1]]
    return {
        "cells": len(expected),
        "equal_cells": len(equal),
        "lost_lines": len(expected.keys() - found.keys()),
        "doubled_lines": sum(len(cells) - 1 for cells in found.values()),
        "foreign_lines": len(found.keys() - expected.keys()),
        "torn_lines": int(not (killed / CELLS).read_bytes().endswith(b"\n")),
    }


def by_key(study: Path) -> dict[CellKey, list[Any]]:
    """Cells without what differs from run to run: seconds, and where it was run."""
    found = defaultdict(list)
    for cell in study_cells(study):
        found[key_of(cell)].append(cell.model_dump(exclude={"seconds", "provenance"}))
    return found


def run(args: argparse.Namespace) -> None:
    """Make the missing repetitions."""
    run_missing(args, all_keys(args), lambda key: run_cell(key, args.root))


def summary(args: argparse.Namespace) -> None:
    """Print a line each repetition."""
    for cell in read_cells(args.out):
        print(cell["key"]["repetition"], json.dumps(cell["result"]))


def parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    top = study_parser(__doc__, "ray-kill.jsonl")
    top.add_argument("--seeds", type=int, default=4)
    top.add_argument("--kills", type=int, default=10, help="of workers, at most")
    top.add_argument("--deaths", type=int, default=2, help="commands that are killed")
    top.add_argument("--repetitions", type=int, default=1)
    return top


if __name__ == "__main__":
    arguments = parser().parse_args()
    {"run": run, "summary": summary}[arguments.command](arguments)
