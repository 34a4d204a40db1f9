"""The memory that a piece of a program takes beyond what was there before it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LINUX = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")

_PROGRAM = """
from pathlib import Path

def kib(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))

import torch
torch.set_num_threads(1)
{before}
Path("/proc/self/clear_refs").write_text("5")
resident = kib("VmRSS")
{measured}
print((kib("VmHWM") - resident) * 1024)
"""


def peak_bytes(before: str, measured: str) -> int:
    """Peak resident memory of ``measured`` in a process of its own, less that after ``before``."""
    program = _PROGRAM.format(before=before, measured=measured)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)
