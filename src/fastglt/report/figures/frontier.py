"""The search for the highest sparsity that wins: by validation, then confirmed by test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastglt.report import wording
from fastglt.report.figures.canvas import legend_below, new_figure
from fastglt.report.figures.sparsity_axis import SparsityAxis
from fastglt.report.slices import Frontier, Point
from fastglt.report.style import BLUE, INK, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def frontier(part: Frontier, metric: str, margin: float) -> Figure:
    """Plot the differences to dense by sparsity.

    Args:
        part: What to plot.
        metric: What is measured.
        margin: Largest loss that still counts as none, in points.
    """
    figure = new_figure(3.4)
    axes = figure.subplots()
    axes.axhline(0, color=INK, linewidth=1)
    axes.axhline(
        -margin, color=INK, linewidth=1, linestyle=(0, (4, 3)), label=f"margin, −{margin:g}"
    )
    scale = SparsityAxis([point.sparsity for point in (*part.searched, *part.confirmed)])
    _points(axes, scale, part.searched, BLUE, "o-", "searched, validation")
    _points(axes, scale, part.confirmed, VERMILLION, "D", "confirmed, test")
    means = [point.value.mean for point in (*part.searched, *part.confirmed)]
    room = max(1.0, 2 * margin, 0.12 * (max(means) - min(means)))
    axes.set_ylim(min(*means, -margin) - room, max(*means, 0) + room)
    scale.label(axes, part.axis)
    axes.set_ylabel(f"points of {wording.short(metric, 16)}, minus dense")
    legend_below(figure, axes)
    return figure


def _points(
    axes: Axes, scale: SparsityAxis, points: Sequence[Point], color: str, look: str, label: str
) -> None:
    if not points:
        return
    at = [scale.at(point.sparsity) for point in points]
    means = [point.value.mean for point in points]
    axes.plot(at, means, look, color=color, label=label, markersize=6, linewidth=1.2)
    known = [point for point in points if math.isfinite(point.value.half_width)]
    axes.errorbar(
        [scale.at(point.sparsity) for point in known],
        [point.value.mean for point in known],
        [point.value.half_width for point in known],
        fmt="none",
        ecolor=color,
        elinewidth=1.2,
        capsize=3,
    )
