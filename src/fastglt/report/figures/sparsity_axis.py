"""A horizontal axis of sparsities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = {
    "edges": "edges removed, %",
    "weights": "weights removed, %",
    "joint": "weights removed, %",
}
"""Label of an axis by what varies."""
_SPREAD = 6
"""From this ratio of densities on, steps of the kept share are as wide as they are large in
proportion: else 95, 98 and 99 % would lie on one another."""
_CLOSEST = 0.09
"""Least distance of two ticks, as a share of the axis."""


class SparsityAxis:
    """Where sparsities lie, and the ticks that say so.

    Args:
        sparsities: All that are drawn, as shares, at least one.
    """

    def __init__(self, sparsities: Sequence[float]) -> None:
        self._sparsities = sorted(set(sparsities))
        kept = [1 - sparsity for sparsity in self._sparsities]
        self._is_log = min(kept) > 0 and max(kept) / min(kept) >= _SPREAD

    def at(self, sparsity: float) -> float:
        """Place of a sparsity."""
        return -math.log10(1 - sparsity) if self._is_log else sparsity

    def label(self, axes: Axes, axis: str, names: Mapping[float, str] | None = None) -> None:
        """Set ticks, limits and label.

        Args:
            axes: What was drawn on.
            axis: A key of :data:`NAMES`.
            names: A second line for the tick of a sparsity.
        """
        places = [self.at(sparsity) for sparsity in self._sparsities]
        width = places[-1] - places[0] or 0.1
        ticks: dict[float, str] = {}
        for place, sparsity in zip(reversed(places), reversed(self._sparsities), strict=True):
            if all(abs(place - other) >= _CLOSEST * width for other in ticks):
                second = f"\n{names[sparsity]}" if names else ""
                ticks[place] = f"{100 * sparsity:.6g}{second}"
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.set_xlim(places[0] - 0.05 * width, places[-1] + 0.05 * width)
        below = "; below: edges, %" if names else ""
        axes.set_xlabel(NAMES[axis] + below)
