"""The figures of a run that a ticket carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.api.macs import macs_on
from fastglt.cost import num_parameters
from fastglt.gating import accepts_keyword
from fastglt.masks import SELF_LOOP, EdgeGroups, num_removed
from fastglt.search.base import SearchResult
from fastglt.settings import Settings
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
    task: Task, data: Data, dense: Dense, retrained: Fit, out: Tensor, reads_test: bool = True
) -> dict[str, Any]:
    """Metrics of the dense model and of the ticket; ``None`` on test where there is no such split.

    Args:
        task: What is measured.
        data: The whole graph.
        dense: The dense model.
        retrained: The retraining.
        out: Predictions of the retrained model on the kept graph.
        reads_test: Whether the test split may be read.
    """
    tests = reads_test and task.has_split(data, "test")
    return {
        "metric": task.metric_name,
        "val_dense": dense.val_metric,
        "val_ticket": retrained.val_metric,
        "test_dense": task.metric(dense.out, data, "test") if tests else None,
        "test_ticket": task.metric(out, data, "test") if tests else None,
        "best_retrain_epoch": retrained.best_epoch,
    }


def cost_metrics(
    dense: nn.Module,
    model: nn.Module,
    task: Task,
    data: Data,
    kept: Data,
    weight_mask: Mapping[str, Tensor],
) -> dict[str, Any]:
    """Multiply-accumulates, parameters and edges, dense and under the ticket.

    Args:
        dense: The dense model; values do not matter.
        model: The model that the mask is of, usually the same.
        task: Calls the models.
        data: The whole graph.
        kept: The graph with the kept edges only.
        weight_mask: Kept weights by parameter name.
    """
    return {
        "macs_dense": macs_on(dense, task, data),
        "macs_ticket": macs_on(model, task, kept, weight_mask),
        "params_dense": num_parameters(dense),
        "params_ticket": num_parameters(model, weight_mask),
        "edges_dense": data.num_edges,
        "edges_ticket": kept.num_edges,
    }


def search_metrics(result: SearchResult) -> dict[str, Any]:
    """Sparsities achieved, of how many edges, and what the search method itself reports."""
    mask = result.edge_mask
    return {
        "edge_sparsity": mask.sparsity,
        "weight_sparsity": result.weight_mask.sparsity,
        "edges_prunable": int((mask.groups.index != SELF_LOOP).sum()),
        "edges_pruned": int((~mask.edges).sum()),
    } | result.metrics


def input_notes(
    model: nn.Module, data: Data, task: Task, settings: Settings, groups: EdgeGroups
) -> list[str]:
    """What of the graph or the budgets has no effect, one sentence each.

    Args:
        model: The model.
        data: The whole graph.
        task: Calls the model.
        settings: All settings.
        groups: The edge groups that can be pruned.
    """
    notes = []
    if settings.edge_sparsity == settings.weight_sparsity == 0:
        notes.append(
            "no sparsity was asked for (edge_sparsity and weight_sparsity are 0), so nothing was "
            "pruned"
        )
    if settings.edge_sparsity > 0 and num_removed(groups.num_groups, settings.edge_sparsity) == 0:
        notes.append(f"no edge was pruned: {_why_none(groups, settings.edge_sparsity)}")
    takes_weight = not task.passes_edge_weight or accepts_keyword(model, "edge_weight")
    if data.get("edge_weight") is not None and not takes_weight:
        notes.append("data.edge_weight was not used: the model's forward does not take edge_weight")
    return notes


def _why_none(groups: EdgeGroups, sparsity: float) -> str:
    if groups.num_groups == 0:
        return "the graph has no edges to prune (self-loops are always kept)"
    kind = "pairs of opposite edges" if groups.undirected else "edges"
    return f"edge_sparsity {sparsity} of {groups.num_groups} prunable {kind} is less than one"
