"""Exact selection among many scores: seconds and memory, beside partitioning and ``topk``.

Each case is measured in a fresh process that takes the ways in turn, so that their ratios are of
one run; of each way the best of some rounds counts. Peak memory is that beyond the scores, result
included, in bytes a score (Linux only). ``partition`` is what small inputs are selected with,
``topk`` is torch's, scattered to a mask, which breaks ties in an order of its own. A swap exchanges
30 % of the kept half. Results are appended to a JSON-lines file::

    python benchmarks/selection.py run
    python benchmarks/selection.py run --scores 10000000 --out /tmp/rehearsal.jsonl
    python benchmarks/selection.py summary
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from _cells import Key, Result, read_cells, run_missing, study_parser
from fastglt.masks import select_top, selection, swap

CASES = {
    "normal": "float32",
    "a hundred values": "float32",
    "mapped from disk": "float32",
    "normal, wide": "float64",
    "normal, narrow": "bfloat16",
}
KEPT = 0.5
Seconds = tuple[float, float]
"""Of the processor, and of the clock."""
ROUNDS = 3


def make_scores(case: str, count: int) -> Tensor:
    """The scores of a case."""
    score = torch.randn(count, generator=torch.Generator().manual_seed(0))
    if case == "a hundred values":
        return score.mul_(20).round_()
    if case == "mapped from disk":
        with NamedTemporaryFile() as file:
            score.numpy().tofile(file)
            return torch.from_numpy(np.memmap(file, dtype=np.float32, mode="c"))
    return score.to(getattr(torch, CASES[case]))


def by_partition(score: Tensor, count: int) -> Tensor:
    """As small inputs are selected."""
    with mock.patch.object(selection, "_MANY", score.numel() + 1):
        return select_top(score, count)


def by_topk(score: Tensor, count: int) -> Tensor:
    """With torch's own selection."""
    result = torch.zeros(score.shape, dtype=torch.bool)
    result[score.topk(count, sorted=False).indices] = True
    return result


WAYS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "histograms": select_top,
    "partition": by_partition,
    "topk": by_topk,
}


def measure(key: Key, threads: int) -> Result:
    """Seconds and bytes a score of every way, in this process."""
    torch.set_num_threads(threads)
    score = make_scores(key["case"], key["scores"])
    count = int(KEPT * score.numel())
    seconds: dict[str, list[Seconds]] = {way: [] for way in WAYS}
    peaks: dict[str, float] = {}
    masks: dict[str, Tensor] = {}
    for _ in range(ROUNDS):
        for way, select in WAYS.items():
            masks.pop(way, None)
            select_now = partial(select, score, count)
            masks[way] = _watched(way, select_now, seconds, peaks, score.numel())
            if way == "partition" and not torch.equal(masks["histograms"], masks[way]):
                raise RuntimeError("the two ways differ")
    if int(masks["topk"].count_nonzero()) != count:
        raise RuntimeError("topk selected another number")
    keep = masks["topk"]
    seconds["swap"] = []
    exchange = partial(swap, keep, score, score, 0.3, count)
    _watched("swap", exchange, seconds, peaks, score.numel())
    best = {way: min(spent for spent, _ in times) for way, times in seconds.items()}
    clock = {way: min(wall for _, wall in times) for way, times in seconds.items()}
    return {
        "processor_seconds": {way: round(value, 3) for way, value in best.items()},
        "seconds": {way: round(value, 3) for way, value in clock.items()},
        "ns_per_score": {way: round(value / len(score) * 1e9, 2) for way, value in best.items()},
        "peak_bytes_per_score": {way: round(value, 2) for way, value in peaks.items()},
        "time_of_topk_to_ours": round(best["topk"] / best["histograms"], 2),
        "time_of_partition_to_ours": round(best["partition"] / best["histograms"], 2),
    }


def _watched(
    way: str,
    run: Callable[[], Tensor],
    seconds: dict[str, list[Seconds]],
    peaks: dict[str, float],
    size: int,
) -> Tensor:
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _kib("VmRSS")
    spent, wall = time.process_time(), time.perf_counter()
    result = run()
    seconds[way].append((time.process_time() - spent, time.perf_counter() - wall))
    peaks[way] = max(peaks.get(way, 0.0), (_kib("VmHWM") - before) * 1024 / size)
    return result


def _kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    top = study_parser(__doc__, "selection.jsonl")
    top.add_argument("--scores", type=int, default=100_000_000)
    top.add_argument("--machine", choices=["idle", "shared"], default="idle")
    return top


def run(args: argparse.Namespace) -> None:
    """Measure the cases that have no result yet."""
    keys: list[Key] = [
        {
            "case": case,
            "dtype": dtype,
            "scores": args.scores,
            "kept": KEPT,
            "threads": args.threads,
            "machine": args.machine,
        }
        for case, dtype in CASES.items()
    ]

    def compute(key: Key) -> Result:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            return fresh.submit(measure, key, args.threads).result()

    run_missing(args, keys, compute)


def summary(args: argparse.Namespace) -> None:
    """Print a table of all results."""
    heads = [f"{way} {unit}" for unit in ("ns", "bytes") for way in (*WAYS, "swap")]
    print("| scores | " + " | ".join(heads) + " |")
    print("|---|" + "---|" * len(heads))
    for cell in read_cells(args.out):
        print(_row(cell))


def _row(cell: dict[str, Any]) -> str:
    key, result = cell["key"], cell["result"]
    figures = [
        f"{result[name][way]:.1f}"
        for name in ("ns_per_score", "peak_bytes_per_score")
        for way in (*WAYS, "swap")
    ]
    title = f"{key['scores']:,} {key['dtype']}, {key['case']}, {key['threads']} threads"
    return f"| {title} | " + " | ".join(figures) + " |"


if __name__ == "__main__":
    arguments = parser().parse_args()
    {"run": run, "summary": summary}[arguments.command](arguments)
