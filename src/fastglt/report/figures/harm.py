"""Change of accuracy of groups of test nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastglt.report import wording
from fastglt.report.figures.canvas import new_figure, row_height
from fastglt.report.harm import GroupMean
from fastglt.report.style import BLUE, INK, MUTED, VERMILLION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MANY = 10
"""Groups of fewer nodes do not stretch the axis."""
_SAME = 0.05
"""A smaller change, in points, counts as none."""


def harm_by(kind: str, groups: Sequence[GroupMean]) -> Figure:
    """Plot the changes of one kind of groups.

    Args:
        kind: What the groups are by.
        groups: At least one.
    """
    figure = new_figure(row_height(len(groups), each=0.27, rest=0.8))
    axes = figure.subplots()
    axes.axvline(0, color=INK, linewidth=1)
    far = reach(groups)
    for place, group in enumerate(groups):
        color = colour(group.change.mean)
        if math.isfinite(group.change.half_width):
            ends = [group.change.low, group.change.high]
            axes.plot(ends, [place] * 2, color=color, linewidth=1.4, alpha=0.7)
        end = min(max(group.change.mean, -far), far)
        marker = "o" if end == group.change.mean else "<" if end < 0 else ">"
        axes.plot([0, end], [place] * 2, color=color, linewidth=3.5)
        axes.plot(end, place, marker, color=color, markersize=6, clip_on=False)
        axes.annotate(
            f"{wording.number(group.dense, 1)} → {wording.number(group.ticket, 1)}",
            xy=(1.02, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8.5,
        )
    names = [f"{wording.short(group.name, 18)}  ({group.nodes:,.0f})" for group in groups]
    axes.set_yticks(range(len(groups)), names)
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.set_xlim(-far, far)
    axes.set_xlabel("change of test accuracy, points")
    axes.set_ylabel(kind)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure


def reach(groups: Sequence[GroupMean]) -> float:
    """How far the axis goes.

    It shows all means but those of a handful of nodes, and intervals unless they are far wider.
    """
    large = [group for group in groups if group.nodes >= _MANY] or groups
    farthest = max(abs(group.change.mean) for group in large)
    ends = [abs(end) for group in large for end in (group.change.low, group.change.high)]
    widest = max((end for end in ends if math.isfinite(end)), default=0.0)
    return 1.12 * max(0.5, farthest, min(widest, 2.5 * farthest))


def colour(change: float) -> str:
    """Colour of a change in points."""
    if abs(change) < _SAME:
        return MUTED
    return BLUE if change > 0 else VERMILLION
