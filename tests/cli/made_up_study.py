"""Runs of a study that take no time: figures that follow from method, budget and seed."""

from __future__ import annotations

from fastglt.errors import BudgetError, NonFiniteLossError
from fastglt.study.cells import Cell, hash_of


class Runs:
    """Stands for ``run_job``; ``jobs`` are those that were run.

    Args:
        loss: Gives the points that a job loses against dense.
    """

    def __init__(self, loss):
        self.loss, self.jobs = loss, []

    def __call__(self, job):
        self.jobs.append(job)
        settings = job.spec["settings"]
        lost = self.loss(job.label, settings["edge_sparsity"], job.seed)
        if lost is None:
            raise NonFiniteLossError("the loss exploded")
        if lost == "empty":
            raise BudgetError("a layer would be empty")
        score, tests = 0.8 - lost / 100, job.stage != "search"
        return Cell(
            stage=job.stage, label=job.label, settings_hash=hash_of(job.spec), spec=dict(job.spec),
            dataset="cora", title="Cora", model="gcn", task="node-classification",
            metric="accuracy", method=settings["method"], preset=settings["preset"],
            seed=job.seed, split_seed=job.split_seed, inductive=False,
            edge_sparsity=settings["edge_sparsity"], weight_sparsity=settings["weight_sparsity"],
            val_dense=0.8, val_ticket=score, test_dense=0.8 if tests else None,
            test_ticket=score if tests else None, macs_dense=2, macs_ticket=1, params_dense=2,
            params_ticket=1, edges_dense=2, edges_ticket=1, bytes_dense=2, bytes_ticket=1,
            seconds={"dense": 1.0, "teacher": 0.0, "search": 1.0, "retrain": 1.0, "total": 3.0},
            epochs={"dense": 1.0, "teacher": 0.0, "search": 1.0, "retrain": 1.0}, notes=[],
            provenance={},
        )  # fmt: skip


def wobble(seed):
    """A little spread, so that tests have something to go by."""
    return 0.1 * (seed % 3 - 1)
