"""Share of the weights that each layer keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastglt.report import wording
from fastglt.report.figures.canvas import new_figure, row_height
from fastglt.report.pruned import LayerMean
from fastglt.report.style import BLUE, GRID

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def layer_densities(layers: Sequence[LayerMean]) -> Figure:
    """Plot the density of every pruned parameter; at least one."""
    figure = new_figure(row_height(len(layers), each=0.3, rest=0.8, least=1.4))
    axes = figure.subplots()
    places = range(len(layers))
    density = [100 * layer.density for layer in layers]
    axes.barh(places, [100] * len(layers), height=0.6, color=GRID)
    axes.barh(places, density, height=0.6, color=BLUE)
    for place, layer in enumerate(layers):
        axes.annotate(
            f"{100 * layer.density:.3g} %  of {wording.large(layer.total)}",
            xy=(1.02, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8.5,
        )
    axes.set_yticks(places, [wording.short(layer.name, 20) for layer in layers])
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel("weights kept, %")
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure
