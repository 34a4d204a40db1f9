"""Cells that nothing was run for, and jobs that make them; importable by worker processes."""

from __future__ import annotations

import os
from typing import Any

import torch

from fastglt.errors import FastGLTError
from fastglt.settings import Settings
from fastglt.study.cells import Cell, hash_of
from fastglt.study.jobs import Job

FAILING, DYING, NOT_FINITE = "failing", "dying", "not finite"


def spec(method: str = "fastglt", **settings: Any) -> dict[str, Any]:
    """What was asked for."""
    chosen = Settings(method=method, **settings).model_dump(mode="json", exclude={"seed"})
    return {
        "dataset": {"name": "cora"},
        "split": {"kind": None, "seed": None},
        "model_config": {"name": "gcn"},
        "task": {},
        "settings": chosen,
    }


def cell(
    method: str = "fastglt",
    seed: int = 0,
    *,
    label: str | None = None,
    dense: float | None = 0.8,
    ticket: float | None = 0.8,
    seconds: float = 1.0,
    settings: dict[str, Any] | None = None,
    **changes: Any,
) -> Cell:
    """One cell; ``seconds`` are those of the search, beside one of the dense run."""
    asked = changes.get("spec") or spec(method, **(settings or {}))
    fields: dict[str, Any] = {
        "stage": "compare", "label": label or method, "settings_hash": hash_of(asked),
        "spec": asked, "dataset": "cora", "title": "Cora", "model": "gcn",
        "task": "node-classification", "metric": "accuracy", "method": method,
        "preset": "default", "seed": seed, "split_seed": 0, "inductive": False,
        "edge_sparsity": asked["settings"]["edge_sparsity"],
        "weight_sparsity": asked["settings"]["weight_sparsity"],
        "val_dense": 0.7, "val_ticket": 0.7, "test_dense": dense, "test_ticket": ticket,
        "macs_dense": 100, "macs_ticket": 50, "params_dense": 10, "params_ticket": 5,
        "edges_dense": 20, "edges_ticket": 10, "bytes_dense": 80, "bytes_ticket": 40,
        "seconds": {"dense": 1.0, "teacher": 0.0, "search": seconds, "retrain": 1.0, "total": 3.0},
        "epochs": {"dense": 10.0, "teacher": 0.0, "search": 5.0, "retrain": 10.0},
        "notes": [], "provenance": {},
    }  # fmt: skip
    return Cell.model_validate(fields | changes)


def job(label: str = "fastglt", seed: int = 0, **options: Any) -> Job:
    """A job that ``run`` makes a cell for."""
    return Job("compare", label, spec() | {"label": label}, seed, 0, options)


def run(job: Job) -> Cell:
    """A cell whose metric depends on the seed and on floating-point sums of torch."""
    if job.label == FAILING:
        raise FastGLTError("no luck")
    if job.label == DYING:
        os._exit(3)
    generator = torch.Generator().manual_seed(job.seed)
    value = float(torch.rand(300, 300, generator=generator).mm(torch.ones(300, 1)).std()) / 100
    if job.label == NOT_FINITE:
        value = float("nan")
    return cell(
        seed=job.seed,
        label=job.label,
        ticket=value,
        settings_hash=hash_of(job.spec),
        spec=dict(job.spec),
        provenance={"threads": torch.get_num_threads(), "process": os.getpid()},
    )
