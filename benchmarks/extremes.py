"""Tickets past the published extremes, beside their controls: where they win, and where not.

Every section is a set of cells of one backbone on one graph, and every cell one or more runs of
``fastglt compare`` in a folder of its own in ``benchmarks/results/extremes``. Finished runs are not
computed again, so this can be stopped and started at will::

    python benchmarks/extremes.py run --sections joint --cells gcn:cora --seeds 10 --workers 2
    python benchmarks/extremes.py frontier --cells gcn:cora
    python benchmarks/extremes.py summary
    python benchmarks/extremes.py versus
    python benchmarks/extremes.py markdown --sections joint

``versus`` tells our tickets from one-shot cuts, random masks and the other controls, paired over
seeds, cell by cell and over all cells of a section.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from _cells import names
from _compare import HEADER, fastglt, markdown_rows, print_tables
from fastglt.study.cells import Cell, read_cells
from fastglt.study.statistics import interval
from fastglt.study.summary import method_names

STUDY = Path(__file__).parent / "results" / "extremes"
CONTROLS = ("one-shot", "random", "reinit", "small-dense", "dense + teacher")
METHODS = ",".join(("fastglt", *CONTROLS[:-1]))  # compare adds dense + teacher itself
EDGE_METHODS = "fastglt,one-shot,random"
"""Without pruned weights there is nothing to initialise anew and nothing to make narrower."""
RULES = ("learned", "degree", "random")


class Cells(NamedTuple):
    """One backbone on one graph.

    Attributes:
        budgets: Edge and weight sparsities.
        options: Further options of ``fastglt compare``.
        rules: Edge rules, one run each; empty leaves it at one run.
    """

    budgets: tuple[tuple[float, float], ...]
    options: tuple[str, ...] = ("--hidden", "512")
    rules: tuple[str, ...] = ()


_ALONE = ("--hidden", "512", "--teacher", "none")
_VISIBLE = ("--hidden", "512", "--inductive")
_SHARES = (*_VISIBLE, "--split", "0.6,0.2")
SECTIONS: dict[str, dict[str, Cells]] = {
    # Both axes at once, about where the publication stands on one of them, or beyond.
    "joint": {
        "gcn:cora": Cells(((0.5, 0.98),)),
        "gcn:citeseer": Cells(((0.8, 0.99),)),
        "gcn:pubmed": Cells(((0.7, 0.99),)),
        "gat:cora": Cells(((0.75, 0.99),)),
        "gin:cora": Cells(((0.5, 0.98),)),
        "gin:citeseer": Cells(((0.6, 0.99),)),
        "gat:citeseer": Cells(((0.8, 0.99),)),
        "gin:pubmed": Cells(((0.7, 0.99),)),
        "gat:pubmed": Cells(((0.8, 0.99),)),
        "gcn:computers": Cells(((0.8, 0.98),)),
    },
    "single": {
        "gcn:cora": Cells(((0.6, 0.0), (0.0, 0.995))),
        "gcn:citeseer": Cells(((0.9, 0.0), (0.0, 0.997))),
        "gcn:pubmed": Cells(((0.8, 0.0), (0.0, 0.998))),
    },
    # The published extremes of GCN and GIN on one axis (the highest of all methods), and a step
    # beyond, without a teacher.
    "alone": {
        "gcn:cora": Cells(((0.36, 0.0), (0.0, 0.975)), _ALONE),
        "gcn:citeseer": Cells(((0.44, 0.0), (0.0, 0.975)), _ALONE),
        "gcn:pubmed": Cells(((0.41, 0.0), (0.0, 0.992)), _ALONE),
        "gin:cora": Cells(((0.38, 0.0), (0.0, 0.965)), _ALONE),
        "gin:citeseer": Cells(((0.46, 0.0), (0.0, 0.987)), _ALONE),
        "gin:pubmed": Cells(((0.61, 0.0), (0.0, 0.982)), _ALONE),
    },
    "inductive": {
        "gcn:pubmed": Cells(((0.5, 0.95),), _VISIBLE, RULES),
        "gcn:computers": Cells(((0.5, 0.95),), _SHARES, RULES),
        "gat:pubmed": Cells(((0.5, 0.95),), _VISIBLE, RULES),
        "gat:computers": Cells(((0.5, 0.95),), _SHARES, RULES),
        "gcn:ogbn-arxiv": Cells(((0.5, 0.95),), ("--hidden", "128", "--inductive"), RULES),
    },
}
"""Section to backbone and graph to what is run."""
LIMITS = {
    "frontier": (("joint", "weights", "edges"), ()),
    "frontier-alone": (("weights", "edges"), ("--teacher", "none")),
}
"""Folder to the axes whose limits are looked for, and further options of ``fastglt frontier``."""


def run(args: argparse.Namespace) -> None:
    """Compute what is missing, cell by cell."""
    for folder, model, dataset, cells in _chosen(args):
        for (edges, weights), rule in (
            (budget, rule) for budget in cells.budgets for rule in cells.rules or (None,)
        ):
            methods = args.methods or (METHODS if weights else EDGE_METHODS)
            if rule not in (None, "learned"):
                methods = "fastglt"  # the same masks, another rule
            fastglt(
                "compare", "--dataset", dataset, "--model", model, "--methods", methods,
                "--edge-sparsity", str(edges), "--weight-sparsity", str(weights),
                "--seeds", str(args.seeds), "--first-seed", "0", "--out", str(folder),
                "--workers", str(args.workers), "--threads", str(args.workers), *cells.options,
                *(() if rule is None else ("--edge-rule", rule)),
                *(("--max-seeds", str(args.max_seeds)) if args.max_seeds else ()),
                *(("--root", args.root) if args.root else ()),
                *(("--device", args.device) if args.device else ()),
            )  # fmt: skip


def frontier(args: argparse.Namespace) -> None:
    """Look for the highest sparsities that win, axis by axis, and print what was found.

    What is finished is not computed again, but printed.
    """
    for folder, (axes, options) in LIMITS.items():
        for cell, axis in itertools.product(args.cells or ("gcn:cora",), axes):
            model, dataset = cell.split(":")
            fastglt(
                "frontier", "--dataset", dataset, "--model", model, "--hidden", "512",
                "--axis", axis, "--search-seeds", "3", "--resolution", "2", "--max-seeds", "20",
                "--out", str(args.study / folder / f"{model}-{dataset}"),
                "--workers", str(args.workers), "--threads", str(args.workers), *options,
                *(("--root", args.root) if args.root else ()),
                *(("--device", args.device) if args.device else ()),
            )  # fmt: skip


def summary(args: argparse.Namespace) -> None:
    """Print a line for each method and cell: paired difference from dense, and its verdicts."""
    print(HEADER)
    for folder, *_ in _chosen(args):
        print_tables(folder)


def markdown(args: argparse.Namespace) -> None:
    """Print the rows of a page's tables."""
    for section in args.sections:
        chosen = list(_chosen(args, section))
        rules = any(cells.rules for *_, cells in chosen)
        ours = [f"fastglt [edge rule {rule}]" for rule in RULES] if rules else ["fastglt"]
        columns = (*ours, *CONTROLS)
        print(f"\n{section}\n\n| cell | removed | seeds | {' | '.join(columns)} |")
        print(f"|{'---|' * (3 + len(columns))}")
        for folder, *_ in chosen:
            for row in markdown_rows(folder, columns):
                print(row)


