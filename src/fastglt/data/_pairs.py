"""Drawing distinct pairs of nodes within or between classes, in proportion to node weights."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

_WEIGHTED_ROUNDS: Final = 12
_MOST_SURPLUS: Final = 16.0


class Blocks:
    """Nodes ordered by class, with running sums of their weights, to draw ends of edges from.

    Args:
        y: Labels ``[num_nodes]``; every class has at least two nodes.
        weight: Positive weights ``[num_nodes]``, float64.
    """

    def __init__(self, y: Tensor, weight: Tensor) -> None:
        self.num_nodes = y.numel()
        self.y = y
        self.nodes = torch.argsort(y, stable=True)
        self.total = torch.cumsum(weight[self.nodes], 0)
        self.last = torch.cumsum(torch.bincount(y), 0) - 1
        self.first = torch.cat([self.last.new_zeros(1), self.last[:-1] + 1])
        self.high = self.total[self.last]
        self.low = torch.cat([self.high.new_zeros(1), self.high[:-1]])

    def draw(self, count: int, within: bool, generator: torch.Generator) -> Tensor:
        """Draw ``count`` pairs as codes ``min * num_nodes + max``; self-loops are left out."""
        r = torch.rand(2, count, dtype=torch.float64, generator=generator)
        u = self._node(r[0] * self.total[-1])
        c = self.y[u]
        low, mass = self.low[c], self.high[c] - self.low[c]
        if within:
            rank = torch.searchsorted(self.total, low + r[1] * mass, right=True)
            v = self.nodes[torch.minimum(torch.maximum(rank, self.first[c]), self.last[c])]
        else:
            point = r[1] * (self.total[-1] - mass)
            v = self._node(torch.where(point < low, point, point + mass))
        # Rounding at a block's border can land on the neighbouring class.
        ok = (u != v) & ((self.y[v] == c) == within)
        u, v = u[ok], v[ok]
        return torch.minimum(u, v) * self.num_nodes + torch.maximum(u, v)

    def _node(self, point: Tensor) -> Tensor:
        rank = torch.searchsorted(self.total, point, right=True)
        return self.nodes[rank.clamp_(max=self.num_nodes - 1)]


def distinct_pairs(
    blocks: tuple[Blocks, Blocks], count: int, within: bool, generator: torch.Generator
) -> Tensor:
    """Draw exactly ``count`` distinct pairs: in bulk, rejecting what is there already.

    Args:
        blocks: Nodes by weight, and with equal weights. The second is used once the first has
            become slow, because its heavy nodes already have all the neighbours there are.
        count: Number of pairs, somewhat fewer than there are, so that the draw ends soon.
        within: Whether both ends are of one class, or of two different ones.
        generator: The only source of randomness; it is advanced.

    Returns:
        Codes ``min * num_nodes + max``, ``[count]``.
    """
    weighted, equal = blocks
    found = torch.empty(0, dtype=torch.long)
    rounds, surplus = 0, 1.25
    while (missing := count - found.numel()) > 0:
        source = weighted if rounds < _WEIGHTED_ROUNDS else equal
        num_draws = math.ceil(surplus * missing) + 16
        fresh = torch.unique(source.draw(num_draws, within, generator))
        fresh = fresh[~torch.isin(fresh, found, assume_unique=True)]
        # The fuller the graph, the more of the next draws will be repeats.
        surplus = min(1.25 * num_draws / max(fresh.numel(), 1), _MOST_SURPLUS)
        fresh = fresh[torch.randperm(fresh.numel(), generator=generator)[:missing]]
        found = torch.cat([found, fresh])
        rounds += 1
    return found
