"""Figures as inline SVG that follows the page into the dark, and as PNG and SVG files."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

from fastglt.report.style import BACKGROUND, CSS_COLOURS, figure_style
from fastglt.report.wording import clean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SVG: Final = "{http://www.w3.org/2000/svg}"
_HREF: Final = "{http://www.w3.org/1999/xlink}href"
_REFERENCE: Final = re.compile(r"url\(#([^)]*)\)")
_COLOUR: Final = re.compile(r"#[0-9a-f]{6}\b")


@dataclass(frozen=True)
class Drawing:
    """A figure to be drawn.

    Attributes:
        name: Its file name without an ending; ids within the figure begin with it.
        title: What it shows, for those who do not see it.
        caption: What to read from it.
        draw: Makes it.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]


@dataclass(frozen=True)
class Drawn:
    """A figure that was drawn.

    Attributes:
        name: As of the :class:`Drawing`.
        inline: SVG element for the page.
        png: File on white; empty if it was not wanted.
        svg: Likewise, but always there.
    """

    name: str
    inline: str
    png: bytes
    svg: bytes


def drawn(drawing: Drawing, *, files: bool) -> Drawn:
    """Draw a figure.

    Args:
        drawing: What to draw.
        files: Whether the PNG file is wanted.
    """
    with figure_style(), _any_script():
        figure = drawing.draw()
        svg = _saved(figure, "svg")
        figure.set_layout_engine("none")  # what was laid out for one file stays for the other
        png = _saved(figure, "png") if files else b""
    inline = inline_svg(svg, drawing.name, clean(drawing.title))
    return Drawn(drawing.name, inline, png, svg)


def inline_svg(document: bytes, prefix: str, title: str) -> str:
    """Turn a file of matplotlib's into an element of a page.

    Ids become unique on the page, colours CSS variables, and what concerns files only goes.

    Args:
        document: The file.
        prefix: What ids are to begin with.
        title: Text alternative.
    """
    root = ElementTree.fromstring(document)
    for parent in list(root.iter()):
        _remove_file_parts(parent)
    used = set(_references(root))
    for element in root.iter():
        _localise(element, prefix, used)
    _describe(root, f"{prefix}-title", title)
    return ElementTree.tostring(root, encoding="unicode")


def _saved(figure: Figure, kind: str) -> bytes:
    file = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else None
    figure.savefig(file, format=kind, dpi=200, facecolor=BACKGROUND, metadata=metadata)
    return file.getvalue()


@contextmanager
def _any_script() -> Iterator[None]:
    """Names in a script that the font lacks are drawn as boxes in PNG, which is no failure."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from")
        yield


def _remove_file_parts(parent: ElementTree.Element) -> None:
    """Remove metadata, and styles, which would be those of the whole page."""
    for child in list(parent):
        if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
            parent.remove(child)


def _references(root: ElementTree.Element) -> Iterator[str]:
    for element in root.iter():
        if _HREF in element.attrib:
            yield element.attrib[_HREF].removeprefix("#")
        for value in element.attrib.values():
            yield from _REFERENCE.findall(value)


def _localise(element: ElementTree.Element, prefix: str, used: set[str]) -> None:
    element.tag = element.tag.removeprefix(_SVG)  # HTML needs no namespaces
    name = element.attrib.pop("id", None)
    if name in used:
        element.attrib["id"] = f"{prefix}-{name}"
    target = element.attrib.pop(_HREF, None)
    if target is not None:
        element.attrib["href"] = f"#{prefix}-{target.removeprefix('#')}"
    for key, value in element.attrib.items():
        value = _REFERENCE.sub(rf"url(#{prefix}-\1)", value)
        if key in ("style", "fill", "stroke"):
            value = _COLOUR.sub(lambda found: CSS_COLOURS.get(found[0], found[0]), value)
        element.attrib[key] = value


def _describe(root: ElementTree.Element, name: str, title: str) -> None:
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.attrib |= {"class": "figure", "role": "img", "aria-labelledby": name}
    element = ElementTree.Element("title", {"id": name})
    element.text = title
    root.insert(0, element)
