"""A denoising run: validation metric, overlap with the one-shot mask, swaps per event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastglt.report import wording
from fastglt.report.denoising_plot import KINDS, plot_masks, plot_metric
from fastglt.report.figures.canvas import new_figure
from fastglt.report.records import Event
from fastglt.report.style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def denoising(events: Sequence[Event], metric: str, val_dense: float) -> Figure:
    """Plot a denoising run.

    Args:
        events: At least one.
        metric: What is measured.
        val_dense: The dense model's validation metric.
    """
    from matplotlib.ticker import PercentFormatter

    history = [event.model_dump() for event in events]
    figure = new_figure(5.6)
    upper, middle, lower = figure.subplots(3, 1, sharex=True)
    metrics = {"metric": wording.short(metric), "val_dense": val_dense}
    plot_metric(upper, history, metrics, ink=INK)
    plot_masks(middle, history)
    _plot_swaps(lower, history)
    for axes in (upper, middle):
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=None))
    for axes in (upper, middle, lower):
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(-0.12, 1.03),
            ncols=2,
            fontsize=8,
            borderaxespad=0,
            borderpad=0,
            columnspacing=0.8,
            handlelength=1.5,
        )
    upper.set_ylabel("validation")
    middle.set_ylabel("share of kept")
    lower.set_xlabel("denoising step")
    return figure


def _plot_swaps(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    from matplotlib.ticker import FuncFormatter

    steps = [event["step"] for event in history]
    for kind, color in KINDS:
        swapped = [event[f"{kind}s_swapped"] for event in history]
        if any(swapped):
            axes.plot(steps, swapped, "o-", color=color, label=f"{kind}s swapped")
    # Weights are often a thousand times as many as edges; an event without swaps is at 0.
    axes.set_yscale("symlog", linthresh=1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: wording.count(value)))
    axes.set_ylim(
        0, 2 * max(event[f"{kind}s_swapped"] for event in history for kind, _ in KINDS) + 1
    )
    axes.set_ylabel("swaps per event")
