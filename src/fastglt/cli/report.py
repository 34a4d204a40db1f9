"""``fastglt report``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastglt._atomic import check_writable
from fastglt.cli import formats
from fastglt.cli.options import ReportOptions, validated
from fastglt.cli.output import Output
from fastglt.errors import InputError
from fastglt.study.cells import cells_file, read_cells
from fastglt.study.plan import Plan


def run(study: str, given: Mapping[str, Any]) -> None:
    """Write a report of a study: one HTML file that needs no network."""
    options = validated(ReportOptions, given)
    folder = Path(study)
    check_writable(options.out)
    cells = read_cells(folder)
    if not cells:
        raise InputError(
            f"there are no finished runs in {str(cells_file(folder))!r}; run fastglt compare or "
            f"fastglt frontier with --out {study}"
        )
    plan = Plan.load(folder)
    from fastglt.report.html import write_report

    output = Output()
    written = write_report(
        cells,
        options.out,
        margin=Plan().margin if plan is None else plan.margin,
        looks=None if plan is None else plan.looks,
        plots=options.plots,
    )
    for path in written:
        output.line(f"wrote {formats.text(str(path))} ({formats.size(path.stat().st_size)})")
