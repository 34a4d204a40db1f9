"""Fills in the tables of settings and options, from the models that the program itself reads.

A line ``[[settings]]`` becomes the table of all settings, ``[[options NAME]]`` that of one of the
option models of :mod:`fastglt.cli.options`. mkdocs calls :func:`on_page_markdown`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from fastglt.cli import options, signature
from fastglt.settings import DenoiseConfig, Settings

_PLACE = re.compile(r"^\[\[(settings|options) ?(\w*)\]\]$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the tables in."""
    return _PLACE.sub(_table, markdown)


def _table(place: re.Match[str]) -> str:
    if place[1] == "settings":
        return "\n".join(_settings())
    return "\n".join(_options(getattr(options, place[2])))


def _settings() -> Iterator[str]:
    yield "| setting | meaning | `Denoiser` |"
    yield "|---|---|---|"
    for name, _, text in _rows(Settings):
        yield f"| `{name}` | {text} | {'yes' if name in DenoiseConfig.model_fields else ''} |"


def _options(spec: type[BaseModel]) -> Iterator[str]:
    yield "| option | meaning |"
    yield "|---|---|"
    for name, metavar, text in _rows(spec):
        yield f"| `--{name.replace('_', '-')}{metavar}` | {text} |"


def _rows(spec: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    for name, field in options.option_fields(spec):
        kind = signature._metavar(name, field)
        metavar = f" {kind}" if kind else ""
        text = signature._help(name, field)
        yield name, metavar, text.replace("|", "\\|").replace("*", "\\*")
