"""What denoising says of one of its swaps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SwapEvent:
    """One denoising event.

    Attributes:
        step: Training step after which it happened, from 1.
        share: Share of the kept components that the schedule asked to swap.
        edges_swapped: Edge groups regrown.
        weights_swapped: Weights regrown.
        edge_sparsity: Edge sparsity afterwards.
        weight_sparsity: Weight sparsity afterwards.
        edge_overlap: Share of the kept edge groups that the one-shot cut kept too.
        weight_overlap: Share of the kept weights that the one-shot cut kept too.
        metric: Metric of the masks before the event, if one was given.
    """

    step: int
    share: float
    edges_swapped: int
    weights_swapped: int
    edge_sparsity: float
    weight_sparsity: float
    edge_overlap: float
    weight_overlap: float
    metric: float | None
