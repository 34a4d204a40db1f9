"""Colours and settings of all figures.

The colours are those of Okabe and Ito, which colour-blind people can tell apart. In the report
each is a CSS variable, so that figures follow the page into the dark.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

BLUE: Final = "#0072b2"
VERMILLION: Final = "#d55e00"
GREEN: Final = "#009e73"
PINK: Final = "#cc79a7"
ORANGE: Final = "#e69f00"
SKY: Final = "#56b4e9"
INK: Final = "#1b1b1b"
"""Text and axes."""
PAPER: Final = "#fefefe"
"""What lies behind a figure."""
BACKGROUND: Final = "#ffffff"
"""Of a file; the page has its own."""
MUTED: Final = "#6b6b6b"
"""What is there for comparison."""
GRID: Final = "#dcdcdc"

CSS_COLOURS: Final = {
    INK: "currentColor",
    PAPER: "var(--paper)",
    BACKGROUND: "none",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    BLUE: "var(--blue)",
    VERMILLION: "var(--vermillion)",
    GREEN: "var(--green)",
    PINK: "var(--pink)",
    ORANGE: "var(--orange)",
    SKY: "var(--sky)",
}
"""How each colour is written in the report."""

SERIES: Final = (BLUE, VERMILLION, GREEN, PINK, ORANGE, SKY, MUTED)
"""Colours of lines that stand side by side."""
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
"""Markers of such lines: not by colour alone."""

WIDTH: Final = 4.6
"""Width of a figure in inches: narrow, so that its text can be read on a phone."""

_SETTINGS: Final[dict[Any, Any]] = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.facecolor": "none",
    "legend.frameon": False,
    "font.size": 10,
    "legend.fontsize": 9,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "axes.unicode_minus": True,
    # What people call their graphs and methods is text, also where it has a dollar sign.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "fastglt",
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw with the report's settings, whatever the user's own are."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield
