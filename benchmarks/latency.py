"""What compiled tickets take for a whole graph, against the dense model, side by side.

Each cell searches a ticket at the joint budget of its backbone and graph and measures it as
``fastglt bench`` does: all ways in turn in one process, on as many threads as are told. For a GCN a
chain of CSR products written by hand is measured beside them, and of every model the size of its
exported file. Nothing else should run on the machine. On ogbn-arxiv the searches are short, or
masks are random, so that tickets have the sparsity but not the accuracy of a real one. Of
DeeperGCN, whose messages take minutes to pass edge by edge, only some ways are measured. Finished
cells are appended to a JSON-lines file and not computed again::

    python benchmarks/latency.py run --threads 2 --seeds 3
    python benchmarks/latency.py run --device cuda --out latency-cuda.jsonl
    python benchmarks/latency.py summary
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from _cells import Key, Result, names, read_cells, run_missing, study_parser
from ablation import CELLS, HIDDEN
from fastglt import data as datasets
from fastglt import scores
from fastglt.allocation import cut_weights
from fastglt.api import find
from fastglt.compile import compile_applied
from fastglt.compile.bench import bench
from fastglt.compile.compiled import Compiled
from fastglt.compile.timing import timed
from fastglt.cost import num_bytes
from fastglt.gating import prunable_weights
from fastglt.masks import EdgeGroups, num_removed, select_top
from fastglt.models import build_model
from fastglt.models.config import BackboneConfig
from fastglt.search import METHOD_VERSION
from fastglt.ticket import Ticket
from fastglt.training.tasks import NodeClassification


@dataclass(frozen=True)
class Large:
    """A cell on a large graph.

    Attributes:
        budget: Edge and weight sparsity.
        model: Options of the backbone.
        search: Options of the search, which is short; ``None`` draws masks and trains nothing.
        leave_out: Ways that are not measured.
    """

    budget: tuple[float, float]
    model: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] | None = field(default_factory=dict)
    leave_out: tuple[str, ...] = ()


LARGE = {
    "gcn:ogbn-arxiv": Large(
        (0.5, 0.9),
        {"hidden": 256, "layers": 3},
        {"dense_epochs": 5, "pretrain_epochs": 2, "denoise_steps": 9, "retrain_epochs": 5},
    ),
    "deepergcn:ogbn-arxiv": Large(
        (0.6, 0.9),
        {},
        # A search takes hours here. Random masks leave more channels alive than those of a search.
        None,
        ("dense_sparse_features", "masked"),
    ),
}
"""Backbone and graph to a budget, as in :data:`ablation.CELLS`, on graphs that take hours."""
SMALL = ("gcn:cora", "gcn:citeseer", "gcn:pubmed", "gat:cora", "gat:citeseer", "gin:cora",
         "gin:citeseer")  # fmt: skip


def all_keys(args: argparse.Namespace) -> list[Key]:
    """The cells that the arguments ask for."""
    return [
        {
            "model": cell.split(":")[0],
            "dataset": cell.split(":")[1],
            "budget": list(LARGE[cell].budget if cell in LARGE else CELLS[cell]),
            "seed": seed,
            "threads": args.threads,
            "device": args.device,
            "repeats": args.repeats,
            "version": METHOD_VERSION,
        }
        for seed in range(args.seeds)
        for cell in args.cells
    ]


def run_cell(key: Key, root: str | None) -> Result:
    """Search one ticket and measure it."""
    large = LARGE.get(f"{key['model']}:{key['dataset']}", Large((0, 0), {"hidden": HIDDEN}))
    dataset = datasets.load(key["dataset"], root=root)
    data, task = dataset.data.to(key["device"]), NodeClassification()
    torch.manual_seed(key["seed"])
    config = BackboneConfig(**large.model)
    model = build_model(key["model"], data.num_features, dataset.num_classes, config)
    model = model.to(key["device"])
    edges, weights = key["budget"]
    budget = {"edge_sparsity": edges, "weight_sparsity": weights}
    if large.search is None:
        ticket = drawn(model, data, edges, weights, key["seed"])
    else:
        ticket = find(model, data, seed=key["seed"], **budget, **large.search)
    applied, kept = ticket.apply(model, data)
    compiled = compile_applied(applied, kept, task)
    measured = bench(
        (model, data),
        (applied, kept),
        compiled,
        ticket.edge_keep,
        task,
        key["repeats"],
        large.leave_out,
    )
    return {
        **measured.to_dict(),
        "by_hand": against_hand(compiled, key["repeats"]) if key["model"] == "gcn" else None,
        "file": None if large.search is None else file_sizes(compiled, model),
        "kernels": [choice.kernel for choice in compiled.report.kernels],
        "native": compiled.report.native,
    }


def drawn(model: nn.Module, data: Data, edges: float, weights: float, seed: int) -> Ticket:
    """A ticket of random masks, its weights as they were initialised."""
    groups, generator = EdgeGroups.of(data), torch.Generator().manual_seed(seed)
    noise = torch.rand(groups.num_groups, generator=generator)
    keep = select_top(noise, groups.num_groups - num_removed(groups.num_groups, edges))
    random = scores.uniform_noise(prunable_weights(model), generator)
    mask, _ = cut_weights(random, weights, "erk")
    edge_keep = groups.to_edges(keep, True)
    return Ticket.from_masks(model, data, edge_keep=edge_keep, weight_masks=dict(mask))


def file_sizes(compiled: Compiled, model: nn.Module) -> dict[str, int]:
    """Bytes of the exported program and of the dense model's parameters."""
    with tempfile.TemporaryDirectory() as folder:
        written = compiled.export(Path(folder) / "model.pt2")
        return {"bytes": written.bytes, "dense_parameter_bytes": num_bytes(model)}


