"""The report of a study: one HTML file that needs nothing else, and its figures as files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastglt._atomic import atomic_write, check_writable
from fastglt.errors import InputError, OutputPathError
from fastglt.report import wording
from fastglt.report.context import SubjectView, subject_view
from fastglt.report.drawing import Drawn, drawn
from fastglt.report.provenance import provenance
from fastglt.report.subjects import subjects
from fastglt.study.cells import Cell

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATE = "template.html.j2"


@dataclass(frozen=True)
class Report:
    """A report that is not yet written.

    Attributes:
        html: The page.
        files: Contents of the figures' files by name.
    """

    html: str
    files: Mapping[str, bytes]


def write_report(
    cells: Sequence[Cell],
    out: Path,
    *,
    margin: float = 0.5,
    looks: Sequence[int] | None = None,
    plots: Path | None = None,
) -> list[Path]:
    """Write the report of a study's cells.

    The same cells give the same bytes, whatever their order.

    Args:
        cells: At least one.
        out: The HTML file.
        margin: Largest loss that still counts as none, in points.
        looks: Number of seeds at each look at the data, see :func:`fastglt.study.summary.tables`.
        plots: A folder that gets every figure as PNG and SVG; it is made if it is not there.

    Returns:
        The files that were written, the page first.

    Raises:
        InputError: If there are no cells, or one has figures that cannot be read.
        OutputPathError: If a file cannot be written.
    """
    check_writable(out)
    report = make_report(cells, margin=margin, looks=looks, files=plots is not None)
    written = [_write(out, report.html.encode())]
    if plots is not None:
        _make_folder(plots)
        written += [_write(plots / name, content) for name, content in report.files.items()]
    return written


def make_report(
    cells: Sequence[Cell],
    *,
    margin: float = 0.5,
    looks: Sequence[int] | None = None,
    files: bool = False,
) -> Report:
    """Make the report of a study's cells without writing it.

    Args:
        cells: At least one.
        margin: Largest loss that still counts as none, in points.
        looks: Number of seeds at each look at the data, see :func:`fastglt.study.summary.tables`.
        files: Whether to make the figures' files.

    Raises:
        InputError: If there are no cells, or one has figures that cannot be read.
    """
    if not cells:
        raise InputError("there are no finished cells to report on; run the study first")
    found = subjects(cells, margin, looks)
    views = [subject_view(subject, number, margin) for number, subject in enumerate(found, 1)]
    figures = {
        drawing.name: drawn(drawing, files=files) for view in views for drawing in view.drawings
    }
    ordered = [cell for subject in found for cell in subject.cells]
    page = {
        "title": _title(views),
        "subjects": views,
        "margin": f"{margin:g}",
        "num_looks": len(looks or (1,)),
        "num_cells": len(ordered),
        "has_ugs": any(cell.method == "ugs" for cell in ordered),
        "provenance": provenance(ordered),
    }
    return Report(_render(page, figures), _files(figures.values()) if files else {})


def _title(views: Sequence[SubjectView]) -> str:
    if len(views) == 1:
        return views[0].name
    return f"{len(views)} graphs and models"


def _render(page: Mapping[str, Any], figures: Mapping[str, Drawn]) -> str:
    environment = _environment()
    from markupsafe import Markup

    # Our own elements; every text in them was escaped when they were written.
    inline = {name: Markup(figure.inline) for name, figure in figures.items()}
    return environment.get_template(_TEMPLATE).render(page, inline=inline)


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def finalize(value: object) -> object:
        is_text = isinstance(value, str) and not isinstance(value, Markup)
        return wording.clean(str(value)) if is_text else value

    return Environment(
        loader=PackageLoader("fastglt.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _files(figures: Iterable[Drawn]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for figure in figures:
        files[f"{figure.name}.png"] = figure.png
        files[f"{figure.name}.svg"] = figure.svg
    return files


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputPathError(f"folder {str(folder)!r} cannot be made: {reason}") from error


def _write(path: Path, content: bytes) -> Path:
    with atomic_write(path) as temporary:
        try:
            temporary.write_bytes(content)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputPathError(f"{str(path)!r} cannot be written: {reason}") from error
    return path
