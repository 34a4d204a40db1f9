"""Masks over edges and weights, edge groups, and the selection of exact counts.

A mask is boolean and ``True`` means kept. Masks live outside the model and the graph; how they
act on them is the business of :mod:`fastglt.gating`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor
from torch_geometric.utils import is_undirected

from fastglt.errors import BudgetError

SELF_LOOP = -1
"""Group id of a self-loop: it belongs to no group and is always kept."""


def check_sparsity(value: float, name: str) -> float:
    """Return ``value`` as a float if it is a sparsity.

    Raises:
        BudgetError: If it is not a number in ``[0, 1)``.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0.0 <= number < 1.0:
        raise BudgetError(f"{name} must be in [0, 1) (got {value})")
    return number


def num_removed(total: int, sparsity: float) -> int:
    """Number of components that a sparsity removes: ``floor(sparsity * total)``.

    The sparsity is taken as the decimal that was written, not as its binary neighbour, so
    ``num_removed(100, 0.29)`` is 29 although ``0.29 * 100 < 29`` in floating point.

    Raises:
        BudgetError: If ``sparsity`` is not in ``[0, 1)``.
    """
    return math.floor(Fraction(str(check_sparsity(sparsity, "sparsity"))) * total)


def select_top(score: Tensor, count: int) -> Tensor:
    """Mask of exactly ``count`` entries with the highest score, ties broken by index order.

    Args:
        score: Scores of any shape, higher = keep. May hold infinities, but no NaN.
        count: How many entries to select, ``0 <= count <= score.numel()``.

    Returns:
        Boolean tensor of the shape of ``score`` with ``count`` entries set. Runs in O(n).

    Raises:
        ValueError: If ``count`` is out of range or a score is NaN.
    """
    flat = score.detach().reshape(-1)
    if not 0 <= count <= flat.numel():
        raise ValueError(f"count must be in [0, {flat.numel()}] (got {count})")
    if bool(flat.isnan().any()):
        raise ValueError("scores must not be NaN")
    if count in (0, flat.numel()):
        return torch.full(score.shape, count > 0, dtype=torch.bool, device=score.device)
    threshold = flat.kthvalue(flat.numel() - count + 1).values
    selected = flat > threshold
    ties = (flat == threshold).nonzero().view(-1)
    selected[ties[: count - int(selected.sum())]] = True
    return selected.view(score.shape)


@dataclass(frozen=True)
class EdgeGroups:
    """The units of edge pruning of one graph.

    On an undirected graph the pair ``{(u, v), (v, u)}`` is one group (with all its duplicates);
    on a directed graph each edge is a group of its own. Self-loops belong to no group.

    Attributes:
        index: ``[num_edges]`` int64, group of each edge in the order of ``edge_index``, or
            :data:`SELF_LOOP`.
        ends: ``[2, num_groups]`` int64, the end nodes of each group.
        num_nodes: Number of nodes of the graph.
        undirected: Whether groups are pairs.
    """

    index: Tensor
    ends: Tensor
    num_nodes: int
    undirected: bool

    @classmethod
    def from_edge_index(
        cls, edge_index: Tensor, num_nodes: int, edge_weight: Tensor | None = None
    ) -> EdgeGroups:
        """Group the edges of a graph.

        Args:
            edge_index: ``[2, num_edges]`` int64.
            num_nodes: Number of nodes.
            edge_weight: ``[num_edges]``; where the two directions of a pair disagree the graph
                counts as directed.
        """
        source, target = edge_index
        undirected = is_undirected(edge_index, edge_weight, num_nodes=num_nodes)
        proper = source != target
        index = torch.full_like(source, SELF_LOOP)
        if undirected:
            low, high = torch.minimum(source, target), torch.maximum(source, target)
            keys, index[proper] = torch.unique(
                (low * num_nodes + high)[proper], return_inverse=True
            )
            ends = torch.stack([keys // num_nodes, keys % num_nodes])
        else:
            ends = edge_index[:, proper]
            index[proper] = torch.arange(ends.size(1), device=source.device)
        return cls(index, ends, num_nodes, undirected)

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
        padded = torch.cat([values, values.new_full((1,), loop_value)])
        return padded[self.index]

    def degrees(self, keep: Tensor) -> Tensor:
        """Degree of every node counting kept groups only, ``[num_nodes]`` int64.

        On a directed graph this is in-degree plus out-degree.
        """
        return torch.bincount(self.ends[:, keep].reshape(-1), minlength=self.num_nodes)


@dataclass(frozen=True)
class EdgeMask:
    """Which edge groups of a graph are kept.

    Attributes:
        groups: The groups that the mask is over.
        keep: ``[num_groups]`` bool, ``True`` = kept.
    """

    groups: EdgeGroups
    keep: Tensor

    @classmethod
    def full(cls, groups: EdgeGroups) -> EdgeMask:
        """The mask that keeps everything."""
        return cls(groups, groups.ends.new_ones(groups.num_groups, dtype=torch.bool))

    @property
    def edges(self) -> Tensor:
        """``[num_edges]`` bool in the order of ``edge_index``; self-loops are kept."""
        return self.groups.to_edges(self.keep, True)

    @property
    def num_kept(self) -> int:
        """Number of kept groups."""
        return int(self.keep.sum())

    @property
    def sparsity(self) -> float:
        """Share of the prunable groups that is removed (0 for a graph without any)."""
        return 1.0 - self.num_kept / self.groups.num_groups if self.groups.num_groups else 0.0


@dataclass(frozen=True)
class WeightMask(Mapping[str, Tensor]):
    """Which weights of a model are kept: parameter name to boolean tensor of its shape."""

    masks: dict[str, Tensor]

    @classmethod
    def full(cls, weights: Mapping[str, Tensor]) -> WeightMask:
        """The mask that keeps every entry of the given parameters."""
        return cls({name: torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()})

    def __getitem__(self, name: str) -> Tensor:
        return self.masks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.masks)

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def num_weights(self) -> int:
        """Number of prunable weights."""
        return sum(mask.numel() for mask in self.masks.values())

    @property
    def num_kept(self) -> int:
        """Number of kept weights."""
        return sum(int(mask.sum()) for mask in self.masks.values())

    @property
    def sparsity(self) -> float:
        """Share of the prunable weights that is removed (0 for a model without any)."""
        return 1.0 - self.num_kept / self.num_weights if self.num_weights else 0.0
