"""Mutations of bytes and of JSON documents.

All take a :class:`random.Random`, by which a change can be made again.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from random import Random
from typing import Any

DEEP = 3000
"""Nesting of documents that would exhaust the stack."""

EDGES = (0, 1, 7, 8, 0xFF, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
"""Numbers at which sizes overflow."""

TEXTS = (
    "",
    "\x00",
    "\ufeff",
    "\u202etxt.exe",
    "\x1b[2J",
    "../../../../etc/passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "https://example.org/x",
    "C:\\Windows\\win.ini",
    "__class__",
    "{0.__class__.__init__.__globals__}",
    "%s%n",
    "<script>alert(1)</script>",
    "__import__('os').system('true')",
    "x" * 20_000,
    "nan",
    "1",
    "I64",
    "F32",
)

VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0.5, -0.5, 1e308, -0.0, 1e-320, [], {}, [[]], [None], {"": {}}),
    *EDGES,
    *(-(2**63), 2**64, 2**70, 10**30),
    *TEXTS,
)

RAW = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "9" * 5000,
    "01",
    '"\\ud800"',
    '{"a":1,"a":2}',
    "[" * DEEP + "]" * DEEP,
    '{"a":' * DEEP + "1" + "}" * DEEP,
    "[" * 70 + "]" * 70,
    "'x'",
    "",
)
"""Texts that no encoder writes."""

_PLACE = "raw text {} goes here"


def mutate_bytes(rng: Random, data: bytes, other: bytes = b"") -> bytes:
    """A few changes anywhere: bits, bytes, numbers, lengths, order, parts of ``other``."""
    result = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        rng.choice(_BYTE_CHANGES)(rng, result, other)
    return bytes(result)


def mutate_json(rng: Random, value: Any, extra: Sequence[Any] = ()) -> str:
    """A changed copy of a document as JSON text, which need not be valid JSON.

    Args:
        rng: Chooses.
        value: The document.
        extra: Further values to put into it.
    """
    value, raw = copy.deepcopy(value), []
    for _ in range(rng.randint(1, 3)):
        value = _changed(rng, value, extra, raw)
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    for index, part in enumerate(raw):
        text = text.replace(json.dumps(_PLACE.format(index)), part, 1)
    if rng.random() < 0.05:
        text = _with_a_repeated_key(rng, text)
    return text


def hostile(rng: Random, extra: Sequence[Any] = ()) -> Any:
    """A value that a reader may not expect."""
    return copy.deepcopy(rng.choice([*VALUES, *extra]))


def _changed(rng: Random, value: Any, extra: Sequence[Any], raw: list[str]) -> Any:
    parent, key = _place(rng, value)
    if parent is None:
        return _other_value(rng, value, extra, raw)
    change = rng.randrange(6)
    if change == 0:
        del parent[key]
    elif change == 1 and isinstance(parent, dict):
        name = hostile(rng)
        parent[name if isinstance(name, str) else f"{key}{name}"] = parent.pop(key)
    elif change == 2 and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(rng.choice(parent)))
    elif change == 3:
        _, other = _place(rng, value)
        if isinstance(parent, dict) and isinstance(other, str):
            parent[other] = copy.deepcopy(parent[key])
    else:
        parent[key] = _other_value(rng, parent[key], extra, raw)
    return value


def _place(rng: Random, value: Any) -> tuple[Any, Any]:
    """A container within a document and one of its keys."""
    parent, key = None, None
    while isinstance(value, (dict, list)) and value:
        parent = value
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        value = value[key]
        if rng.random() < 0.2:
            break
    return parent, key


def _other_value(rng: Random, value: Any, extra: Sequence[Any], raw: list[str]) -> Any:
    change = rng.randrange(8)
    if change == 0:
        raw.append(rng.choice(RAW))
        return _PLACE.format(len(raw) - 1)
    if change == 1:
        return [value]
    if change == 2:
        return {"name": value}
    if isinstance(value, int | float) and not isinstance(value, bool) and change < 6:
        return value + rng.choice((-1, 1, 0.5, 2**31, -value, value))
    if isinstance(value, str) and value and change < 5:
        place = rng.randrange(len(value))
        return value[:place] + rng.choice(TEXTS) + value[place + rng.randint(0, 1) :]
    return hostile(rng, extra)


def _with_a_repeated_key(rng: Random, text: str) -> str:
    starts = [index for index, sign in enumerate(text) if sign == "{"]
    if not starts:
        return text
    start = rng.choice(starts) + 1
    end = text.find(":", start)
    return f"{text[:start]}{text[start:end]}:0,{text[start:]}" if end > 0 else text


def _flip(rng: Random, data: bytearray, _other: bytes) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(rng: Random, data: bytearray, _other: bytes) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice((0, 0xFF, 0x7F, 0x80, rng.randrange(256)))


def _number(rng: Random, data: bytearray, _other: bytes) -> None:
    size = rng.choice((2, 4, 8))
    if len(data) >= size:
        place = rng.randrange(len(data) - size + 1)
        number = rng.choice(EDGES) & ((1 << 8 * size) - 1)
        data[place : place + size] = number.to_bytes(size, rng.choice(("little", "big")))


def _truncate(rng: Random, data: bytearray, _other: bytes) -> None:
    del data[rng.randint(0, len(data)) :]


def _delete(rng: Random, data: bytearray, _other: bytes) -> None:
    start = rng.randint(0, len(data))
    del data[start : start + rng.randint(0, 64)]


def _repeat(rng: Random, data: bytearray, _other: bytes) -> None:
    start = rng.randint(0, len(data))
    part = data[start : start + rng.randint(0, 64)]
    place = rng.randint(0, len(data))
    data[place:place] = part * rng.choice((1, 2, 100))


def _insert(rng: Random, data: bytearray, _other: bytes) -> None:
    place = rng.randint(0, len(data))
    data[place:place] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 16)))


def _splice(rng: Random, data: bytearray, other: bytes) -> None:
    start = rng.randint(0, len(other))
    place = rng.randint(0, len(data))
    data[place : place + rng.randint(0, 256)] = other[start : start + rng.randint(0, 256)]


_BYTE_CHANGES = (
    _flip,
    _flip,
    _set,
    _number,
    _number,
    _truncate,
    _delete,
    _repeat,
    _insert,
    _splice,
)
