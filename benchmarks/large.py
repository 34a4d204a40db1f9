"""A csbm graph of 2 million nodes and 50 million edges: seconds and peak memory by stage.

Drawn, validated, written to a folder of arrays, mapped from it (which validates again) and its edge
groups found, in one fresh process. ``peak_gib`` is the resident memory of the whole process at the
height of a stage, ``before_gib`` at its start; pages of mapped files count while they are there.
Results are appended to a JSON-lines file (Linux only)::

    python benchmarks/large.py run
    python benchmarks/large.py run --nodes 200000 --out /tmp/rehearsal.jsonl
    python benchmarks/large.py summary
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from _cells import Key, Result, read_cells, run_missing, study_parser
from fastglt.data import csbm, load_mapped, save_mapped
from fastglt.data.validate import validate
from fastglt.masks import EdgeGroups

KIB_OF_GIB = 1 << 20


def measure(key: Key) -> Result:
    """Every stage once, in this process."""
    torch.set_num_threads(key["threads"])
    stages: dict[str, Result] = {}
    with _stage(stages, "draw"):
        data = csbm(
            key["nodes"],
            average_degree=key["average_degree"],
            degree_exponent=key["degree_exponent"],
            num_classes=10,
            num_features=key["features"],
            seed=0,
        )
    edges = data.num_edges
    with _stage(stages, "validate"):
        validate(data)
    with TemporaryDirectory() as folder:
        with _stage(stages, "write to a folder"):
            save_mapped(data, Path(folder) / "graph")
        del data
        with _stage(stages, "map and validate"):
            mapped = load_mapped(Path(folder) / "graph").data
        with _stage(stages, "edge groups"):
            groups = EdgeGroups.of(mapped)
        if not groups.undirected or 2 * groups.num_groups != edges:
            raise RuntimeError("the groups are not the pairs of the graph")
    return {"edges": edges, "stages": stages}


@contextmanager
def _stage(stages: dict[str, Result], name: str) -> Iterator[None]:
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, spent, wall = _gib("VmRSS"), time.process_time(), time.perf_counter()
    yield
    stages[name] = {
        "processor_seconds": round(time.process_time() - spent, 2),
        "seconds": round(time.perf_counter() - wall, 2),
        "before_gib": before,
        "peak_gib": _gib("VmHWM"),
    }
    print(name, stages[name], flush=True)


def _gib(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
    return round(kib / KIB_OF_GIB, 3)


def parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    top = study_parser(__doc__, "large.jsonl")
    top.add_argument("--nodes", type=int, default=2_000_000)
    top.add_argument("--machine", choices=["idle", "shared"], default="idle")
    return top


def run(args: argparse.Namespace) -> None:
    """Measure what has no result yet."""
    key: Key = {
        "nodes": args.nodes,
        "average_degree": 25,
        "degree_exponent": 2.5,
        "features": 32,
        "threads": args.threads,
        "machine": args.machine,
    }

    def compute(key: Key) -> Result:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            return fresh.submit(measure, key).result()

    run_missing(args, [key], compute)


def summary(args: argparse.Namespace) -> None:
    """Print a table of each result."""
    for cell in read_cells(args.out):
        key, result = cell["key"], cell["result"]
        print(f"\n{key['nodes']:,} nodes, {result['edges']:,} edges, {key['threads']} threads\n")
        print("| stage | processor seconds | GiB before | GiB at most |\n|---|---|---|---|")
        for name, stage in result["stages"].items():
            figures = f"{stage['before_gib']:.2f} | {stage['peak_gib']:.2f}"
            print(f"| {name} | {stage['processor_seconds']:.1f} | {figures} |")


if __name__ == "__main__":
    arguments = parser().parse_args()
    {"run": run, "summary": summary}[arguments.command](arguments)
