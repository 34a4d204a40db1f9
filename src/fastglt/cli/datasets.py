"""``fastglt datasets``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastglt.cli import formats
from fastglt.cli.options import RootOptions, validated
from fastglt.cli.output import Output, print_json

if TYPE_CHECKING:
    from fastglt.data.loading import DatasetRow

HEADER = ("name", "nodes", "edges", "features", "classes", "task", "metric", "where")
TEXT = (0, 5, 6, 7)
"""Columns that hold no numbers."""


def run(given: Mapping[str, Any]) -> None:
    """List the datasets that have a name, and where they are."""
    from fastglt.data import listing

    rows = listing(validated(RootOptions, given).root)
    if given.get("json"):
        print_json([dataclasses.asdict(row) for row in rows])
        return
    output = Output()
    output.table(HEADER, [_cells(row) for row in rows], text=TEXT)
    by_source: dict[str, list[str]] = {}
    for row in rows:
        by_source.setdefault(row.source, []).append(row.name)
    for source, names in by_source.items():
        output.line()
        output.line(f"{source}:")
        output.line(f"  {', '.join(names)}")


def _cells(row: DatasetRow) -> tuple[str, ...]:
    sizes = (row.num_nodes, row.num_edges, row.num_features, row.num_classes)
    # No graph has 0 classes; those without any have another task.
    counts = (formats.count(size) if size else "-" for size in sizes)
    return (row.name, *counts, row.task, row.metric, row.where)
