"""Which nodes each conv has to compute for the predictions that are wanted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Field:
    """The receptive field of some nodes under convs that are called one after the other.

    Attributes:
        order: ``[n]`` int64, the nodes that the first conv reads: first those that are wanted,
            then those one hop away, and so on, each part in ascending order.
        sizes: Conv ``i`` reads the first ``sizes[i]`` of them and computes ``sizes[i + 1]``.
        rank: ``[num_nodes]`` int64, the place of a node in ``order``, ``n`` if it has none.
    """

    order: Tensor
    sizes: tuple[int, ...]
    rank: Tensor

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
