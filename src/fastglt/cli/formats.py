"""Numbers and values as people read them, in plain ASCII."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

_LARGE = ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"))


def percent(value: float) -> str:
    """``0.95`` -> ``95.00 %``."""
    return f"{100 * value:.2f} %"


def count(value: float) -> str:
    """``12345`` -> ``12,345``."""
    return f"{value:,.0f}"


def seconds(value: float) -> str:
    """``83.42`` -> ``83.4 s``."""
    return f"{value:,.1f} s"


def large(value: float) -> str:
    """``2012345678`` -> ``2.0 G``."""
    for unit, suffix in _LARGE:
        # What would round up to 1000.0 of a unit is 1.0 of the next one.
        if value >= 0.99995 * unit:
            return f"{value / unit:.1f}{suffix}"
    return f"{value:.0f}"


def size(num_bytes: int) -> str:
    """``8023456`` -> ``8.0 MB``."""
    text = large(num_bytes)
    return f"{text}B" if " " in text else f"{text} bytes"


def cell(value: object, number_format: Callable[[float], str]) -> str:
    """A table cell: a number in its format, ``-`` for what is not there, else the value itself."""
    if value is None:
        return "-"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return number_format(value)
    return text(value)


def text(value: Any) -> str:
    """Any JSON value on one line, with everything unprintable escaped: files may be foreign."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return value if value.isascii() and value.isprintable() else json.dumps(value)
    return json.dumps(value)