def against_hand(compiled: Compiled, repeats: int) -> dict[str, float]:
    """Medians of a compiled GCN and of the same written by hand, in turn.

    Raises:
        AssertionError: If they differ.
    """
    hand = by_hand(compiled.model, compiled.data)
    torch.testing.assert_close(hand(), compiled.predict(), rtol=1e-3, atol=1e-3)
    device = compiled.data.edge_index.device
    times = timed({"compiled": compiled.predict, "by_hand": hand}, repeats, device=device)
    return {f"{name}_ms": statistics.median(found) for name, found in times.items()}


def by_hand(model: nn.Module, data: Data) -> Callable[[], Tensor]:
    """A GCN of the compiled shapes as products of torch's CSR matrices, normalised beforehand."""
    edge_index, weight = gcn_norm(data.edge_index, num_nodes=data.num_nodes, dtype=data.x.dtype)
    shape = (data.num_nodes, data.num_nodes)
    coo = torch.sparse_coo_tensor(edge_index.flip(0), weight, shape)
    adjacency = small_indices(coo.to_sparse_csr())
    sparse = data.x.count_nonzero() < data.x.numel() / 2
    x = small_indices(data.x.to_sparse_csr()) if sparse else data.x
    steps: list[Callable[[Tensor], Tensor]] = []
    for layer in model.layers:
        if isinstance(layer, nn.Linear):
            steps.append(partial(_times, layer.weight.detach().t().contiguous()))
        elif isinstance(layer, nn.ReLU):
            steps.append(torch.relu_)
        elif hasattr(layer, "shift"):
            steps.append(partial(Tensor.add_, other=layer.shift.detach()))
        else:
            steps.append(lambda h: adjacency @ h)

    @torch.no_grad()
    def chain() -> Tensor:
        h = x
        for step in steps:
            h = step(h)
        return h

    return chain


def _times(weight: Tensor, h: Tensor) -> Tensor:
    return h @ weight


def small_indices(matrix: Tensor) -> Tensor:
    """A CSR matrix with the indices of 32 bits that the library computes with."""
    starts, columns = (part.int() for part in (matrix.crow_indices(), matrix.col_indices()))
    return torch.sparse_csr_tensor(starts, columns, matrix.values(), matrix.shape)


