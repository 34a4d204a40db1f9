"""Which of the edges that a graph has gained since the search are kept.

A rule is a small record in the ticket. ``{"name": "keep"}`` keeps all of them. ``{"name":
"degree", "threshold": t}`` keeps those with ``(d_u * d_v)^-0.5 >= t``, where the degree of a node
is its number of neighbours in the whole new graph. ``{"name": "ranked", "sparsity": s, "weights":
{...}}`` removes exactly the share ``s`` of them, those of the lowest weighted sum of ranks by
:data:`PROPERTIES`. Direction, duplicates and self-loops do not count, so that both directions of an
edge are treated alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from fastglt.errors import GraphError, InputError
from fastglt.masks import EdgeGroups, num_removed, select_top
from fastglt.scores import ranks, similarity
from fastglt.ticket import document

if TYPE_CHECKING:
    from torch import Tensor
    from torch_geometric.data import Data

KEEP: dict[str, Any] = {"name": "keep"}
"""The rule that keeps every new edge."""
PROPERTIES = tuple(document.RankWeights.model_fields)
"""What edges are ranked by: ``degree`` is ``(d_u * d_v)^-0.5``, ``inverse_degree`` is ``1 / d_u +
1 / d_v``, ``similarity`` the cosine of the features of both ends, and ``noise`` a number that
depends on the numbers of both ends in no meaningful way."""


def ranked_rule(sparsity: float, **weights: float) -> dict[str, Any]:
    """The rule that removes a share of the new edges, those of the lowest weighted ranks.

    Args:
        sparsity: The share, in ``[0, 1)``.
        weights: Property in :data:`PROPERTIES` to weight; those left out count for nothing.

    Returns:
        dict[str, Any]: For a ticket's ``edge_rule``.

    Raises:
        InputError: If sparsity or a weight cannot be used, or there is no such property.
    """
    return check_edge_rule({"name": "ranked", "sparsity": sparsity, "weights": weights})


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
            'edge_rule must be {"name": "keep"}, {"name": "degree", "threshold": t} with t in '
            '[0, 1], or {"name": "ranked", "sparsity": s, "weights": {...}} with s in [0, 1) and '
            f"weights of {', '.join(PROPERTIES)} (got {rule!r}): {error}"
        ) from error


def kept_by_rule(rule: Mapping[str, Any], graph: Data, new: Tensor) -> Tensor:
    """Which of the new edges of a graph a rule keeps.

    Args:
        rule: A valid rule.
        graph: The whole graph, with its edges in ``edge_index``.
        new: ``[num_edges]`` bool, the edges that are to be decided on.

    Returns:
        Tensor: ``[num_edges]`` bool; self-loops are kept, and edges that are not new.

    Raises:
        GraphError: If the rule goes by features and the graph has none.
    """
    if rule["name"] == "ranked":
        return NewEdges(graph, new).kept(rule["weights"], rule["sparsity"])
    keep = torch.ones_like(new)
    if rule["name"] == "degree":
        ends = graph.edge_index[:, new].long()
        degree = num_neighbours(graph.edge_index.long(), int(graph.num_nodes))
        threshold: float = rule["threshold"]
        keep[new] = (_score(ends, degree) >= threshold) | (ends[0] == ends[1])
    return keep


class NewEdges:
    """The new edges of a graph as pairs of nodes, and their ranks by what they are ranked by.

    Args:
        graph: The whole graph, with its edges in ``edge_index``.
        new: ``[num_edges]`` bool.
    """

    def __init__(self, graph: Data, new: Tensor) -> None:
        edge_index, num_nodes = graph.edge_index.long(), int(graph.num_nodes)
        self._x = graph.get("x")
        self._degree = num_neighbours(edge_index, num_nodes)
        self._proper = new & (edge_index[0] != edge_index[1])
        ends = edge_index[:, self._proper]
        low, high = ends.min(dim=0).values, ends.max(dim=0).values
        pairs, self._pair_of = torch.unique(low * num_nodes + high, return_inverse=True)
        self._ends = torch.stack([pairs // num_nodes, pairs % num_nodes])
        self._ranks: dict[str, Tensor] = {}

    def kept(self, weights: Mapping[str, float], sparsity: float) -> Tensor:
        """``[num_edges]`` bool: all but the share of the pairs with the lowest weighted ranks.

        Args:
            weights: Property in :data:`PROPERTIES` to weight.
            sparsity: The share, in ``[0, 1)``.

        Raises:
            GraphError: If features count and there are none.
        """
        count = self._ends.size(1)
        score = torch.zeros(count, device=self._ends.device)
        for name, weight in weights.items():
            if weight:
                score += weight * self._ranked(name)
        keep = torch.ones_like(self._proper)
        keep[self._proper] = select_top(score, count - num_removed(count, sparsity))[self._pair_of]
        return keep

    def _ranked(self, name: str) -> Tensor:
        if name not in self._ranks:
            self._ranks[name] = ranks(self._property(name))
        return self._ranks[name]

    def _property(self, name: str) -> Tensor:
        if name == "degree":
            return _score(self._ends, self._degree)
        if name == "inverse_degree":
            return (1.0 / self._degree[self._ends].to(torch.float64)).sum(dim=0)
        if name == "noise":
            return _noise(self._ends)
        if self._x is None:
            raise GraphError("the ticket's edge rule goes by features: the graph must have data.x")
        return similarity(self._x, self._ends)


def _noise(ends: Tensor) -> Tensor:
    """Uniform in ``[0, 1)`` by the finaliser of SplitMix64 (Steele et al., OOPSLA 2014)."""
    key = (ends[0] << 32) ^ ends[1]
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        key = (key ^ ((key >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return ((key >> 31) & ((1 << 32) - 1)).to(torch.float64) / (1 << 32)


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
