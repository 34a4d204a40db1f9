"""Edge groups: the units of edge pruning."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Data

from fastglt.errors import GraphError
from fastglt.masks.pairing import Pairing, may_be_balanced

SELF_LOOP = -1
"""Group id of a self-loop: it belongs to no group and is always kept."""


@dataclass(frozen=True)
class EdgeGroups:
    """The units of edge pruning of one graph.

    On an undirected graph the pair ``{(u, v), (v, u)}`` is one group (with all its duplicates);
    on a directed graph each edge is a group of its own. Self-loops belong to no group.

    Numbers are int32 to save memory: convert them before computing products.

    Attributes:
        index: ``[num_edges]`` int32, group of each edge in the order of ``edge_index``, or
            :data:`SELF_LOOP`.
        ends: ``[2, num_groups]`` int32, the end nodes of each group.
        num_nodes: Number of nodes of the graph.
        undirected: Whether groups are pairs.
        note: Why a graph whose edges come in pairs is treated as directed, if it is.
    """

    index: Tensor
    ends: Tensor
    num_nodes: int
    undirected: bool
    note: str | None = None

    @classmethod
    def of(cls, data: Data) -> EdgeGroups:
        """The edge groups of a graph, see :meth:`from_edge_index`.

        An ``edge_type`` that is no tensor with one row an edge is not looked at.
        """
        edge_type = data.get("edge_type")
        is_of_edges = isinstance(edge_type, Tensor) and edge_type.shape[:1] == (data.num_edges,)
        return cls.from_edge_index(
            data.edge_index,
            data.num_nodes,
            data.get("edge_weight"),
            data.get("edge_attr"),
            edge_type if is_of_edges else None,
        )

    @classmethod
    def from_edge_index(
        cls,
        edge_index: Tensor,
        num_nodes: int,
        edge_weight: Tensor | None = None,
        edge_attr: Tensor | None = None,
        edge_type: Tensor | None = None,
    ) -> EdgeGroups:
        """Group the edges of a graph.

        The graph is undirected if every edge has its reverse, duplicates counted, with the same
        weight, attributes and type. Where only these disagree, :attr:`note` says so.

        Args:
            edge_index: ``[2, num_edges]`` int64.
            num_nodes: Number of nodes.
            edge_weight: ``[num_edges]`` or ``[num_edges, 1]``.
            edge_attr: ``[num_edges]`` or ``[num_edges, ...]``.
            edge_type: ``[num_edges]`` or ``[num_edges, ...]``.

        Raises:
            GraphError: If weights, attributes or types are not one an edge, or nodes or edges are
                2**31 or more.
        """
        _check_size(num_nodes, edge_index.size(1))
        attributes = {
            "edge_weight": edge_weight,
            "edge_attr": edge_attr,
            "edge_type": edge_type,
        }
        given = {name: values for name, values in attributes.items() if values is not None}
        for name, values in given.items():
            if values.dim() == 0 or values.size(0) != edge_index.size(1):
                raise GraphError(
                    f"{name} must have one row an edge, {edge_index.size(1)} in all "
                    f"(got shape {tuple(values.shape)})"
                )
        note = None
        if may_be_balanced(edge_index, num_nodes):
            pairing = Pairing.of(edge_index, num_nodes)
            if pairing.is_balanced:
                note = pairing.disagreement(edge_index, given)
                if note is None:
                    return cls(*_pairs(pairing, edge_index), num_nodes, True)
        return cls(*_single_edges(edge_index), num_nodes, False, note)

    @property
    def num_groups(self) -> int:
        """Number of prunable groups."""
        return self.ends.size(1)

    @property
    def num_edges(self) -> int:
        """Number of columns of ``edge_index``, self-loops included."""
        return self.index.numel()

    def to_edges(self, values: Tensor, loop_value: float | bool) -> Tensor:
        """Spread ``[num_groups]`` values to ``[num_edges]``; self-loops get ``loop_value``."""
        padded = torch.cat([values.new_full((1,), loop_value), values])
        return padded.index_select(0, self.index - SELF_LOOP)

    def degrees(self, keep: Tensor) -> Tensor:
        """Degree of every node counting kept groups only, ``[num_nodes]`` int64.

        On a directed graph this is in-degree plus out-degree.
        """
        kept = keep.to(torch.int32)
        degree = kept.new_zeros(self.num_nodes)
        for nodes in self.ends:
            degree.index_add_(0, nodes, kept)
        return degree.to(torch.int64)


def _pairs(pairing: Pairing, edge_index: Tensor) -> tuple[Tensor, Tensor]:
    group = pairing.is_first.cumsum(0, dtype=torch.int32) - 1
    index = group.new_full((edge_index.size(1),), SELF_LOOP)
    index.scatter_(0, pairing.position, group)
    ends = edge_index[:, pairing.position[pairing.is_first]]
    return index, ends.to(torch.int32)


def _single_edges(edge_index: Tensor) -> tuple[Tensor, Tensor]:
    is_loop = edge_index[0] == edge_index[1]
    if not bool(is_loop.any()):
        index = torch.arange(is_loop.numel(), dtype=torch.int32, device=is_loop.device)
        return index, edge_index.to(torch.int32)
    proper = ~is_loop
    index = (proper.cumsum(0, dtype=torch.int32) - 1).masked_fill_(is_loop, SELF_LOOP)
    return index, torch.stack([nodes.to(torch.int32)[proper] for nodes in edge_index])


def _check_size(num_nodes: int, num_edges: int) -> None:
    for name, count in (("num_nodes", num_nodes), ("num_edges", num_edges)):
        if count > torch.iinfo(torch.int32).max:
            raise GraphError(f"{name} must be less than 2**31 (got {count}); prune a sampled graph")
