"""Accuracy over sparsity, one line a method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastglt.report import wording
from fastglt.report.figures.canvas import legend_below, new_figure
from fastglt.report.figures.sparsity_axis import SparsityAxis
from fastglt.report.slices import Point, Slice
from fastglt.report.style import INK, MARKERS, SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def curves(part: Slice, metric: str, labels: Sequence[str]) -> Figure:
    """Plot all lines of a slice with their 95 % intervals, and the dense line.

    Args:
        part: What to plot.
        metric: What is measured.
        labels: Names of all methods of the subject: a method has the same colour in all figures.
    """
    figure = new_figure(3.4 + 0.16 * math.ceil(len(part.lines) / 2))
    axes = figure.subplots()
    if part.dense is not None:
        axes.axhline(part.dense.mean, color=INK, linestyle="--", linewidth=1.2, label="dense")
        if math.isfinite(part.dense.half_width):
            axes.axhspan(part.dense.low, part.dense.high, color=INK, alpha=0.1, linewidth=0)
    scale = SparsityAxis([point.sparsity for points in part.lines.values() for point in points])
    for label, points in part.lines.items():
        _line(axes, scale, label, points, labels.index(label))
    _limit(axes, part)
    edges = {weights: f"{100 * edges:g}" for edges, weights in part.budgets}
    scale.label(axes, part.axis, edges if part.axis == "joint" else None)
    axes.set_ylabel(f"test {wording.short(metric)}, points")
    legend_below(figure, axes, fontsize=8.5)
    return figure


def _line(axes: Axes, scale: SparsityAxis, label: str, points: Sequence[Point], place: int) -> None:
    color, marker = SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)]
    at = [scale.at(point.sparsity) for point in points]
    axes.plot(
        at,
        [point.value.mean for point in points],
        color=color,
        marker=marker,
        linestyle="-" if place < len(SERIES) else ":",
        label=wording.short(label, 24),
    )
    known = [point for point in points if math.isfinite(point.value.half_width)]
    axes.fill_between(
        [scale.at(point.sparsity) for point in known],
        [point.value.low for point in known],
        [point.value.high for point in known],
        color=color,
        alpha=0.16,
        linewidth=0,
    )


def _limit(axes: Axes, part: Slice) -> None:
    """Show all means; a band of two seeds may be far wider than the picture."""
    means = [point.value.mean for points in part.lines.values() for point in points]
    if part.dense is not None:
        means.append(part.dense.mean)
    room = max(1.0, 0.12 * (max(means) - min(means)))
    axes.set_ylim(min(means) - room, max(means) + room)
