"""Numbers and names as the report writes them."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Sequence
from typing import Any

from fastglt.study.statistics import Interval

NOTHING = "–"
"""For what was not measured."""
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_LARGE = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def clean(text: str) -> str:
    """Text without control characters, which could break a line or turn its direction."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(sign) in _UNPRINTABLE else sign
        for sign in text
    )


def short(text: str, length: int = 26) -> str:
    """Clean text, cut to a length that a figure has room for."""
    text = clean(text)
    return text if len(text) <= length else text[: length - 1] + "…"


def number(value: float, digits: int = 2) -> str:
    """``-0.004`` -> ``0.00``, ``-1.5`` -> ``−1.50``."""
    text = f"{value:,.{digits}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def signed(value: float, digits: int = 2) -> str:
    """``0.34`` -> ``+0.34``, ``-0.004`` -> ``0.00``."""
    text = number(value, digits)
    is_zero = float(text.replace(",", "").replace("−", "-")) == 0
    return text if is_zero or text.startswith("−") else f"+{text}"


def points(value: float) -> str:
    """A difference with its unit: ``−0.12 points``."""
    return f"{signed(value)} points"


def plus_minus(value: Interval) -> str:
    """``81.52 ± 0.35``; without ± where a single run leaves nothing to estimate it from."""
    if not math.isfinite(value.half_width):
        return number(value.mean)
    return f"{number(value.mean)} ± {number(value.half_width)}"


def bounds(value: Interval) -> str:
    """``−0.41 to +0.17``."""
    if not math.isfinite(value.half_width):
        return "no interval"
    return f"{signed(value.low)} to {signed(value.high)}"


def percent(share: float) -> str:
    """``0.995`` -> ``99.5 %``."""
    return f"{100 * share:.4g} %".replace("-", "−")


def count(value: float) -> str:
    """``12345`` -> ``12,345``."""
    return f"{value:,.0f}"


def large(value: float) -> str:
    """``2012345678`` -> ``2.01 G``."""
    for unit, suffix in _LARGE:
        if value >= 0.9995 * unit:
            return f"{_three_digits(value / unit)} {suffix}"
    return _three_digits(value)


def size(num_bytes: float) -> str:
    """``8023456`` -> ``8.02 MB``."""
    text = large(num_bytes)
    return f"{text}B" if " " in text else f"{text} B"


def seconds(value: float) -> str:
    """``83.42`` -> ``83.4 s``."""
    return f"{_three_digits(value)} s"


def plural(amount: int, name: str) -> str:
    """``1 seed``, ``10 seeds``."""
    return f"{count(amount)} {name}{'' if amount == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def budget(edge_sparsity: float, weight_sparsity: float) -> str:
    """``30 % of edges and 95 % of weights removed``."""
    parts = [
        f"{percent(sparsity)} of {name}"
        for sparsity, name in ((edge_sparsity, "edges"), (weight_sparsity, "weights"))
        if sparsity > 0
    ]
    return f"{listed(parts)} removed" if parts else "nothing removed"


def plain(value: Any) -> str:
    """Any JSON value on one line."""
    if isinstance(value, str):
        return value or NOTHING
    if isinstance(value, float):
        return f"{value:.6g}"
    if value is None:
        return NOTHING
    return json.dumps(value, ensure_ascii=False)


def _three_digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
