"""Where text goes: rich tables on a terminal, plain aligned columns anywhere else."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table

from fastglt._atomic import atomic_write

STDOUT = Path("-")
"""The path that stands for stdout."""

Row = Sequence[str]


class Output:
    """Prints lines and tables.

    Args:
        stream: Where to; ``None`` is stdout.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._console: Console | None = None
        if self._stream.isatty():
            self._console = Console(file=self._stream, highlight=False, markup=False, emoji=False)

    def line(self, text: str = "") -> None:
        """One line, never wrapped."""
        self._stream.write(f"{text}\n")

    def table(self, header: Row, rows: Sequence[Row], *, text: Container[int] = (0,)) -> None:
        """A table.

        Args:
            header: Names of the columns.
            rows: Cells by row, as many as there are columns.
            text: Columns of text; the others hold numbers and are aligned to the right.
        """
        if self._console is None:
            for row in _aligned([header, *rows], text):
                self.line(row)
        else:
            self._console.print(_rich_table(header, rows, text))


def print_json(value: Any) -> None:
    """Print a value as JSON, for programs and for people."""
    sys.stdout.write(_as_json(value))


def write_json(value: Any, path: Path) -> None:
    """Write a value into a JSON file, or to stdout if the path is ``-``.

    Raises:
        OutputPathError: If the file cannot be written.
    """
    if path == STDOUT:
        print_json(value)
        return
    with atomic_write(path) as temporary:
        temporary.write_text(_as_json(value), encoding="utf-8")


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Warnings go to stderr as one line each, without a place in the code, within the context."""
    with warnings.catch_warnings():
        warnings.showwarning = _as_line
        yield


def _as_line(message: Warning | str, *_: Any, **__: Any) -> None:
    sys.stderr.write(f"warning: {message}\n")


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def _rich_table(header: Row, rows: Sequence[Row], text: Container[int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index in text else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _aligned(rows: Sequence[Row], text: Container[int]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index in text else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
