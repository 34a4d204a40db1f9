"""A plot of a denoising run: validation metric, swaps, and how far the masks moved."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastglt._atomic import atomic_write
from fastglt.errors import InputError
from fastglt.report.style import BLUE, GREEN, PINK, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS: Final = (".png", ".pdf", ".svg")
"""File name endings that can be written."""

_METRIC, _SWAPPED = BLUE, VERMILLION
KINDS: Final = (("edge", GREEN), ("weight", PINK))
"""What is pruned, with its colour."""


def check_plot_path(path: str | os.PathLike[str]) -> None:
    """Make sure that a plot can be written in the format that a path asks for.

    Raises:
        InputError: If its ending is none of :data:`FORMATS`.
    """
    if Path(path).suffix.lower() not in FORMATS:
        raise InputError(
            f"a plot's file name must end in one of {', '.join(FORMATS)} (got {os.fspath(path)!r})"
        )


def denoising_plot(history: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any]) -> Figure:
    """Plot a denoising run.

    Args:
        history: Events of a ticket's ``history``, at least one.
        metrics: Metrics of the ticket; ``val_dense`` becomes a dashed line if it is there.

    Returns:
        A figure of its own, outside pyplot.

    Raises:
        InputError: If there are no events.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    if not history:
        raise InputError("the ticket has no denoising events to plot (its history is empty)")
    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True)
    plot_metric(upper, history, metrics)
    plot_masks(lower, history)
    for axes in (upper, lower):
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=None))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(
                loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize="small", frameon=False
            )
    lower.set_xlabel("denoising step")
    return figure


def save_denoising_plot(
    path: str | os.PathLike[str],
    history: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
) -> None:
    """Plot a denoising run into a file.

    Args:
        path: Ends in one of :data:`FORMATS`.
        history: See :func:`denoising_plot`.
        metrics: See :func:`denoising_plot`.

    Raises:
        InputError: If there are no events or the format is unknown.
        OutputPathError: If the file cannot be written.
    """
    check_plot_path(path)
    figure = denoising_plot(history, metrics)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix[1:].lower(), dpi=150)


def plot_metric(
    axes: Axes,
    history: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
    *,
    ink: str = "black",
) -> None:
    """Plot the validation metric by step, with a line for the dense model.

    Args:
        axes: What to draw on.
        history: See :func:`denoising_plot`.
        metrics: See :func:`denoising_plot`.
        ink: Colour of the line.
    """
    measured = [
        (event["step"], event["metric"]) for event in history if event["metric"] is not None
    ]
    if measured:
        axes.plot(*zip(*measured, strict=True), "o-", color=_METRIC, label="pruned, searching")
    dense = metrics.get("val_dense")
    if dense is not None:
        axes.axhline(dense, color=ink, linestyle="--", linewidth=1, label="dense, trained")
    axes.set_ylabel(f"validation {metrics.get('metric', 'metric')}")


def plot_masks(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    """Plot the share that is swapped and what is left of the one-shot mask, by step."""
    steps = [event["step"] for event in history]
    shares = [event["share"] for event in history]
    axes.plot(steps, shares, "o-", color=_SWAPPED, label="share swapped")
    for kind, color in KINDS:
        # A mask that prunes nothing agrees with itself; a line at 100 % would say nothing.
        if any(event[f"{kind}_sparsity"] > 0 for event in history):
            overlap = [event[f"{kind}_overlap"] for event in history]
            axes.plot(steps, overlap, "s-", color=color, label=f"{kind}s of the one-shot mask")
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("share of the kept")
