"""The pilot study: GCN at the published extremes of sparsity, our method beside others.

One axis is pruned at a time, by as much as the publication of FastGLT does for GCN on the three
Planetoid graphs. Every cell is one run of ``fastglt compare``; finished cells are kept in
``benchmarks/results/pilot`` and not computed again, so this can be stopped and started at will::

    python benchmarks/pilot.py run --workers 2
    python benchmarks/pilot.py summary
    python benchmarks/pilot.py report --out report.html
"""

from __future__ import annotations

import argparse
from pathlib import Path

from _compare import HEADER, fastglt, print_tables
from fastglt import search

STUDY = Path(__file__).parent / "results" / "pilot"
BUDGETS = (
    ("cora", 0.0, 0.93),
    ("citeseer", 0.0, 0.95),
    ("cora", 0.35, 0.0),
    ("pubmed", 0.0, 0.99),
    ("pubmed", 0.4, 0.0),
)
"""Graph, edge sparsity and weight sparsity; there is none for the edges of CiteSeer."""
METHODS = "fastglt,fastglt:paper,one-shot,random,reinit,small-dense,early-bird,dense,ugs"
OWN = {("pubmed", "ugs"): ("--edge-l1", "1e-6", "--weight-l1", "1e-3")}
"""What a method's source sets for a graph, where it differs from the method's defaults."""


def run(args: argparse.Namespace) -> None:
    """Compute what is missing, budget by budget."""
    for dataset, edges, weights in BUDGETS:
        if args.datasets is not None and dataset not in args.datasets.split(","):
            continue
        methods = [name for name in args.methods.split(",") if _suits(name, weights)]
        alone = [name for name in methods if (dataset, name) in OWN]
        for names in [[name for name in methods if name not in alone], *([name] for name in alone)]:
            if not names:
                continue
            fastglt(
                "compare", "--dataset", dataset, "--model", "gcn", "--methods", ",".join(names),
                "--edge-sparsity", str(edges), "--weight-sparsity", str(weights),
                "--seeds", str(args.seeds), "--out", str(args.study),
                "--workers", str(args.workers), "--threads", str(args.workers),
                *OWN.get((dataset, names[0]), ()),
                *(("--root", args.root) if args.root else ()),
            )  # fmt: skip


def _suits(method: str, weight_sparsity: float) -> bool:
    """Some methods prune edges only; a narrower model is a control for fewer weights only."""
    if weight_sparsity > 0:
        return search.METHODS[method.partition(":")[0]].prunes_weights
    return method != "small-dense"


def summary(args: argparse.Namespace) -> None:
    """Print a line for each method and budget: paired difference from dense, and its verdicts."""
    print(HEADER)
    print_tables(args.study)


def report(args: argparse.Namespace) -> None:
    """Write the report."""
    fastglt("report", str(args.study), "--out", str(args.out))


def parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    top = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    top.add_argument("command", choices=["run", "summary", "report"])
    top.add_argument("--study", type=Path, default=STUDY)
    top.add_argument("--out", type=Path, default=Path("report.html"))
    top.add_argument("--root", help="data folder (default: $FASTGLT_DATA, cache, download)")
    top.add_argument("--workers", type=int, default=1, help="processes, of one thread each")
    top.add_argument("--seeds", type=int, default=5)
    top.add_argument("--methods", default=METHODS)
    top.add_argument("--datasets", help="with commas between them; default: all")
    return top


if __name__ == "__main__":
    arguments = parser().parse_args()
    {"run": run, "summary": summary, "report": report}[arguments.command](arguments)
