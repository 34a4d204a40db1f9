"""What each part of a search is worth: one part off, or another in its place.

Tickets are compared with their dense model at the joint budgets of :data:`CELLS`, under the
settings of :data:`BASE` and under one change of them at a time. The test split is not read, so
that settings can be chosen by what is seen here. Where a graph has labelled nodes that are in no
split, as those of Planetoid do, tickets are judged on them, since validation flatters what an epoch
was chosen by; elsewhere on validation. Finished cells are appended to a JSON-lines file and not
computed again::

    python benchmarks/ablation.py run --seeds 3 --cells gcn:cora,gcn:citeseer
    python benchmarks/ablation.py summary
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from torch_geometric.data import Data

from _cells import Key, Result, names, read_cells, run_missing, study_parser
from fastglt import data as datasets
from fastglt.api.evidence import find_with_evidence
from fastglt.models import build_model
from fastglt.models.config import BackboneConfig
from fastglt.search import METHOD_VERSION
from fastglt.search.presets import resolve_settings
from fastglt.study.statistics import interval
from fastglt.training.seeding import seeded
from fastglt.training.tasks import NodeClassification

CELLS = {
    "gcn:cora": (0.5, 0.98), "gcn:citeseer": (0.8, 0.99), "gcn:pubmed": (0.7, 0.99),
    "gin:cora": (0.5, 0.98), "gin:citeseer": (0.6, 0.99), "gin:pubmed": (0.7, 0.99),
    "gat:cora": (0.75, 0.99), "gat:citeseer": (0.8, 0.99), "gat:pubmed": (0.8, 0.99),
    "gcn:computers": (0.8, 0.98),
}  # fmt: skip
"""Backbone and graph to edge and weight sparsity."""
BASE: dict[str, Any] = {}
"""What differs from the library's defaults in every cell."""
VARIANTS = (
    "base", "method=one-shot", "method=random", "teacher=none", "teacher_propagation=0",
    "teacher_propagation=0.9", "teacher_decay=0", "teacher_decay=1", "teacher_weight=0.7",
    "teacher_phases=search", "teacher_phases=retrain",
    "teacher_schedule=rising", "teacher_schedule=falling",
    "teacher_temperature=2", "teacher_features=0.5", "edge_score=influence",
    "edge_score=agreement", "edge_score=unit-gate", "edge_score=degree",
    "edge_score=similarity", "edge_score=divergence+agreement", "edge_score=divergence+degree",
    "edge_values=learned",
    "allocation=live", "allocation=uniform", "allocation=global", "channel_power=0",
    "channel_power=2", "channel_cap=0.5", "weight_pattern=1:16", "weight_pattern=4x4",
    "decay_power=0", "dropout_power=0", "lr_power=0", "alpha=0.1", "swap_schedule=constant",
    "warmup_start=0.5+warmup_events=10+warmup_schedule=cubic", "interval=10+accumulation=5",
    "denoise_steps=60", "denoise_patience=5", "retrain_epochs=400", "recalibrate=true",
)  # fmt: skip
HIDDEN = 512


def all_keys(args: argparse.Namespace) -> list[Key]:
    """The cells that the arguments ask for, seeds outermost so that early stops stay balanced."""
    return [
        {
            "model": cell.split(":")[0],
            "dataset": cell.split(":")[1],
            "budget": list(CELLS[cell]),
            "variant": variant,
            "settings": BASE | _change(variant),
            "seed": seed,
            "version": METHOD_VERSION,
        }
        for seed, cell, variant in itertools.product(
            range(args.first_seed, args.first_seed + args.seeds), args.cells, args.variants
        )
    ]


def run_cell(key: Key, root: str | None, device: str = "cpu") -> Result:
    """One search, judged on nodes that are in no split where there are such."""
    dataset = datasets.load(key["dataset"], root=root, split_seed=key["seed"])
    data, spare = _with_spare_nodes(dataset.data.to(device))
    with seeded(key["seed"]):
        model = build_model(
            key["model"], data.num_features, dataset.num_classes, BackboneConfig(hidden=HIDDEN)
        )
    model = model.to(device)
    edges, weights = key["budget"]
    settings = resolve_settings(
        {**key["settings"], "edge_sparsity": edges, "weight_sparsity": weights, "seed": key["seed"]}
    )
    found = find_with_evidence(model, data, NodeClassification(), settings, reads_test=spare)
    ticket = found.ticket
    kept = {
        name: [int(mask.any(dim=1).sum()), int(mask.any(dim=0).sum())]
        for name, mask in ticket.weight_masks.items()
    }
    chosen = ("val_dense", "val_ticket", "macs_dense", "macs_ticket", "seconds", "epochs")
    judge = "test" if spare else "val"
    judged = {f"judged_{who}": ticket.metrics[f"{judge}_{who}"] for who in ("dense", "ticket")}
    return {name: ticket.metrics[name] for name in chosen} | judged | {"live": kept}


