"""A plan for ogbn-papers100M: memory, passes and communication, from constants measured here.

Sizes are computed; times are those that ``results/selection.jsonl`` and ``results/scale.jsonl``
hold for an edge, multiplied, and are of one processor core. Nothing is measured by this program::

    python benchmarks/papers100m.py --ranks 8 --gbit 25
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from _cells import RESULTS, read_cells

NODES = 111_059_956
EDGES = 1_615_685_872
FEATURES = 128
CLASSES = 172
LABELLED = 1_546_782
HIDDEN = 256
LAYERS = 3
DIGITS = 1 << 16
GIB = 2**30
Row = tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """How the work is spread.

    Attributes:
        ranks: Number of processes, each with a slice of the scores and masks.
        machines: Number of machines, each with one copy of graph and features.
        gbit: Network bandwidth of a rank, 10^9 bits a second.
        steps: Mini-batch steps between two denoising events.
    """

    ranks: int
    machines: int
    gbit: float
    steps: int

    def seconds(self, sent: float) -> float:
        """Of sending some bytes."""
        return sent * 8 / (self.gbit * 1e9)


def num_weights() -> int:
    """Of a GCN."""
    widths = [FEATURES, *[HIDDEN] * (LAYERS - 1), CLASSES]
    return sum(a * b + b for a, b in pairwise(widths))


def memory(plan: Plan, working: float | None) -> list[Row]:
    """Gibibytes by part: one copy, and the part of a rank where the ranks share it out."""
    parts = [
        ("features, float32, mapped from disk", 4.0 * NODES * FEATURES, "machine"),
        ("edges, int64, mapped from disk", 16.0 * EDGES, "machine"),
        ("labels int64 and three masks", 11.0 * NODES, "machine"),
        ("sampler: pointers int64, ids int32 twice, strata", 16.0 * NODES + 9.0 * EDGES, ""),
        ("edge groups: index and two ends, int32", 12.0 * EDGES, "rank"),
        ("edge scores to drop and to grow by, float32", 8.0 * EDGES, "rank"),
        ("edge mask, a byte each", 1.0 * EDGES, "rank"),
        ("the same as bits, in messages and checkpoints", EDGES / 8, "rank"),
        ("weights, gradients, moments, masks, rewind", 21.0 * num_weights(), "all"),
    ]
    if working is not None:
        parts.append(("selection, result included, as measured", working * EDGES, "rank"))
    return [(name, _gib(size), _gib(_share(size, kind, plan))) for name, size, kind in parts]


def _share(size: float, kind: str, plan: Plan) -> float:
    """Of one rank, when the ranks of a machine map the same files."""
    if kind == "rank":
        return size / plan.ranks
    return size if kind == "all" else size * plan.machines / plan.ranks


def passes(selection: dict[str, Any] | None) -> list[Row]:
    """Passes over a rank's edges in a denoising event."""
    rows: list[Row] = [
        ("degrees of the kept graph", "1", "ends and mask", "9"),
        ("score to regrow by: gradient and degrees", "1", "gradients, ends", "16"),
        ("drop: two histograms, then the mask", "3", "score and mask", "15"),
        ("regrow: the same among the pruned", "3", "score and mask", "15"),
    ]
    if selection is not None:
        seconds = selection["ns_per_score"]["swap"] * 1e-9 * EDGES
        rows.append(("both selections, all edges on one core, as measured", _seconds(seconds)))
    return rows


def communication(plan: Plan) -> list[Row]:
    """What a rank sends for one denoising event, and for the training steps before it."""
    others = (plan.ranks - 1) / plan.ranks
    sent = [
        ("edge gradients, reduced to the slice of each rank", 4.0 * EDGES * others),
        ("or else summed up for every rank", 8.0 * EDGES * others),
        ("histograms: two selections of two passes", 2 * 2 * 8.0 * DIGITS * 2 * others),
        ("ties: a number of each rank and selection", 2 * 8.0 * plan.ranks),
        ("mask, gathered as bits", EDGES / 8 * others),
        ("digest of the mask, compared", 32.0 * plan.ranks),
        (
            f"gradients of weights, {plan.steps} steps",
            4.0 * num_weights() * 2 * others * plan.steps,
        ),
    ]
    return [(name, _bytes(size), _seconds(plan.seconds(size))) for name, size in sent]


def constants() -> tuple[dict[str, Any] | None, list[Row]]:
    """The selection that was measured with the most scores, and all constants in words."""
    cells = [
        cell for cell in read_cells(RESULTS / "selection.jsonl") if cell["key"]["case"] == "normal"
    ]
    best = max(cells, key=lambda cell: cell["key"]["scores"], default=None)
    rows: list[Row] = []
    if best is not None:
        result = best["result"]
        for way in ("histograms", "swap"):
            rows.append(
                (
                    f"{way}, {best['key']['scores']:,} float32 scores",
                    f"{result['ns_per_score'][way]:.1f} ns",
                    f"{result['peak_bytes_per_score'][way]:.1f} bytes a score",
                )
            )
    for cell in read_cells(RESULTS / "scale.jsonl"):
        result = cell["result"]
        edges = result["directed_edges"]
        work = {**result["seconds"], **result["event_seconds"]}
        for name, spent in work.items():
            title = f"{name}, {edges:,} directed edges, whole graph"
            rows.append((title, f"{spent['processor'] / edges * 1e9:.0f} ns an edge"))
    return None if best is None else best["result"], rows


def table(title: str, heads: Row, rows: Iterable[Row]) -> None:
    """Print rows in columns."""
    lines = [heads, *rows]
    width = max(len(line[0]) for line in lines)
    print(title)
    for name, *figures in lines:
        print("  " + name.ljust(width) + "".join(f"  {figure:>14}" for figure in figures))
    print()


def _gib(size: float) -> str:
    if size < GIB / 100:
        return f"{size / 2**20:.1f} MiB"
    return f"{size / GIB:.2f} GiB" if size < 10 * GIB else f"{size / GIB:.1f} GiB"


def _bytes(size: float) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:.0f} B"


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value >= 0.1 else f"{value * 1000:.1f} ms"


def parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    top = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    top.add_argument("--ranks", type=int, default=8)
    top.add_argument("--machines", type=int, default=1)
    top.add_argument("--gbit", type=float, default=25.0, help="bandwidth of a rank, 10^9 bits/s")
    top.add_argument("--steps", type=int, default=1179, help="mini-batch steps between two events")
    return top


def main(args: argparse.Namespace) -> None:
    """Print the plan."""
    plan = Plan(args.ranks, args.machines, args.gbit, args.steps)
    selection, measured = constants()
    working = None if selection is None else selection["peak_bytes_per_score"]["swap"]
    print(f"{NODES:,} nodes, {EDGES:,} directed edges, {LABELLED:,} labelled nodes")
    print(f"GCN, {LAYERS} layers of {HIDDEN} channels: {num_weights():,} weights")
    print(f"{plan.ranks} ranks on {plan.machines} machine(s)\n")
    table("memory", ("", "one copy", "shared, a rank"), memory(plan, working))
    table("passes of an event", ("", "passes", "over", "bytes an edge"), passes(selection))
    table("sent by a rank", ("", "bytes", "seconds"), communication(plan))
    table("measured constants", ("",), measured)


if __name__ == "__main__":
    main(parser().parse_args())
