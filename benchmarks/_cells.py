"""Finished cells of a study: one JSON line each, with provenance, never computed twice."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from fastglt.ticket import library_versions

RESULTS = Path(__file__).parent / "results"


def provenance() -> dict[str, Any]:
    """Commit (with a mark if the tree differs from it), versions, processor, threads."""
    return {"commit": _commit(), "processor": _processor(), **library_versions()}


def read_cells(path: Path) -> list[dict[str, Any]]:
    """All finished cells of a file, oldest first; none if there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def append_cell(path: Path, cell: Mapping[str, Any]) -> None:
    """Append one line in a single write, so that parallel processes never interleave."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(cell, sort_keys=True, allow_nan=False) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def pending(
    keys: list[dict[str, Any]], path: Path, shard: tuple[int, int]
) -> Iterator[dict[str, Any]]:
    """Those of ``keys`` that are in this shard ``(index, count)`` and not finished yet."""
    index, count = shard
    for position, key in enumerate(keys):
        if position % count == index and key not in [cell["key"] for cell in read_cells(path)]:
            yield key


def _commit() -> str:
    git = ["git", "-C", str(Path(__file__).parent)]
    commit = subprocess.run(
        [*git, "rev-parse", "--short=12", "HEAD"], check=True, capture_output=True
    )
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--", "../src"], check=True, capture_output=True, text=True
    )
    return commit.stdout.decode().strip() + ("+changes" if changed.stdout.strip() else "")


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def use_threads(count: int) -> None:
    """Compute with that many threads."""
    torch.set_num_threads(count)
