"""Searches killed at random instants and resumed: is the result that of a run that was not?

Every trial kills a search on CiteSeer by SIGKILL, half of them at a random instant of its run and
half while it writes a checkpoint, which a look into the folder tells; then it is resumed to its
end. Masks, weights, metrics and history are compared bit by bit with those of a run that nothing
interrupted. The processes are forked from this one, which has imported torch but computed nothing,
and run the command line. Results are appended to a JSON-lines file::

    python benchmarks/kill.py --kills 24
    python benchmarks/kill.py --kills 24 --sampled
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch_geometric.nn  # noqa: F401  (imported here, and not once a process)

from _cells import RESULTS, append_cell, pending
from fastglt import _strict_json
from fastglt.api import find  # noqa: F401
from fastglt.checkpoint import files
from fastglt.checkpoint.places import FILES
from fastglt.cli import main as command_line
from fastglt.study.provenance import run_provenance
from fastglt.ticket import Ticket

OPTIONS = (
    "--model=gcn", "--hidden=32", "--edge-sparsity=0.3", "--weight-sparsity=0.9", "--threads=1",
    "--dense-epochs=40", "--pretrain-epochs=5", "--denoise-steps=40", "--retrain-epochs=40",
)  # fmt: skip
SAMPLED = ("--sampler=neighbor", "--fanout=5,5", "--batch-size=60")
"""What a search in mini-batches is told besides."""
NEW = ("--out=ticket.safetensors", "--json=result.json")
NOT_COMPARED = ("seconds",)
"""Metrics that are not the same again."""


def start(folder: Path, options: Sequence[str], *more: str) -> int:
    """A process that runs the command line in a folder; its number."""
    number = os.fork()
    if number:
        return number
    try:
        os.chdir(folder)
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        command_line(["find", *options, *NEW, *more])
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)
    finally:
        os._exit(1)


def finish(folder: Path, options: Sequence[str], *more: str) -> float:
    """Run the command line to its end; seconds."""
    begin = time.perf_counter()
    _, status = os.waitpid(start(folder, options, *more), 0)
    if status:
        raise RuntimeError(f"a run ended with status {status}:\n{(folder / 'log').read_text()}")
    return time.perf_counter() - begin


def kill_at(number: int, seconds: float) -> bool:
    """Kill a process after some seconds; whether it was still running."""
    give_up = time.perf_counter() + seconds
    while time.perf_counter() < give_up:
        if os.waitpid(number, os.WNOHANG)[0]:
            return False
        time.sleep(0.001)
    return _kill(number)


def kill_in_write(number: int, folder: Path, writes: int) -> bool:
    """Kill a process while it makes its so-manieth checkpoint; whether it was still running."""
    seen: set[str] = set()
    while len(seen) < writes:
        if os.waitpid(number, os.WNOHANG)[0]:
            return False
        seen.update(_unfinished(folder))
    return _kill(number)


def _kill(number: int) -> bool:
    os.kill(number, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(number, 0)[1])


def _unfinished(folder: Path) -> list[str]:
    """Names of checkpoints that are being written, or whose process was killed while it did."""
    try:
        return [name for name in os.listdir(folder) if name.startswith(".checkpoint-")]  # noqa: PTH208
    except FileNotFoundError:
        return []


def stage_of(folder: Path) -> str:
    """The loop that the newest checkpoint of a folder is in, or after."""
    found = [files.read(folder, slot) for slot in range(len(FILES))]
    newest = max((each for each in found if each), key=lambda each: each.generation, default=None)
    return "none yet" if newest is None else list(newest.records)[-1]


def differences(folder: Path, other: Path) -> list[str]:
    """What of two finished runs is not the same, bit by bit."""
    first, second = (Ticket.load(each / "ticket.safetensors") for each in (folder, other))
    pairs: dict[str, tuple[Any, Any]] = {
        "edge mask": (first.edge_keep, second.edge_keep),
        "history": (first.history, second.history),
        "metrics": (_compared(first.metrics), _compared(second.metrics)),
        "settings": (first.settings, second.settings),
        "result": (_result(folder), _result(other)),
    }
    for name in ("weight_masks", "init_state", "trained_state"):
        one, two = getattr(first, name), getattr(second, name)
        pairs |= {f"{name} {key}": (one.get(key), two.get(key)) for key in {*one, *two}}
    return [name for name, pair in pairs.items() if not _same(*pair)]


def _result(folder: Path) -> dict[str, Any]:
    return _compared(_strict_json.loads((folder / "result.json").read_bytes()))


def _compared(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if name not in NOT_COMPARED}


def _same(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return one.dtype == two.dtype and one.numpy().tobytes() == two.numpy().tobytes()
    return bool(one == two)


def measure(key: dict[str, Any], keep: Path) -> dict[str, Any]:
    """Kill and resume as often as the key says."""
    draw = random.Random(key["seed"])
    options = (f"--dataset={key['graph']}", *key["options"])
    recorded = ("--checkpoint=checkpoint", f"--checkpoint-every={key['every']:g}", "--resume")
    plain = _folder(keep, "uninterrupted")
    seconds = finish(plain, options)
    whole = _folder(keep, "recorded")
    recorded_seconds = finish(whole, options, *recorded)
    if different := differences(plain, whole):
        raise RuntimeError(f"a recorded run differs in {different}")
    kills, in_write, identical, attempts = 0, 0, 0, 0
    stages: Counter[str] = Counter()
    while kills < key["kills"]:
        folder = _folder(keep, f"killed-{attempts}")
        attempts += 1
        checkpoints = folder / "checkpoint"
        number = start(folder, options, *recorded)
        if attempts % 2:
            was_killed = kill_at(number, draw.uniform(0, recorded_seconds))
        else:
            was_killed = kill_in_write(number, checkpoints, draw.randint(1, key["writes"]))
        if not was_killed:
            continue
        kills += 1
        in_write += bool(_unfinished(checkpoints))
        stages[stage_of(checkpoints) if checkpoints.exists() else "none yet"] += 1
        finish(folder, options, *recorded)
        different = differences(plain, folder)
        identical += not different
        print(f"kill {kills}: {different or 'identical'}, {dict(stages)}", flush=True)
    return {
        "kills": kills,
        "during_a_write": in_write,
        "identical": identical,
        "newest_checkpoint_in": dict(stages),
        "seconds": {"uninterrupted": round(seconds, 3), "recorded": round(recorded_seconds, 3)},
    }


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


def parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    top = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    top.add_argument("--out", type=Path, default=RESULTS / "kill.jsonl")
    top.add_argument("--graph", default="citeseer")
    top.add_argument("--kills", type=int, default=24)
    top.add_argument("--every", type=float, default=0.0, help="seconds between two checkpoints")
    top.add_argument("--writes", type=int, default=100, help="kill in one of the first so many")
    top.add_argument("--seed", type=int, default=0, help="of the instants")
    top.add_argument("--sampled", action="store_true", help="search in mini-batches")
    return top


def main() -> None:
    """Run what is not in the results yet."""
    args = parser().parse_args()
    torch.set_num_threads(1)
    names = ("graph", "kills", "every", "writes", "seed")
    key = {name: vars(args)[name] for name in names} | {
        "options": [*OPTIONS, *(SAMPLED if args.sampled else ())]
    }
    for missing in pending([key], args.out):
        provenance = run_provenance()  # of the code that is run
        with tempfile.TemporaryDirectory() as folder:
            result = measure(missing, Path(folder))
        append_cell(args.out, {"key": missing, "result": result, "provenance": provenance})
        print(result)
        if result["identical"] < result["kills"]:
            raise SystemExit("a resumed run differs from the uninterrupted one")


if __name__ == "__main__":
    main()
