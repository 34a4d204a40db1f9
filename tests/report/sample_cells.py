"""Made-up cells of a study, with everything that a report shows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from fastglt.settings import Settings
from fastglt.study.cells import Cell, hash_of

# Mean loss against dense in points, share of the weights and edges that counts, search seconds.
METHODS: dict[str, tuple[float, float]] = {
    "fastglt": (0.1, 4.1),
    "one-shot": (0.6, 2.2),
    "ugs": (1.4, 61.0),
    "random": (4.5, 0.0),
    "reinit": (0.9, 4.0),
    "small-dense": (2.1, 0.0),
    "dense + teacher": (-0.8, 0.0),
}
CLASSES = 7
STEEPNESS = {0.9: 0.4, 0.95: 1.0, 0.98: 2.2}


def cell(
    label: str = "fastglt",
    *,
    seed: int = 0,
    edge_sparsity: float = 0.3,
    weight_sparsity: float = 0.95,
    loss: float | None = None,
    stage: str = "compare",
    details: bool = True,
    **changes: Any,
) -> Cell:
    """One cell.

    Args:
        label: A key of METHODS, or any other name.
        seed: Its seed.
        edge_sparsity: As asked for.
        weight_sparsity: As asked for.
        loss: Points lost against dense; ``None`` takes that of the method.
        stage: Of the cell.
        details: Whether it has analysis and history.
        changes: Other fields of the cell.
    """
    rng = random.Random(f"{label} {seed} {edge_sparsity} {weight_sparsity}")
    shared = random.Random(seed)
    usual, seconds = METHODS.get(label, (0.3, 3.0))
    steepness = STEEPNESS.get(weight_sparsity, 1.0)
    lost = (usual * steepness if loss is None else loss) + rng.gauss(0, 0.3)
    dense = 0.815 + shared.gauss(0, 0.006)
    method = "dense" if label == "dense + teacher" else label
    is_full = method in ("dense",)
    settings = Settings(
        method=method,
        edge_sparsity=edge_sparsity,
        weight_sparsity=weight_sparsity,
        teacher="none" if label == "ugs" else "dense",
    ).model_dump(mode="json", exclude={"seed"})
    spec = {
        "dataset": changes.get("dataset", "cora"),
        "split": "public",
        "model_config": {"hidden": 512, "layers": 2, "dropout": 0.5},
        "task": {"name": "node-classification", "metric": "accuracy"},
        "settings": settings,
    }
    kept = 1.0 if is_full else 1 - weight_sparsity
    edges = 1.0 if is_full or method == "small-dense" else 1 - edge_sparsity
    is_search = stage == "search"
    fields: dict[str, Any] = {
        "stage": stage,
        "label": label,
        "settings_hash": "",
        "spec": spec,
        "dataset": "cora",
        "title": "Cora",
        "model": "gcn",
        "task": "node-classification",
        "metric": "accuracy",
        "method": method,
        "preset": "default",
        "seed": seed,
        "split_seed": 0,
        "inductive": False,
        "edge_sparsity": edge_sparsity,
        "weight_sparsity": weight_sparsity,
        "val_dense": dense - 0.01,
        "val_ticket": dense - 0.01 - lost / 100,
        "test_dense": None if is_search else dense,
        "test_ticket": None if is_search else dense - lost / 100,
        "macs_dense": 2_010_000_000,
        "macs_ticket": int(2_010_000_000 * kept * (0.5 + edges / 2)),
        "params_dense": 737_792,
        "params_ticket": int(737_792 * kept),
        "edges_dense": 10_556,
        "edges_ticket": int(10_556 * edges),
        "bytes_dense": 3_120_000,
        "bytes_ticket": int(3_120_000 * (0.9 * kept + 0.1 * edges)),
        "seconds": {
            "dense": 4.7 + shared.random(),
            "teacher": 0.0,
            "search": seconds * (1 + 0.1 * rng.random()),
            "retrain": 4.8,
            "total": 16.0,
        },
        "epochs": {
            "dense": 200.0,
            "teacher": 0.0,
            "search": 70.0 if seconds else 0.0,
            "retrain": 187.0,
        },
        "notes": ["small-dense keeps all edges"] if method == "small-dense" else [],
        "history": _history(rng) if details and label in ("fastglt", "reinit") else [],
        "analysis": _analysis(rng, kept, edges, lost) if details else {},
        "provenance": {
            "fastglt": "0.1.0",
            "commit": "8e78a9136367" if seed < 5 else "90fc11aa52b0",
            "torch": "2.13.0",
            "processor": "Example CPU",
            "threads": 2,
        },
    } | changes
    fields["settings_hash"] = hash_of(fields["spec"])
    return Cell.model_validate({**fields, "schema": 1})


def study(
    labels: Sequence[str] = tuple(METHODS),
    *,
    seeds: int = 10,
    budgets: Sequence[tuple[float, float]] = ((0.3, 0.95),),
    **changes: Any,
) -> list[Cell]:
    """Cells of several methods, seeds and budgets."""
    return [
        cell(label, seed=seed, edge_sparsity=edges, weight_sparsity=weights, **changes)
        for edges, weights in budgets
        for label in labels
        for seed in range(seeds)
    ]


def frontier_study(seeds: int = 3, *, details: bool = True) -> list[Cell]:
    """A search over weight sparsities and its confirmation by other seeds."""
    steps = {0.9: 0.1, 0.95: 0.2, 0.98: 0.4, 0.99: 0.9, 0.995: 2.0}
    cells = [
        cell(
            seed=seed,
            edge_sparsity=0.0,
            weight_sparsity=step,
            loss=loss,
            stage="search",
            details=details,
        )
        for step, loss in steps.items()
        for seed in range(seeds)
    ]
    return cells + [
        cell(
            seed=seed,
            edge_sparsity=0.0,
            weight_sparsity=0.98,
            loss=0.1,
            stage="confirm",
            details=details,
        )
        for seed in range(100, 110)
    ]


def _history(rng: random.Random) -> list[dict[str, Any]]:
    return [
        {
            "step": step,
            "share": 0.1 * (1 - step / 60),
            "edges_swapped": int(370 * (1 - step / 60)),
            "weights_swapped": int(3600 * (1 - step / 60)),
            "edge_sparsity": 0.3,
            "weight_sparsity": 0.95,
            "edge_overlap": 1 - 0.003 * step,
            "weight_overlap": 1 - 0.006 * step,
            "metric": 0.7 + 0.0015 * step + 0.004 * rng.random(),
        }
        for step in range(5, 60, 5)
    ]


def _analysis(rng: random.Random, kept: float, edges: float, lost: float) -> dict[str, Any]:
    def group(name: str, nodes: int, level: float) -> dict[str, Any]:
        dense = min(1.0, level + 0.01 * rng.random())
        return {
            "name": name,
            "nodes": nodes,
            "dense": dense,
            "ticket": min(1.0, dense + rng.gauss(-lost / 100, 0.015)),
        }

    degrees = ("0", "1", "2", "3-4", "5-8", "9-16", "17-32", "33-64", "65-128", "129-256")
    before = (0, 485, 583, 942, 541, 120, 25, 9, 2, 1)
    after = tuple(int(number * edges) for number in before)
    after = (2708 - sum(after), *after[1:])
    return {
        "graph": {
            "num_nodes": 2708,
            "before": {
                "edges": 10556,
                "isolated": 0,
                "components": 78,
                "largest_component": 2485,
                "homophily": 0.81,
            },
            "after": {
                "edges": int(10556 * edges),
                "isolated": after[0],
                "components": 78 + after[0],
                "largest_component": int(2485 * edges),
                "homophily": 0.81 + 0.1 * (1 - edges),
            },
            "degrees": [
                {"name": name, "before": old, "after": new}
                for name, old, new in zip(degrees, before, after, strict=True)
            ],
        },
        "layers": [
            {"name": f"convs.{layer}.lin.weight", "shape": shape, "kept": round(kept * total),
             "total": total}
            for layer, shape, total in ((0, [512, 1433], 733_696), (1, [7, 512], 3_584))
        ],
        "groups": {
            "class": [
                group(str(each), 64 + 37 * each, 0.72 + 0.03 * each) for each in range(CLASSES)
            ],
            "degree": [
                group(name, 20 + 10 * place, 0.7 + 0.03 * place)
                for place, name in enumerate(degrees[1:7])
            ],
            "homophily": [
                group(f"{0.2 * step:.1f}-{0.2 * (step + 1):.1f}", 40 + 90 * step, 0.2 + 0.19 * step)
                for step in range(5)
            ],
        },
        "agreement": 0.95 - lost / 100,
        "calibration": {"dense": 0.05, "ticket": 0.062},
        "neighbourhood": _neighbourhood(rng, edges),
    }  # fmt: skip


def _neighbourhood(rng: random.Random, edges: float) -> dict[str, Any]:
    pairs = [(0, place) for place in range(1, 7)]
    pairs += [(1 + place % 6, place) for place in range(7, 24)]
    pairs += [(1, 2), (3, 9), (7, 13), (5, 17), (4, 4)]
    return {
        "middle": 17,
        "nodes": [{"id": 17 + place, "class": rng.randrange(CLASSES)} for place in range(24)],
        "edges": [[left, right, rng.random() < edges] for left, right in pairs],
    }
