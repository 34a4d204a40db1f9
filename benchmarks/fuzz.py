"""Untrusted files, changed at will, give a clear error or the same data.

``run`` makes so many mutated inputs for every target (see ``_fuzz_targets.py``) and engine:
hypothesis draws changes that know the format; atheris is guided by the coverage of the reader.
Each is read in a child process under limits of time and memory (``_fuzz_guard.py``); allowed are
the same data, when it is written and read again, or a :class:`fastglt.errors.FastGLTError`. Not
allowed are any other exception, a crash, a hang, memory beyond the limit, a warning, another file
that is opened, an import, code that is run. A child that dies is noted and another one goes on.
Files that went wrong are kept in the folder ``--keep``.

    python benchmarks/fuzz.py run --inputs 15000
    python benchmarks/fuzz.py run --targets ticket --engines hypothesis --inputs 500 --out new.jsonl
    python benchmarks/fuzz.py summary
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from _cells import names, read_cells, run_missing, study_parser
from _fuzz_guard import COUNTERS, CPU_SECONDS, MEMORY, WALL_SECONDS, record_failure
from _fuzz_targets import TARGETS

ENGINES = ("hypothesis", "atheris")
MEMORY_FOLDER = Path("/dev/shm")
MOST_DEATHS = 20
"""A campaign in which more children die ends."""
LIMITS = {"cpu_seconds": CPU_SECONDS, "wall_seconds": WALL_SECONDS, "memory_bytes": MEMORY}


def main() -> None:
    """Run the program."""
    top = study_parser(__doc__ or "", "fuzz.jsonl")
    top.add_argument("--targets", type=names, default=list(TARGETS))
    top.add_argument("--engines", type=names, default=list(ENGINES))
    top.add_argument("--inputs", type=int, default=15_000, help="for each target and engine")
    top.add_argument("--seed", type=int, default=0)
    top.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    args = top.parse_args()
    if args.command == "summary":
        print_summary(args.out)
        return
    keys = [
        {"target": target, "engine": engine, "inputs": args.inputs, "seed": args.seed}
        for target in args.targets
        for engine in args.engines
    ]
    run_missing(args, keys, partial(campaign, keep=args.keep))


def campaign(key: dict[str, Any], keep: Path) -> dict[str, Any]:
    """Counts and failures of one target and engine.

    Args:
        key: ``target``, ``engine``, ``inputs`` and ``seed``.
        keep: Gets the files that went wrong.
    """
    start, suffix = time.perf_counter(), TARGETS[key["target"]].suffix
    # In memory where there is such a folder: files are flushed at every write.
    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None) as name:
        folder = Path(name)
        np.zeros(len(COUNTERS), np.int64).tofile(folder / "counts")
        deaths = 0
        while (left := key["inputs"] - int(_counts(folder)[0])) > 0 and deaths <= MOST_DEATHS:
            before = int(_counts(folder)[0])
            end = _run_child(folder, key, left, key["seed"] + deaths)
            if end.returncode != 0:
                deaths += 1
                _record_death(folder, suffix, end)
            elif int(_counts(folder)[0]) == before:
                break  # the engine has nothing left to try
        failures = _failures(folder)
        if failures:
            keep.mkdir(parents=True, exist_ok=True)
            for failure in failures:
                shutil.copy(folder / failure["file"], keep)
        counts = dict(zip(COUNTERS, map(int, _counts(folder)), strict=True))
    seconds = round(time.perf_counter() - start, 1)
    return {**counts, "found": failures, "seconds": seconds, "limits": LIMITS}


def print_summary(path: Path) -> None:
    """All campaigns of a file as a table, and how many inputs they had."""
    total = 0
    for cell in read_cells(path):
        key, result = cell["key"], cell["result"]
        total += result["inputs"]
        print(
            f"{key['target']:<11} {key['engine']:<11} seed {key['seed']}: {result['inputs']:>7} "
            f"inputs, {result['taken']:>6} taken, {result['refused']:>7} refused, "
            f"{result['failures']} failures, {result['seconds']:.0f} s"
        )
    print(f"{total} inputs")


def _run_child(
    folder: Path, key: dict[str, Any], inputs: int, seed: int
) -> subprocess.CompletedProcess[str]:
    worker = Path(__file__).with_name("_fuzz_worker.py")
    return subprocess.run(
        [sys.executable, str(worker), key["target"], key["engine"], str(folder),
         f"--inputs={inputs}", f"--seed={seed}"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )  # fmt: skip


def _record_death(folder: Path, suffix: str, end: subprocess.CompletedProcess[str]) -> None:
    counts = np.memmap(folder / "counts", np.int64, "r+")
    if counts[0] == 0 or end.returncode == 1:  # an exception outside of the reader
        raise RuntimeError(f"the child failed:\n{end.stderr[-3000:]}")
    counts[3] += 1
    code = -end.returncode
    name = signal.Signals(code).name if code > 0 else f"exit code {end.returncode}"
    data = (folder / f"current{suffix}").read_bytes()
    record_failure(folder, data, f"the process ended by {name}: {end.stderr[-300:]}", suffix)


def _counts(folder: Path) -> Any:
    return np.fromfile(folder / "counts", np.int64)


def _failures(folder: Path) -> list[dict[str, str]]:
    path = folder / "failures.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    main()
