"""Masks over the edge groups of a graph and over the weights of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fastglt.masks.groups import EdgeGroups


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
        return int(self.keep.count_nonzero())

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
        return sum(int(mask.count_nonzero()) for mask in self.masks.values())

    @property
    def sparsity(self) -> float:
        """Share of the prunable weights that is removed (0 for a model without any)."""
        return 1.0 - self.num_kept / self.num_weights if self.num_weights else 0.0