def _with_spare_nodes(data: Data) -> tuple[Data, bool]:
    """The graph with labelled nodes of no split in place of its test nodes, if there are any."""
    spare = ~(data.train_mask | data.val_mask | data.test_mask) & (data.y >= 0)
    if int(spare.sum()) < int(data.val_mask.sum()):
        return data, False
    result = copy.copy(data)
    result.test_mask = spare
    return result, True


def run(args: argparse.Namespace) -> None:
    """Compute the missing cells."""
    run_missing(args, all_keys(args), lambda key: run_cell(key, args.root, args.device), _line)


def summary(args: argparse.Namespace) -> None:
    """Print what each change changes, in the chosen cells and over all pairs of cell and seed.

    Figures are in points.

    The first row is what the base is better by than its dense model.
    """
    gaps: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for cell in read_cells(args.out):
        key, result = cell["key"], cell["result"]
        if key["version"] == METHOD_VERSION and key["settings"] == BASE | _change(key["variant"]):
            place = f"{key['model']}:{key['dataset']}"
            if place in args.cells:
                gaps[key["variant"]][place][key["seed"]] = _gap(result)
    base = gaps.pop("base", {})
    places = [place for place in CELLS if place in base]
    print(f"{'':58}" + "".join(f"{place:>14}" for place in places) + "  all")
    print(_row("base - dense", base, places, {}))
    for variant in sorted(gaps, key=_order):
        print(_row(variant, gaps[variant], places, base))


def _row(
    name: str,
    gaps: Mapping[str, Mapping[int, float]],
    places: Sequence[str],
    base: Mapping[str, Mapping[int, float]],
) -> str:
    """Means of the cells, then the mean of all pairs with its interval."""
    changes = {
        place: [
            gap - (base[place][seed] if base else 0.0)
            for seed, gap in gaps.get(place, {}).items()
            if not base or seed in base[place]
        ]
        for place in places
    }
    means = [
        f"{interval(found).mean:+14.2f}" if found else f"{'-':>14}" for found in changes.values()
    ]
    pooled = [change for found in changes.values() for change in found]
    return f"{name:58}" + "".join(means) + f"  {_told(pooled)}"


def _order(variant: str) -> int:
    return VARIANTS.index(variant) if variant in VARIANTS else len(VARIANTS)


def _gap(result: Result) -> float:
    """Ticket minus dense, in points."""
    return 100 * float(result["judged_ticket"] - result["judged_dense"])


def _told(changes: list[float]) -> str:
    if not changes:
        return "-"
    found = interval(changes)
    return f"{found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f}), {len(changes)} pairs"


def _change(variant: str) -> dict[str, Any]:
    if variant == "base":
        return {}
    changes: dict[str, Any] = {}
    for part in re.split(r"\+(?=\w+=)", variant):  # edge_score=divergence+degree is one
        name, text = part.split("=", 1)
        try:
            changes[name] = json.loads(text)
        except json.JSONDecodeError:
            changes[name] = text
    return changes


def _line(key: Key, result: Result) -> str:
    return (
        f"{key['model']} {key['dataset']:9} {key['variant']:22} seed {key['seed']}: "
        f"{_gap(result):+.2f} ({result['seconds']['total']:.0f} s)"
    )


def parser() -> argparse.ArgumentParser:
    """Command line of this program."""
    top = study_parser(__doc__, "ablation.jsonl")
    top.add_argument("--device", default="cpu", help="of torch; default: cpu")
    top.add_argument("--cells", type=names, default=list(CELLS), help="backbone:graph,...")
    top.add_argument(
        "--variants", type=names, default=list(VARIANTS), help="base,name=value,name=value+name=..."
    )
    top.add_argument("--seeds", type=int, default=3)
    top.add_argument("--first-seed", type=int, default=0)
    return top


if __name__ == "__main__":
    arguments = parser().parse_args()
    {"run": run, "summary": summary}[arguments.command](arguments)
