"""Which of the edges that a graph has gained since the search are kept.

A rule is a small record in the ticket: ``{"name": "keep"}`` keeps all of them, ``{"name": "degree",
"threshold": t}`` those with ``(d_u * d_v)^-0.5 >= t``, where the degree of a node is its number of
neighbours in the whole new graph. Direction, duplicates and self-loops do not count, so that both
directions of an edge are treated alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fastglt.errors import InputError
from fastglt.masks import EdgeGroups, num_removed
from fastglt.ticket import document

if TYPE_CHECKING:
    from torch import Tensor

KEEP: dict[str, Any] = {"name": "keep"}
"""The rule that keeps every new edge."""


def degree_rule(edge_index: Tensor, num_nodes: int, edge_sparsity: float) -> dict[str, Any]:
    """The degree rule that would remove a given share of a graph's edge groups.

    Edges between hubs are removed first. Groups of equal score at the threshold are all kept, so
    that the share removed is at most the one asked for.

    Args:
        edge_index: The searched graph ``[2, num_edges]``, int32 or int64.
        num_nodes: Its number of nodes.
        edge_sparsity: The share, in ``[0, 1)``.

    Returns:
        dict[str, Any]: ``{"name": "degree", "threshold": t}``, for a ticket's ``edge_rule``. The
        threshold is 0 where no group is to be removed.

    Raises:
        BudgetError: ``edge_sparsity`` is not in ``[0, 1)``.
    """
    edge_index = edge_index.long()
    ends = EdgeGroups.from_edge_index(edge_index, num_nodes).ends
    removed = num_removed(ends.size(1), edge_sparsity)
    if not removed:
        return {"name": "degree", "threshold": 0.0}
    score = _score(ends, num_neighbours(edge_index, num_nodes))
    return {"name": "degree", "threshold": float(score.kthvalue(removed + 1).values)}


def check_edge_rule(rule: object) -> dict[str, Any]:
    """Validate a rule.

    Args:
        rule: The record.

    Returns:
        dict[str, Any]: The rule in its normal form (numbers as float).

    Raises:
        InputError: Not a record of a known rule; the message names the field at fault.
    """
    try:
        return document.validate(document.RuleHolder, {"edge_rule": rule}).edge_rule.model_dump()
    except ValueError as error:
        raise InputError(
            'edge_rule must be {"name": "keep"} or {"name": "degree", "threshold": t} with t in '
            f"[0, 1] (got {rule!r}): {error}"
        ) from error


def kept_by_rule(rule: dict[str, Any], edge_index: Tensor, num_nodes: int) -> Tensor:
    """Which edges of a graph a rule keeps, known to the ticket or not.

    Args:
        rule: A valid rule.
        edge_index: ``[2, num_edges]``, int32 or int64.
        num_nodes: Number of nodes.

    Returns:
        Tensor: ``[num_edges]`` bool; self-loops are kept.
    """
    if rule["name"] == "keep":
        return torch.ones(edge_index.size(1), dtype=torch.bool, device=edge_index.device)
    edge_index = edge_index.long()
    score = _score(edge_index, num_neighbours(edge_index, num_nodes))
    threshold: float = rule["threshold"]
    return (score >= threshold) | (edge_index[0] == edge_index[1])


def num_neighbours(edge_index: Tensor, num_nodes: int) -> Tensor:
    """Number of distinct other nodes that each node shares an edge with, ``[num_nodes]`` int64.

    ``edge_index`` is ``[2, num_edges]`` int64.
    """
    low, high = edge_index.min(dim=0).values, edge_index.max(dim=0).values
    pairs = torch.unique((low * num_nodes + high)[low != high])
    ends = torch.cat([pairs // num_nodes, pairs % num_nodes])
    return torch.bincount(ends, minlength=num_nodes)


def _score(ends: Tensor, degree: Tensor) -> Tensor:
    # Square root and division are correctly rounded on every device, a power is not.
    return 1.0 / (degree[ends[0]] * degree[ends[1]]).to(torch.float64).sqrt()
