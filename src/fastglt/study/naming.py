"""Names for what would be called the same: the settings by which it differs are added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastglt import _strict_json

MOST = 3
"""So many differing settings are named; with more of them, a number has to do."""


def distinguished(names: Sequence[str], specs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names, those that occur more than once with what sets them apart.

    Args:
        names: One of each thing.
        specs: What each was made by, JSON-able.

    Returns:
        ``"fastglt [alpha 0.3]"``; a number in place of the settings where they are too many, or the
        same.
    """
    result = list(names)
    for name in {name for name in names if names.count(name) > 1}:
        places = [place for place, other in enumerate(names) if other == name]
        flat = [_flat(specs[place]) for place in places]
        keys = dict.fromkeys(key for each in flat for key in each)
        differing = [key for key in keys if len({each.get(key) for each in flat}) > 1]
        suffixes = [_suffix(each, differing) for each in flat]
        if len(differing) > MOST or len(set(suffixes)) < len(suffixes):
            suffixes = [str(number) for number in range(1, len(places) + 1)]
        for place, suffix in zip(places, suffixes, strict=True):
            result[place] = f"{name} [{suffix}]"
    return result


def _flat(spec: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Every value by the path to it, as JSON."""
    flat: dict[str, str] = {}
    for key, value in spec.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{path}.")
        else:
            flat[path] = _strict_json.dumps(value, path)
    return flat


def _suffix(flat: Mapping[str, str], keys: Sequence[str]) -> str:
    return ", ".join(
        f"{key.rpartition('.')[2].replace('_', ' ')} {flat.get(key, 'none').strip(chr(34))}"
        for key in keys
    )