def versus(args: argparse.Namespace) -> None:
    """Print what our tickets are better by than each control, in points on test."""
    for section in args.sections:
        overall: dict[str, list[float]] = defaultdict(list)
        for folder, model, dataset, _ in _chosen(args, section):
            for budget, by_name in _by_budget(read_cells(folder)).items():
                ours = next((cells for name, cells in by_name if _is_ours(name)), {})
                for name, cells in by_name:
                    gaps = [
                        100 * (ours[seed] - cells[seed]) for seed in sorted(ours.keys() & cells)
                    ]
                    if cells is ours or len(gaps) < 2:
                        continue
                    overall[name] += gaps
                    print(f"{section:9} {model:4} {dataset:10} {budget}  - {name:28} "
                          f"{_told(gaps)}")  # fmt: skip
        for name, gaps in overall.items():
            print(f"{section:9} {'all cells':28}  - {name:28} {_told(gaps)}")


def _is_ours(name: str) -> bool:
    """Whether a method is ours, with the learned rule where there are several."""
    return name.startswith("fastglt") and ("rule" not in name or "learned" in name)


def _by_budget(
    cells: list[Cell],
) -> dict[str, list[tuple[str, dict[tuple[int, int], float]]]]:
    """Budget to methods and their test metrics by seed and split, ours first."""
    found: dict[str, dict[str, dict[tuple[int, int], float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    named = method_names(cells)
    for cell in cells:
        if cell.test_ticket is not None:
            budget = f"{cell.settings['edge_sparsity']:g}/{cell.settings['weight_sparsity']:g}"
            found[budget][named(cell)][cell.seed, cell.split_seed] = cell.test_ticket
    return {
        budget: sorted(by_name.items(), key=lambda item: not _is_ours(item[0]))
        for budget, by_name in found.items()
    }


def _told(gaps: list[float]) -> str:
    if len(gaps) < 2:
        return "-"
    found = interval(gaps)
    return f"{found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f}), {found.num} pairs"


def _chosen(
    args: argparse.Namespace, only: str | None = None
) -> Iterator[tuple[Path, str, str, Cells]]:
    for section in args.sections if only is None else (only,):
        for name, cells in SECTIONS[section].items():
            if args.cells is None or name in args.cells:
                model, dataset = name.split(":")
                yield args.study / section / f"{model}-{dataset}", model, dataset, cells


def _names_of(there_are: Iterable[str]) -> Callable[[str], list[str]]:
    """An argument that is a list with commas, of names that there are."""

    def parsed(text: str) -> list[str]:
        unknown = {*names(text)} - {*there_are}
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
        return names(text)

    return parsed


COMMANDS = {
    "run": run, "frontier": frontier, "summary": summary, "versus": versus, "markdown": markdown,
}  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    top = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    top.add_argument("command", choices=COMMANDS)
    top.add_argument("--study", type=Path, default=STUDY)
    top.add_argument("--sections", type=_names_of(SECTIONS), default=list(SECTIONS))
    cells = {cell for section in SECTIONS.values() for cell in section}
    top.add_argument("--cells", type=_names_of(cells), help="backbone:graph,...; default: all")
    top.add_argument("--methods", help="with commas between them; default: ours and its controls")
    top.add_argument("--seeds", type=int, default=10)
    top.add_argument("--max-seeds", type=int, help="go on to so many where nothing is decided")
    top.add_argument("--root", help="data folder (default: $FASTGLT_DATA, cache, download)")
    top.add_argument("--device", help="of torch; default: cpu")
    top.add_argument("--workers", type=int, default=1, help="processes, of one thread each")
    return top


if __name__ == "__main__":
    arguments = parser().parse_args()
    COMMANDS[arguments.command](arguments)
