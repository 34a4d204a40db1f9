"""A report of cells whose every text was written by someone hostile shows it and does nothing."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from page import Page
from sample_cells import study

from fastglt.report.html import make_report
from fastglt.study.cells import hash_of, read_cells

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "end of script and style": "</script></style></title></svg>--><script>alert(1)</script>",
    "attribute": "\"'><img src=x onerror=alert(1)>",
    "bare attribute": 'x" onmouseover="alert(1)" style="position:fixed',
    "address": "javascript:alert(1)//https://example.org",
    "template": "{{7*7}}{% raise %}${7*7}#{7*7}",
    "entities": "&lt;script&gt;&#60;img src=x&#62;&quot;onload=alert(1)",
    "svg": "<svg onload=alert(1)><a xlink:href='javascript:alert(1)'><foreignObject>",
    "control": "a\x00b\x1b[31m\u202egpj.exe\u2066\ufeff\x7f\x85",
    "css": "x;background:url(https://example.org/x);}</style>",
    "mathtext": "$\\frac{x}$ $ _{^ \\",
}


DRAWN = ("svg", "attribute", "control")
"""Of these the pictures are looked at as files too; they are in the page in any case."""


def _with_text(value, text):
    """The value with all texts replaced, keys that the format does not fix included."""
    if isinstance(value, str):
        return text
    if isinstance(value, list):
        return [_with_text(item, text) for item in value]
    if isinstance(value, dict):
        return {key: _with_text(item, text) for key, item in value.items()}
    return value


def _file_of(cells, text, path):
    lines = []
    for cell in cells:
        content = cell.model_dump(by_alias=True)
        fixed = {name: content[name] for name in ("stage", "method")}
        content = _with_text(content, text) | fixed
        content["provenance"][text] = {text: [text]}
        content["spec"][text] = text
        content["notes"] = [text]
        content["settings_hash"] = hash_of(content["spec"])
        lines.append(json.dumps(content) + "\n")
    path.write_text("".join(lines))


@pytest.fixture(scope="module")
def cells():
    return study(seeds=2, budgets=[(0.3, 0.9)])


@pytest.fixture(scope="module")
def harmless(cells):
    return Page(make_report(cells).html)


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_text_of_a_study_becomes_markup(kind, cells, harmless, tmp_path):
    text = HOSTILE[kind]
    _file_of(cells, text, tmp_path / "cells.jsonl")
    report = make_report(read_cells(tmp_path), files=kind in DRAWN)
    page = Page(report.html)
    assert page.problems == []
    assert set(page.tags) <= set(harmless.tags)
    assert page.handlers == []
    assert all(address.startswith(("#", "data:image/")) for address in page.addresses)
    assert not [style for style in page.styles if "example.org" in style or "fixed" in style]
    assert not {"\x00", "\x1b", "\u202e", "\u2066"} & set(report.html)
    if kind != "control":
        assert " ".join(text.split()) in page.text
    for name, content in report.files.items():
        if name.endswith(".svg"):
            _check_picture(content)


def _check_picture(content):
    for element in ElementTree.fromstring(content).iter():
        tag = element.tag.rpartition("}")[2]
        assert tag not in ("script", "img", "image", "a", "foreignObject", "iframe")
        for name, value in element.attrib.items():
            assert not name.rpartition("}")[2].startswith("on")
            if name.rpartition("}")[2] == "href":
                assert value.startswith("#")
