"""What a dense model still knows on half of the edges, by what these are scored by.

A model is trained on the whole graph, in mini-batches where it is large. Then the edges are scored
as the one-shot cut does, exactly on the whole graph, and the model's validation accuracy on the
best half is taken, without training it again: a choice among scores that takes no search. Finished
cells are appended to a JSON-lines file and not computed again::

    python benchmarks/edge_scores.py run --threads 2
    python benchmarks/edge_scores.py summary
"""

from __future__ import annotations

import argparse

import torch
from torch import nn
from torch_geometric.data import Data

from _cells import Key, Result, names, read_cells, run_missing, study_parser
from fastglt import Callback
from fastglt import data as datasets
from fastglt.api import find
from fastglt.gating import keep_edges
from fastglt.masks import EdgeGroups
from fastglt.models import build_model
from fastglt.models.config import BackboneConfig
from fastglt.search import METHOD_VERSION
from fastglt.search.base import SearchContext
from fastglt.search.edge_scores import Graph, edge_scores
from fastglt.settings import Settings
from fastglt.training.tasks import NodeClassification
from fastglt.training.teacher import Objective, Teacher
from minibatch import ARXIV, RUNS

_ARXIV = RUNS["arxiv-neighbor"].settings
DENSE = {
    "ogbn-arxiv": {
        name: _ARXIV[name] for name in ("sampler", "fanout", "batch_size", "weight_decay")
    }
    | {"retrain_epochs": _ARXIV["dense_epochs"]}
}
"""How the dense model is trained; elsewhere by the defaults."""
WIDTHS = {"ogbn-arxiv": ARXIV}
SCORES = ("random", "divergence", "agreement", "degree", "divergence+degree", "agreement+degree",
          "divergence+agreement+degree")  # fmt: skip
SPARSITY = 0.5


def trained(name: str, seed: int, root: str | None) -> tuple[nn.Module, Data]:
    """A dense model and its graph."""
    dataset = datasets.load(name, root=root)
    torch.manual_seed(seed)
    config = BackboneConfig(**WIDTHS.get(name, {}))
    model = build_model("gcn", dataset.data.num_features, dataset.num_classes, config)
    # Retraining is what leaves its weights in the ticket: here that of all of them.
    settings = {"method": "dense", "teacher": "none", "dense_epochs": 1} | DENSE.get(name, {})
    ticket = find(model, dataset.data, seed=seed, **settings)
    model, _ = ticket.apply(model, dataset.data)
    return model.eval(), NodeClassification().prepare(dataset.data)


def run_cell(key: Key, root: str | None) -> Result:
    """Train a model, and look at it on the best edges by every score."""
    return looked_at(key, *trained(key["dataset"], key["seed"], root))


@torch.no_grad()
def looked_at(key: Key, model: nn.Module, data: Data) -> Result:
    """A trained model's validation accuracy on the best edges by every score."""
    task, groups = NodeClassification(), EdgeGroups.of(data)
    encoded = task.encode(model, data)
    reference = Objective(task, Teacher(encoded, model=model))
    settings = Settings(edge_sparsity=key["sparsity"], seed=key["seed"])
    noise = torch.Generator().manual_seed(key["seed"])
    context = SearchContext(
        model, data, groups, reference, settings, True, noise, Callback(), reference=reference
    )
    graph = Graph(context, reference, torch.ones(groups.num_groups, dtype=torch.bool), None)
    val, isolated = {}, {}
    for name in key["scores"]:
        # Ties are broken at random, as long as scores differ by more than that.
        ties = torch.rand(groups.num_groups, generator=noise)
        score = ties if name == "random" else edge_scores(name, graph).double() + 1e-9 * ties
        keep = torch.zeros(groups.num_groups, dtype=torch.bool)
        keep[score.topk(round((1 - key["sparsity"]) * groups.num_groups)).indices] = True
        kept = keep_edges(data, groups.to_edges(keep, True))
        val[name] = task.metric(task.encode(model, kept), data, "val")
        degree = torch.bincount(kept.edge_index[1], minlength=data.num_nodes)
        isolated[name] = int((degree == 0).sum())
    return {"dense": task.metric(encoded, data, "val"), "val": val, "isolated": isolated}


def run(args: argparse.Namespace) -> None:
    """Compute and store what is missing."""
    keys = [
        {
            "dataset": dataset,
            "seed": seed,
            "sparsity": SPARSITY,
            "scores": list(SCORES),
            "version": METHOD_VERSION,
        }
        for dataset in args.datasets
        for seed in range(args.seeds)
    ]
    run_missing(args, keys, lambda key: run_cell(key, args.root))


def summary(args: argparse.Namespace) -> None:
    """Print a table for each cell."""
    for cell in read_cells(args.out):
        key, result = cell["key"], cell["result"]
        print(f"{key['dataset']} seed {key['seed']}: dense {result['dense']:.4f}; on the best "
              f"{1 - key['sparsity']:.0%} of the edges, and nodes without any:")  # fmt: skip
        for name, value in sorted(result["val"].items(), key=lambda item: item[1]):
            print(f"  {name:28s} {value:.4f} {result['isolated'][name]:7,d}")


def parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    top = study_parser(__doc__ or "", "edge_scores.jsonl")
    top.add_argument("--datasets", type=names, default=["ogbn-arxiv"])
    top.add_argument("--seeds", type=int, default=1)
    return top


if __name__ == "__main__":
    arguments = parser().parse_args()
    {"run": run, "summary": summary}[arguments.command](arguments)