def run(args: argparse.Namespace) -> None:
    """Compute and store what is missing."""
    run_missing(args, all_keys(args), lambda key: run_cell(key, args.root), _line)


def summary(args: argparse.Namespace) -> None:
    """Print a line for each kind of cell, with medians over the seeds."""
    cells = [cell for cell in read_cells(args.out) if cell["key"]["version"] == METHOD_VERSION]

    def kind(cell: dict[str, Any]) -> str:
        key = cell["key"]
        return f"{key['model']} {key['dataset']}, {key['threads']} threads, {key['device']}"

    for name, group in groupby(sorted(cells, key=kind), kind):
        figures = [_figures(cell["result"]) for cell in group]
        parts = [
            shown.format(statistics.median(found))
            for label, shown in _SHOWN.items()
            if (found := [one[label] for one in figures if one[label] is not None])
        ]
        print(f"{name} ({len(figures)} seeds): {'; '.join(parts)}")


_SHOWN = {
    "dense": "{:.1f} times as fast as dense",
    "fair": "{:.1f} as dense by our kernels",
    "materialised": "{:.1f} as materialised",
    "bound": "{:.2f} of the bound",
    "by_hand": "{:.2f} of the time of the chain by hand",
    "macs": "MACs saved {:.2%}",
    "fair_macs": "{:.1%} with sparse features on both sides",
    "parameters": "parameters {:.1f} times smaller",
    "file": "file {:.1f} times smaller",
    "memory": "memory {:.2f} of dense",
    "fair_memory": "{:.2f} of dense by our kernels",
    "half": "in half precision {:.1f} times as fast as dense",
    "launched": "without a CUDA graph {:.1f}",
}


def _figures(result: Result) -> dict[str, float | None]:
    """Ratios of medians, distance from the bound, and savings."""
    variants = result["variants"]
    dense, small = variants["dense"], variants["compiled"]
    fair = variants.get("dense_sparse_features")
    bound, hand, file = result["bound_ms"], result["by_hand"], result["file"]

    def faster(name: str) -> float | None:
        return dense["median_ms"] / variants[name]["median_ms"] if name in variants else None

    return {
        "dense": faster("compiled"),
        "fair": None if fair is None else fair["median_ms"] / small["median_ms"],
        "materialised": variants["materialised"]["median_ms"] / small["median_ms"],
        "bound": None if bound is None else small["median_ms"] / bound,
        "by_hand": None if hand is None else hand["compiled_ms"] / hand["by_hand_ms"],
        "macs": 1 - small["macs"] / dense["macs"],
        "fair_macs": None if fair is None else 1 - small["macs"] / fair["macs"],
        "parameters": dense["bytes"] / small["bytes"],
        "file": None if file is None else file["dense_parameter_bytes"] / file["bytes"],
        "memory": small["peak_mb"] / dense["peak_mb"],
        "fair_memory": None if fair is None else small["peak_mb"] / fair["peak_mb"],
        "half": faster("compiled_half"),
        "launched": faster("compiled_launched"),
    }


def _line(key: Key, result: Result) -> str:
    parts = [
        _SHOWN[label].format(value)
        for label, value in _figures(result).items()
        if value is not None
    ]
    return f"{key['model']} {key['dataset']} {key['seed']}: {'; '.join(parts)}"


def parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    top = study_parser(__doc__ or "", "latency.jsonl")
    top.add_argument("--cells", type=names, default=list(SMALL), help="backbone:graph,...")
    top.add_argument("--repeats", type=int, default=20, help="timed calls of each way")
    top.add_argument("--seeds", type=int, default=1, help="tickets of each cell")
    top.add_argument("--device", default="cpu", help="where to compute; default: cpu")
    return top


if __name__ == "__main__":
    arguments = parser().parse_args()
    {"run": run, "summary": summary}[arguments.command](arguments)
