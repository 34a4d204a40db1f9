"""Which nodes each conv has to compute for the predictions that are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from fastglt.training.rows import first_rows, take_rows


@dataclass(frozen=True)
class Field:
    """The receptive field of some nodes under convs that are called one after the other.

    Attributes:
        order: ``[n]`` int64, the nodes that the first conv reads: first those that are wanted,
            then those one hop away, and so on, each part in ascending order.
        sizes: Conv ``i`` reads the first ``sizes[i]`` of them and computes ``sizes[i + 1]``.
        rank: ``[num_nodes]`` int64, the place of a node in ``order``, ``n`` if it has none.
        is_first: Whether ``order`` is that of the graph itself, of which it has the first nodes.
    """

    order: Tensor
    sizes: tuple[int, ...]
    rank: Tensor
    is_first: bool = False

    @classmethod
    def of(cls, edge_index: Tensor, wanted: Tensor, num_convs: int) -> Field:
        """Follow the edges ``[2, num_edges]`` back from ``wanted``, ``[num_nodes]`` bool."""
        source, target = edge_index
        seen = wanted.clone()
        parts = [wanted.nonzero().view(-1)]
        for _ in range(num_convs):
            reached = seen.clone()
            reached[source[seen[target]]] = True
            parts.append((reached & ~seen).nonzero().view(-1))
            seen = reached
        order = torch.cat(parts)
        sizes = [0]
        for part in parts:
            sizes.append(sizes[-1] + len(part))
        rank = torch.full((len(wanted),), len(order), device=order.device)
        rank[order] = torch.arange(len(order), device=order.device)
        return cls(order, tuple(reversed(sizes[1:])), rank)

    @classmethod
    def of_hops(cls, hops: Sequence[int], num_convs: int) -> Field:
        """The field of a sampled neighbourhood, whose nodes are sorted by their hop.

        Args:
            hops: Numbers of nodes by hop, the seeds' first.
            num_convs: Convs that are called one after the other.
        """
        within = [*accumulate(hops)]
        sizes = [within[min(hop, len(within) - 1)] for hop in range(num_convs, -1, -1)]
        order = torch.arange(sizes[0])
        rank = torch.arange(within[-1]).clamp_max_(sizes[0])
        return cls(order, tuple(sizes), rank, is_first=True)

    def to(self, device: torch.device) -> Field:
        """The same on a device."""
        order, rank = self.order.to(device), self.rank.to(device)
        return Field(order, self.sizes, rank, self.is_first)

    def rows(self, matrix: Tensor) -> Tensor:
        """The rows of :attr:`order` of a matrix ``[num_nodes, k]``, dense or CSR."""
        if self.is_first:
            return first_rows(matrix, len(self.order))
        return take_rows(matrix, self.order)

    def block(self, edge_index: Tensor, call: int) -> tuple[Tensor, Tensor]:
        """What a conv computes from.

        Args:
            edge_index: ``[2, num_edges]``, the edges of the graph or these with self-loops.
            call: Which of the convs, from 0.

        Returns:
            Positions in ``edge_index`` of the edges into what it computes, ``[k]`` int64, and
            these edges with both ends as places in :attr:`order`, ``[2, k]``.
        """
        position = (self.rank[edge_index[1]] < self.sizes[call + 1]).nonzero().view(-1)
        return position, self.rank[edge_index[:, position]]
