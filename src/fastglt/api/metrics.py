"""The figures of a run that a ticket carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.api.macs import macs_on
from fastglt.cost import num_parameters
from fastglt.search.base import SearchResult
from fastglt.training.loop import Fit
from fastglt.training.task import Task


@dataclass(frozen=True)
class Dense:
    """The dense model that everything is compared with.

    Attributes:
        model: The model.
        encoded: What it encodes of the whole graph, see :meth:`fastglt.Task.encode`.
        out: Its predictions on the whole graph.
        val_metric: Its validation metric.
        epochs: Epochs that it was trained for.
    """

    model: nn.Module
    encoded: Tensor
    out: Tensor
    val_metric: float
    epochs: int


def accuracy_metrics(
    task: Task, data: Data, dense: Dense, retrained: Fit, out: Tensor
) -> dict[str, Any]:
    """Metrics of the dense model and of the ticket; ``None`` on test where there is no such split.

    Args:
        task: What is measured.
        data: The whole graph.
        dense: The dense model.
        retrained: The retraining.
        out: Predictions of the retrained model on the kept graph.
    """
    tests = task.has_split(data, "test")
    return {
        "metric": task.metric_name,
        "val_dense": dense.val_metric,
        "val_ticket": retrained.val_metric,
        "test_dense": task.metric(dense.out, data, "test") if tests else None,
        "test_ticket": task.metric(out, data, "test") if tests else None,
        "best_retrain_epoch": retrained.best_epoch,
    }


def cost_metrics(
    model: nn.Module, task: Task, data: Data, kept: Data, weight_mask: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Multiply-accumulates, parameters and edges, dense and under the ticket.

    Args:
        model: The model; its values do not matter.
        task: Calls the model.
        data: The whole graph.
        kept: The graph with the kept edges only.
        weight_mask: Kept weights by parameter name.
    """
    return {
        "macs_dense": macs_on(model, task, data),
        "macs_ticket": macs_on(model, task, kept, weight_mask),
        "params_dense": num_parameters(model),
        "params_ticket": num_parameters(model, weight_mask),
        "edges_dense": data.num_edges,
        "edges_ticket": kept.num_edges,
    }


def search_metrics(result: SearchResult) -> dict[str, Any]:
    """Sparsities achieved, and what the search method itself reports."""
    return {
        "edge_sparsity": result.edge_mask.sparsity,
        "weight_sparsity": result.weight_mask.sparsity,
    } | result.metrics
