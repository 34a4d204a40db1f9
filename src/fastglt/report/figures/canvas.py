"""Empty figures, outside pyplot, and what several figures have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastglt.report.style import PAPER, WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(height: float) -> Figure:
    """An empty figure of the report's width; ``height`` is in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def legend_below(figure: Figure, axes: Axes, columns: int = 2, **extra: Any) -> None:
    """The legend of an axes below the figure, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    handles = extra.pop("handles", handles)
    if handles:
        labels = [handle.get_label() for handle in handles]
        figure.legend(
            handles, labels, loc="outside lower center", ncols=min(columns, len(handles)), **extra
        )


def hollow(color: str) -> dict[str, Any]:
    """Keywords of a marker that is filled with the background."""
    return {"markerfacecolor": PAPER, "markeredgecolor": color, "markeredgewidth": 1.5}


def row_height(rows: int, each: float = 0.3, rest: float = 1.1, least: float = 1.8) -> float:
    """Height in inches of a figure with so many rows."""
    return max(least, each * rows + rest)
