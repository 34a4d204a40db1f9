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
import subprocess
import sys
from pathlib import Path

from fastglt.study.cells import read_cells
from fastglt.study.plan import Plan
from fastglt.study.summary import tables

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
            _fastglt(
                "compare", "--dataset", dataset, "--model", "gcn", "--methods", ",".join(names),
                "--edge-sparsity", str(edges), "--weight-sparsity", str(weights),
                "--seeds", str(args.seeds), "--out", str(args.study),
                "--workers", str(args.workers), "--threads", str(args.workers),
                *OWN.get((dataset, names[0]), ()),
                *(("--root", args.root) if args.root else ()),
            )  # fmt: skip


def _suits(method: str, weight_sparsity: float) -> bool:
    """A narrower model is a control for a ticket of fewer weights only."""
    return method != "small-dense" or weight_sparsity > 0


def summary(args: argparse.Namespace) -> None:
    """Print a line for each method and budget: paired difference from dense, and its verdicts."""
    plan = Plan.load(args.study)
    looks = None if plan is None else plan.looks
    print(f"{'graph':9} {'edges':>5} {'weights':7}  {'method':16} {'seeds':6}  {'- dense':25}"
          f"  {'verdict':12}  like for like")  # fmt: skip
    for table in tables(read_cells(args.study), looks=looks):
        place = f"{table.title:9} {table.edge_sparsity:5.2f} {table.weight_sparsity:7.2f}"
        for row in table.rows:
            dense, like = row.versus_dense, row.versus_like
            if dense is None:
                continue
            gap = dense.test.difference
            print(f"{place}  {row.label:16} {gap.num:6}  {gap.mean:+6.2f} ({gap.low:+6.2f} to "
                  f"{gap.high:+6.2f})  {dense.verdict.value:12}  "
                  f"{'-' if like is None else like.verdict.value}")  # fmt: skip


def report(args: argparse.Namespace) -> None:
    """Write the report."""
    _fastglt("report", str(args.study), "--out", str(args.out))


def _fastglt(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "fastglt", *arguments], check=True)


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
