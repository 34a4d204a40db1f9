"""The masks at one of a denoising run's events, and how much of earlier ones they keep."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from fastglt.masks import EdgeMask, WeightMask


@dataclass(frozen=True)
class MaskSnapshot:
    """Masks with the metric they reached and the weights that reached it."""

    step: int
    metric: float
    edge_mask: EdgeMask
    weight_mask: WeightMask
    state: dict[str, Tensor]


def overlap(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Share of what is kept now that was kept before, 1 where nothing is kept.

    Args:
        pairs: Bool masks now and before, both of one shape.
    """
    kept = common = 0
    for now, before in pairs:
        kept += int(now.sum())
        common += int((now & before).sum())
    return common / kept if kept else 1.0
