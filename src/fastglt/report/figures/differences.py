"""Methods of one budget against dense: paired differences with their intervals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fastglt.report import wording
from fastglt.report.figures.canvas import hollow, legend_below, new_figure, row_height
from fastglt.report.style import BLUE, INK, MUTED, VERMILLION
from fastglt.report.subjects import rows_in_order
from fastglt.study.statistics import Verdict
from fastglt.study.summary import Comparison, Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {Verdict.WINS: BLUE, Verdict.LOSES: VERMILLION, Verdict.INCONCLUSIVE: MUTED}
_MARGINS = 12
"""How many margins to either side of dense are shown at most."""


def differences(table: Table) -> Figure:
    """Plot a table's comparisons, with dense and like for like.

    Args:
        table: At least one of its rows is compared with dense.
    """
    rows = [row for row in rows_in_order(table) if row.versus_dense is not None]
    low, high = limits(table)
    figure = new_figure(row_height(len(rows), each=0.36, rest=1.3))
    axes = figure.subplots()
    axes.axvline(0, color=INK, linewidth=1)
    axes.axvline(-table.margin, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    for place, row in enumerate(rows):
        for compared, marker, offset in _comparisons(row):
            _draw(axes, compared, place + offset, marker, (low, high))
    axes.set_yticks(range(len(rows)), [wording.short(row.label) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(low, high)
    axes.set_xlabel(f"points of {wording.short(table.metric)}, minus dense")
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    legend_below(figure, axes, columns=3, handles=_legend(table), fontsize=8)
    return figure


def limits(table: Table) -> tuple[float, float]:
    """Ends of the axis: all intervals, but not farther from dense than makes sense."""
    margin = max(table.margin, 0.25)
    low, high = -2 * margin, 2 * margin
    for row in table.rows:
        for compared in (row.versus_dense, row.versus_like):
            if compared is not None:
                interval = compared.test.difference
                ends = [interval.mean, *filter(math.isfinite, (interval.low, interval.high))]
                low, high = min(low, *ends), max(high, *ends)
    room = 0.06 * (high - low)
    most = _MARGINS * margin
    return max(low - room, -most), min(high + room, most)


def _comparisons(row: Row) -> list[tuple[Comparison, str, float]]:
    both = row.versus_dense, row.versus_like
    dense, like = both
    if dense is None:
        return []
    if like is None or like.test == dense.test:
        return [(dense, "o", 0.0)]
    return [(dense, "o", -0.14), (like, "s", 0.18)]


def _draw(
    axes: Axes, compared: Comparison, place: float, marker: str, ends: tuple[float, float]
) -> None:
    color = COLOURS[compared.verdict]
    low, high = ends
    interval = compared.test.difference
    if not low <= interval.mean <= high:
        _point_outside(axes, compared, place, marker, ends)
        return
    if math.isfinite(interval.half_width):
        axes.plot([interval.low, interval.high], [place] * 2, color=color, linewidth=2)
    look = hollow(color) if compared.verdict is Verdict.INCONCLUSIVE else {}
    axes.plot(interval.mean, place, marker, color=color, markersize=6, **look)


def _point_outside(
    axes: Axes, compared: Comparison, place: float, marker: str, ends: tuple[float, float]
) -> None:
    """An arrow with the number of what lies beyond the axis."""
    mean = compared.test.difference.mean
    is_left = mean < ends[0]
    color = COLOURS[compared.verdict]
    axes.annotate(
        wording.signed(mean, 1) + (" (like for like)" if marker == "s" else ""),
        xy=(ends[0] if is_left else ends[1], place),
        xytext=(18 if is_left else -18, 0),
        textcoords="offset points",
        ha="left" if is_left else "right",
        va="center",
        fontsize=8,
        color=color,
        arrowprops={"arrowstyle": "->", "color": color, "linewidth": 1.5},
    )


def _legend(table: Table) -> list[object]:
    from matplotlib.lines import Line2D

    compared = [item for row in table.rows for item in _comparisons(row)]
    handles: list[object] = [
        Line2D(
            [], [], marker="o", color=COLOURS[verdict], label=verdict.value,
            **(hollow(COLOURS[verdict]) if verdict is Verdict.INCONCLUSIVE else {}),
        )
        for verdict in Verdict
        if any(each.verdict is verdict for each, _, _ in compared)
    ]  # fmt: skip
    if any(marker == "s" for _, marker, _ in compared):
        handles += [
            Line2D([], [], marker=marker, linestyle="", color=INK, label=label, **hollow(INK))
            for marker, label in (("o", "vs dense"), ("s", "like for like"))
        ]
    handles.append(Line2D([], [], color=INK, linestyle=(0, (4, 3)), linewidth=1, label="margin"))
    return handles
