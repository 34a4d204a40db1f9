"""``fastglt datasets``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from fastglt.cli import formats
from fastglt.cli.options import RootOptions, validated
from fastglt.cli.output import Output, print_json

HEADER = ("name", "nodes", "edges", "features", "classes", "task", "metric", "where", "source")


def run(given: Mapping[str, Any]) -> None:
    """List the datasets that have a name, and where they are."""
    from fastglt.data import listing

    rows = listing(validated(RootOptions, given).root)
    if given.get("json"):
        print_json([dataclasses.asdict(row) for row in rows])
        return
    table = [
        (
            row.name,
            formats.count(row.num_nodes),
            formats.count(row.num_edges),
            formats.count(row.num_features),
            formats.count(row.num_classes),
            row.task,
            row.metric,
            row.where,
            row.source,
        )
        for row in rows
    ]
    Output().table(HEADER, table, numeric=False)
