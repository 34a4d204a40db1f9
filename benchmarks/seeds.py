"""What ten seeds cost at once: in processes, or batched into one model.

``find_seeds`` in as many processes as there are cores, against the same searches one after the
other with all threads, in turns. And, without a search around it, a training epoch of a two-layer
GCN with the weights of ten seeds in batched tensors, against ten epochs of one: what vectorising
the seeds could win on this machine::

    python benchmarks/seeds.py run --root DATA --threads 2
    python benchmarks/seeds.py summary

Finished repetitions are appended to a JSON-lines file and not computed again. Run nothing else at
the same time.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import GCN

import fastglt
from _cells import Key, Result, names, read_cells, run_missing, study_parser
from fastglt import data as datasets
from fastglt._memory import keep_memory
from fastglt.search import METHOD_VERSION
from fastglt.training.dropout import dropout_factor
from fastglt.training.known_graph import KnownGraph
from fastglt.training.product import Kind, Product

WARM, EPOCHS = 3, 20
BUDGET = {"edge_sparsity": 0.5, "weight_sparsity": 0.98}


def all_keys(args: argparse.Namespace) -> list[Key]:
    """The cells that the arguments ask for, one a repetition."""
    return [
        {
            "dataset": dataset,
            "hidden": int(hidden),
            "seeds": args.seeds,
            "threads": args.threads,
            "repetition": repetition,
            "version": METHOD_VERSION,
        }
        for repetition, dataset, hidden in itertools.product(
            range(args.repetitions), args.datasets, args.hidden
        )
    ]


def run_cell(key: Key, root: str | None) -> Result:
    """Seconds of the searches in turn and at once, and of an epoch of one seed and of all."""
    dataset = datasets.load(key["dataset"], root=root)
    data, width = dataset.data, key["hidden"]

    def build() -> nn.Module:
        return GCN(data.num_features, width, 2, dataset.num_classes, dropout=0.5)

    find = functools.partial(fastglt.find_seeds, build, data, range(key["seeds"]), **BUDGET)
    ways = {"in_turn": functools.partial(find, workers=1), "at_once": find}
    order = list(ways) if key["repetition"] % 2 else list(reversed(ways))
    seconds = {name: _seconds(ways[name]) for name in order}
    for count in (1, key["seeds"]):
        seconds[f"epoch_of_{count}"] = epoch_seconds(data, width, dataset.num_classes, count)
    return seconds


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def epoch_seconds(data: Data, width: int, num_classes: int, seeds: int) -> float:
    """Median seconds of a full-batch training step of ``seeds`` GCNs whose weights are batched."""
    product = KnownGraph(data).product(Kind("gcn", torch.float32, True, add_self_loops=True))
    features = Product.of_csr(data.x.to_sparse_csr())
    shapes = (seeds, data.num_features, width), (seeds, width, num_classes)
    first, second = (nn.Parameter(torch.randn(shape).mul_(0.05)) for shape in shapes)
    optimizer = torch.optim.Adam([first, second], lr=0.01, weight_decay=5e-4, fused=True)
    train = data.train_mask.nonzero().view(-1)
    target = data.y[train].repeat(seeds)

    def batched(x: torch.Tensor) -> torch.Tensor:
        return x.view(len(x), seeds, -1).transpose(0, 1)

    def flat(x: torch.Tensor) -> torch.Tensor:
        return x.transpose(0, 1).reshape(x.size(1), -1)

    def step() -> None:
        hidden = batched(product(features(flat(first)))).relu()
        hidden = hidden * dropout_factor(hidden.shape, 0.5, hidden)
        out = batched(product(flat(torch.bmm(hidden, second))))
        loss = F.cross_entropy(out[:, train].flatten(0, 1), target) * seeds
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(WARM):
        step()
    return statistics.median(_seconds(step) for _ in range(EPOCHS))


def run(args: argparse.Namespace) -> None:
    """Compute the missing repetitions."""
    keep_memory()
    run_missing(args, all_keys(args), lambda key: run_cell(key, args.root))


def summary(args: argparse.Namespace) -> None:
    """Print a line each graph and width: ten at once against ten in turn, medians."""
    groups: dict[tuple[str, int, int], list[Result]] = defaultdict(list)
    for cell in read_cells(args.out):
        key = cell["key"]
        groups[key["dataset"], key["hidden"], key["seeds"]].append(cell["result"])
    print(f"{'dataset':9} hidden seeds  n  in turn s  processes / in turn  batched epoch / in turn")
    for (dataset, hidden, seeds), results in sorted(groups.items()):
        ratios = (
            (
                result["in_turn"],
                result["at_once"] / result["in_turn"],
                result[f"epoch_of_{seeds}"] / (seeds * result["epoch_of_1"]),
            )
            for result in results
        )
        turn, processes, batched = map(statistics.median, zip(*ratios, strict=True))
        print(
            f"{dataset:9} {hidden:6} {seeds:5} {len(results):2}  {turn:9.1f}  {processes:19.2f}  "
            f"{batched:23.2f}"
        )


def parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    top = study_parser(__doc__, "seeds.jsonl")
    top.add_argument("--datasets", type=names, default=["cora"])
    top.add_argument("--hidden", type=names, default=["16", "64", "512"])
    top.add_argument("--seeds", type=int, default=10)
    top.add_argument("--repetitions", type=int, default=3)
    return top


if __name__ == "__main__":
    arguments = parser().parse_args()
    {"run": run, "summary": summary}[arguments.command](arguments)
