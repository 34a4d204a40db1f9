"""Settings and provenance of a study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastglt.report import wording
from fastglt.study.cells import Cell
from fastglt.study.summary import common_key

_MOST = 6
"""Most values that are listed one by one."""
# They name the row or the table that settings belong to.
_NAMES = ("method", "seed", "edge_sparsity", "weight_sparsity")


@dataclass(frozen=True)
class Setting:
    """A setting with the value that all have, or one value for each method."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Settings:
    """Settings of a subject.

    Attributes:
        labels: Names of the methods.
        common: What is the same for all of them.
        different: What is not: one value a method.
    """

    labels: tuple[str, ...]
    common: tuple[Setting, ...]
    different: tuple[Setting, ...]


def settings(groups: Mapping[str, Sequence[Cell]]) -> Settings:
    """Settings of the cells of a subject.

    Args:
        groups: Its cells by the name of their method, in the order of the columns.
    """
    labels = tuple(groups)
    by_label: dict[str, dict[str, list[str]]] = {label: {} for label in labels}
    for label, cells in groups.items():
        for cell in cells:
            for name, value in flat(cell.settings).items():
                if name not in _NAMES:
                    by_label[label].setdefault(name, []).append(wording.plain(value))
    first = next(iter(groups.values()))[0]
    names = dict.fromkeys(name for values in by_label.values() for name in values)
    rows = [
        Setting(name, tuple(_distinct(by_label[label].get(name, [])) for label in labels))
        for name in sorted(names)
    ]
    shared = [
        Setting(name, (wording.plain(value),))
        for name, value in flat(common_key(first)).items()
        if value is not None
    ]
    same = [Setting(row.name, row.values[:1]) for row in rows if len(set(row.values)) == 1]
    return Settings(
        labels,
        (*shared, *same),
        tuple(row for row in rows if len(set(row.values)) > 1),
    )


def provenance(cells: Iterable[Cell]) -> list[Setting]:
    """Distinct values over all cells of what results depend on besides the settings."""
    values: dict[str, list[str]] = {}
    for cell in cells:
        for name, value in flat(cell.provenance).items():
            values.setdefault(name, []).append(wording.plain(value))
    return [Setting(name, (_distinct(values[name]),)) for name in sorted(values)]


def notes(cells: Iterable[Cell]) -> list[tuple[str, str]]:
    """Notes of the runs and the methods that they are from, each once."""
    labels: dict[str, list[str]] = {}
    for cell in cells:
        for note in cell.notes:
            labels.setdefault(note, []).append(cell.label)
    return [(note, wording.listed(sorted(set(of)))) for note, of in sorted(labels.items())]


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values under dotted names, such as ``split.train``."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[f"{prefix}{name}"] = value
    return result


def _distinct(values: Iterable[str]) -> str:
    """All different values; of many only how many, the first and the last."""
    different = sorted(set(values))
    if len(different) > _MOST:
        return f"{len(different)} different, {different[0]} … {different[-1]}"
    return " · ".join(different)
