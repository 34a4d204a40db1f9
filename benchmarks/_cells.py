"""Studies made of cells: one JSON line each, with provenance, never computed twice."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from fastglt.study.provenance import run_provenance

RESULTS = Path(__file__).parent / "results"
Key = dict[str, Any]
Result = dict[str, Any]


def study_parser(description: str, results: str) -> argparse.ArgumentParser:
    """The command line that all studies have.

    Args:
        description: The program's docstring; its first line is shown.
        results: Name of the file of finished cells.
    """
    top = argparse.ArgumentParser(description=description.splitlines()[0])
    top.add_argument("command", choices=["run", "summary"])
    top.add_argument("--out", type=Path, default=RESULTS / results)
    top.add_argument("--root", help="data folder (default: $FASTGLT_DATA, cache, download)")
    top.add_argument("--threads", type=int, default=1, help="of torch; default: 1")
    top.add_argument("--shard", type=_shard, default=(0, 1), help="index/count of this process")
    return top


def names(text: str) -> list[str]:
    """An argument that is a list with commas."""
    return text.split(",")


def run_missing(
    args: argparse.Namespace,
    keys: list[Key],
    compute: Callable[[Key], Result],
    line: Callable[[Key, Result], str] = "{} {}".format,
) -> None:
    """Compute, store and print, as a line each, the cells of this shard that are not there yet."""
    torch.set_num_threads(args.threads)
    for key in pending(keys, args.out, args.shard):
        result = compute(key)
        provenance = run_provenance(torch.device(vars(args).get("device", "cpu")))
        append_cell(args.out, {"key": key, "result": result, "provenance": provenance})
        print(line(key, result), flush=True)


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


def pending(keys: list[Key], path: Path, shard: tuple[int, int] = (0, 1)) -> Iterator[Key]:
    """Those of ``keys`` that are in this shard ``(index, count)`` and not finished yet."""
    index, count = shard
    for position, key in enumerate(keys):
        if position % count == index and key not in [cell["key"] for cell in read_cells(path)]:
            yield key


def _shard(text: str) -> tuple[int, int]:
    index, count = text.split("/")
    return int(index), int(count)
