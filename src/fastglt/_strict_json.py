"""JSON that survives a round trip: finite numbers, string keys, no repeated keys, valid text."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

from fastglt.errors import InputError

MAX_DEPTH = 64
"""Deepest nesting that is written or read; deeper documents could exhaust the stack."""


def check(value: object, where: str, depth: int = 0) -> None:
    """Make sure that ``value`` can be written as strict JSON.

    Args:
        value: None, bool, int, finite float, str, list, tuple (read back as a list) or dict with
            string keys, nested at will.
        where: How to name ``value`` in an error, e.g. ``"metrics"``.
        depth: Nesting level of ``value`` in its document.

    Raises:
        InputError: Something in ``value`` has no JSON form; the message names the place.
    """
    if depth > MAX_DEPTH:
        raise InputError(f"{where} is nested deeper than {MAX_DEPTH} levels; flatten it")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InputError(f"keys of {where} must be strings (got {key!r}); use str(key)")
            _check_text(key, f"key {key!r} of {where}")
            check(item, f"{where}[{key!r}]", depth + 1)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            check(item, f"{where}[{index}]", depth + 1)
    else:
        _check_scalar(value, where)


def dumps(value: object, where: str, *, sort_keys: bool = False) -> str:
    """Write ``value`` as strict JSON.

    Args:
        value: See :func:`check`.
        where: How to name ``value`` in an error.
        sort_keys: Whether to order the keys of every dict, for a text to be compared or hashed.

    Returns:
        str: Valid UTF-8 text without superfluous blanks.

    Raises:
        InputError: Something in ``value`` has no JSON form.
    """
    check(value, where)
    return json.dumps(
        value, allow_nan=False, ensure_ascii=False, separators=(",", ":"), sort_keys=sort_keys
    )


def loads(text: str | bytes) -> Any:
    """Read strict JSON, refusing what other readers would silently repair.

    Args:
        text: The document; bytes must be UTF-8.

    Returns:
        Any: Dicts, lists and scalars.

    Raises:
        ValueError: Not JSON, a repeated key, a number that is not finite, or nested too deeply.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    try:
        value = json.loads(
            text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant
        )
    except RecursionError:
        raise ValueError(f"JSON nested deeper than {MAX_DEPTH} levels") from None
    check(value, "JSON document")
    return value


def _check_scalar(value: object, where: str) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        _check_text(value, where)
    elif isinstance(value, int):
        if abs(value) >= 2**64:
            raise InputError(f"{where} must fit in 64 bits (got a larger integer)")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InputError(f"{where} must be finite (got {value}); leave it out or use None")
    else:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise InputError(
            f"{where} must be None, bool, int, float, str, list or dict (got {kind}); "
            "convert it first, e.g. with .item() or .tolist()"
        )


def _check_text(text: str, where: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"{where} must be valid Unicode text (it has a lone surrogate)") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the name {name!r} occurs twice in a JSON object")
    return result


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
