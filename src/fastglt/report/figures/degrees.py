"""Degree distribution before and after pruning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastglt.report import wording
from fastglt.report.figures.canvas import legend_below, new_figure
from fastglt.report.pruned import DegreeMean
from fastglt.report.style import BLUE, MUTED

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def degree_distribution(degrees: Sequence[DegreeMean]) -> Figure:
    """Plot the number of nodes by degree; at least one range of degrees."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    figure = new_figure(2.9)
    axes = figure.subplots()
    places = range(len(degrees))
    width = 0.4
    for shift, values, color, label in (
        (-width / 2, [each.before for each in degrees], MUTED, "before"),
        (width / 2, [each.after for each in degrees], BLUE, "after"),
    ):
        axes.bar([place + shift for place in places], values, width, color=color, label=label)
    is_crowded = len(degrees) > 8
    axes.set_xticks(
        places,
        [wording.short(each.name, 10).replace("-", "–") for each in degrees],
        rotation=45 if is_crowded else 0,
        ha="right" if is_crowded else "center",
        rotation_mode="anchor" if is_crowded else None,
    )
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("degree (self-loops not counted)")
    axes.set_ylabel("nodes")
    axes.grid(axis="x", visible=False)
    legend_below(figure, axes)
    return figure
