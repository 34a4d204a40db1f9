"""What a measured figure depends on besides its settings."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastglt.ticket.provenance import library_versions

if TYPE_CHECKING:
    import torch

_PACKAGE = Path(__file__).resolve().parents[1]


def run_provenance(device: torch.device | None = None) -> dict[str, Any]:
    """Versions, threads, processor, huge pages, and the commit of a checkout that is run from.

    Args:
        device: Where it was computed; the CPU if not given.

    Returns:
        dict[str, Any]: JSON-able; ``commit`` is ``None`` outside a checkout, and has a mark where
        the package differs from it.
    """
    huge = os.environ.get("THP_MEM_ALLOC_ENABLE", "0") == "1"
    return {
        "commit": commit(),
        "processor": processor(),
        "huge_pages": huge,
        **library_versions(device),
    }


@functools.cache
def commit() -> str | None:
    """The commit of the checkout that this package lies in; asked for once a process."""
    root = _PACKAGE.parents[1]
    if not (root / ".git").exists():
        return None
    try:
        short = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--", str(_PACKAGE))
    except (OSError, subprocess.CalledProcessError):
        return None
    return short + ("+changes" if changed else "")


def processor() -> str:
    """Name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
