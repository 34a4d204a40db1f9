"""A small part of the campaign of ``benchmarks/fuzz.py``: mutated files do no harm."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
INPUTS = 100
PROGRAM = """
import json, sys
from pathlib import Path
from random import Random
import numpy as np
from _fuzz_guard import COUNTERS, Guard
from _fuzz_targets import TARGETS, Target

folder, inputs = Path(sys.argv[1]), int(sys.argv[2])
outcome = {}
for name, target in TARGETS.items():
    here = folder / name
    here.mkdir()
    np.zeros(len(COUNTERS), np.int64).tofile(here / "counts")
    seeds, rng = target.seeds(), Random(0)
    guard = Guard(target, here)
    guard.warm_up(seeds)
    for _ in range(inputs):
        guard.check(target.mutate(rng, rng.choice(seeds), rng.choice(seeds), []))
    found = here / "failures.jsonl"
    outcome[name] = {
        "counts": np.fromfile(here / "counts", np.int64).tolist(),
        "found": found.read_text() if found.exists() else "",
    }
print(json.dumps(outcome))
"""
GUARDED = """
import json, os, sys, warnings
from pathlib import Path
import numpy as np
from _fuzz_guard import COUNTERS, Guard
from _fuzz_targets import Target
from fastglt.errors import InputError

def refuse(file, scratch):
    raise InputError("this is refused clearly")

problems = []
for number, harm in enumerate(json.loads(sys.argv[2])):
    folder = Path(sys.argv[1]) / str(number)
    folder.mkdir()
    np.zeros(len(COUNTERS), np.int64).tofile(folder / "counts")
    names = dict(globals())
    exec("def read(file, scratch):\\n " + harm, names)
    guard = Guard(Target(".x", list, names["read"], None), folder)
    guard.check(b"")
    problems.append(json.loads((folder / "failures.jsonl").read_text())["problem"])
folder = Path(sys.argv[1]) / "clear"
folder.mkdir()
np.zeros(len(COUNTERS), np.int64).tofile(folder / "counts")
Guard(Target(".x", list, refuse, None), folder).check(b"")
assert not (folder / "failures.jsonl").exists()
print(json.dumps(problems))
"""
HARMS = {
    "raise KeyError('x')": "KeyError",
    "warnings.warn('careful')": "warned: careful",
    "open('/etc/hostname')": "did open /etc/hostname",
    "os.system('true')": "did os.system",
    "bytearray(2**30)": "MemoryError",
    "import this_is_not_there": "ModuleNotFoundError",
    "raise InputError('short')": "message of 5 characters",
}

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the limits need Linux"
)


def _run(program, *arguments):
    path = os.pathsep.join(filter(None, [str(BENCHMARKS), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_mutated_files_give_the_same_data_or_a_clear_error(tmp_path):
    result = _run(PROGRAM, tmp_path, INPUTS)
    assert result.returncode == 0, result.stderr
    outcome = json.loads(result.stdout.splitlines()[-1])
    assert {"ticket", "graph", "study", "config"} <= outcome.keys()
    for name, each in outcome.items():
        inputs, taken, refused, failures = each["counts"]
        assert failures == 0, f"{name}: {each['found']}"
        assert inputs == taken + refused == INPUTS
        assert refused > INPUTS // 4


def test_the_campaign_notices_what_a_reader_must_not_do(tmp_path):
    result = _run(GUARDED, tmp_path, json.dumps(list(HARMS)))
    assert result.returncode == 0, result.stderr
    problems = json.loads(result.stdout.splitlines()[-1])
    for expected, problem in zip(HARMS.values(), problems, strict=True):
        assert expected in problem


def test_the_campaign_ends_a_reader_that_hangs(tmp_path):
    short = "import _fuzz_guard\n_fuzz_guard.CPU_SECONDS = 0.2\n"
    hangs = json.dumps(["[None for _ in iter(int, 1)]"])
    assert _run(short + GUARDED, tmp_path, hangs).returncode == -signal.SIGPROF
