"""The edge pass: the kept edges, sorted once, and adjacency matrices with their values known."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch_geometric.data import Data

from fastglt._csr import ignore_csr_warnings
from fastglt.compile.plain import sum_weights
from fastglt.compile.program import Rule
from fastglt.gating import reorder_edges

Made = TypeVar("Made")


def by_target(data: Data) -> Data:
    """A copy of a graph with its edges ordered by target, then by source.

    Everything that belongs to an edge is put into the same order; supervision edges keep theirs.
    """
    source, target = data.edge_index
    return reorder_edges(data, torch.argsort(target * data.num_nodes + source, stable=True))


@dataclass(frozen=True)
class Graph:
    """The edges of one graph, ordered by target.

    Attributes:
        edge_index: ``[2, num_edges]``.
        edge_weight: ``[num_edges]``, or ``None``.
        num_nodes: Number of nodes.
    """

    edge_index: Tensor
    edge_weight: Tensor | None
    num_nodes: int
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What ``make`` gives, made the first time only: layers share what is made of the edges."""
        if key not in self._made:
            self._made[key] = make()
        found: Made = self._made[key]
        return found

    def adjacency(self, rule: Rule, dtype: torch.dtype) -> Tensor:
        """CSR ``[num_nodes, num_nodes]`` by which a sum over neighbours is one product.

        Self-loops are on its diagonal; duplicate edges are added up.
        """
        return self.once((rule, dtype), lambda: self._adjacency(rule, dtype))

    def _adjacency(self, rule: Rule, dtype: torch.dtype) -> Tensor:
        # Degrees are sums that low precisions do not hold.
        precise = torch.promote_types(dtype, torch.float32)
        weight, own = sum_weights(
            rule.norm, rule.loops, rule.own, self.edge_index,
            self.edge_weight if rule.weighted else None, self.num_nodes, precise,
        )  # fmt: skip
        index = self.edge_index.flip(0)
        if own is not None:
            nodes = torch.arange(self.num_nodes, device=index.device).expand(2, -1)
            index, weight = torch.cat([index, nodes], dim=1), torch.cat([weight, own])
        shape = (self.num_nodes, self.num_nodes)
        summed = torch.sparse_coo_tensor(index, weight, shape, check_invariants=False).coalesce()
        kept = summed.values() != 0  # loops whose place was taken
        index, weight = summed.indices()[:, kept], summed.values()[kept]
        return csr(index, weight.to(dtype), shape)

    def pattern(self, dtype: torch.dtype) -> Tensor:
        """CSR ``[num_nodes, num_nodes]`` with a 1 for each edge, duplicates apart."""
        return self.once(("pattern", dtype), lambda: self._pattern(dtype))

    def _pattern(self, dtype: torch.dtype) -> Tensor:
        ones = torch.ones(self.edge_index.size(1), dtype=dtype, device=self.edge_index.device)
        return csr(self.edge_index.flip(0), ones, (self.num_nodes, self.num_nodes))

    def with_loops(self) -> Graph:
        """The same with one loop a node in place of those that it has, ordered by target."""
        return self.once("loops", self._with_loops)

    def _with_loops(self) -> Graph:
        keep = self.edge_index[0] != self.edge_index[1]
        nodes = torch.arange(self.num_nodes, device=keep.device).expand(2, -1)
        edge_index = torch.cat([self.edge_index[:, keep], nodes], dim=1)
        order = edge_index[1].argsort(stable=True)
        return Graph(edge_index[:, order], None, self.num_nodes)


def csr(index: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A CSR matrix of entries in the order of their rows, with 32-bit indices if they fit."""
    integer = torch.int32 if max(index.size(1), *shape) < 2**31 else torch.int64
    starts = torch.zeros(shape[0] + 1, dtype=torch.int64, device=index.device)
    starts[1:] = torch.bincount(index[0], minlength=shape[0]).cumsum(0)
    with ignore_csr_warnings():
        return torch.sparse_csr_tensor(
            starts.to(integer), index[1].to(integer), values, shape, check_invariants=False
        )
