"""The README stays short, links lead somewhere, pictures are as drawn, and the site builds."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import subprocess
import sys
import unicodedata
from xml.etree import ElementTree

import pytest
from doc_blocks import DOCS, PAGES, ROOT

CODE = re.compile(r"^( *)(`{3,}|~{3,})[^\n]*\n.*?^\1\2 *$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
ELSEWHERE = ("https://", "http://", "mailto:")


def _prose(page):
    return CODE.sub("", page.read_text(encoding="utf-8"))


def _links(page):
    return [link for link in LINK.findall(_prose(page)) if not link.startswith(ELSEWHERE)]


def _anchors(page):
    """The anchors of a page's headings, as Python-Markdown's ``toc`` makes them."""
    text = re.sub(CODE.pattern.split("|`")[0], "", page.read_text(), flags=re.M | re.S)
    plain = (
        unicodedata.normalize("NFKD", heading.replace("`", "")).encode("ascii", "ignore").decode()
        for heading in HEADING.findall(text)
    )
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", line).strip().lower()) for line in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_internal_links_lead_somewhere(page):
    for link in _links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if page.is_relative_to(DOCS):
            assert target.is_relative_to(DOCS), f"{link} is not on the site"
        if anchor:
            assert anchor in _anchors(target), link


def test_links_are_seen_at_all():
    assert sum(len(_links(page)) for page in PAGES) > 40
    assert "a-model-that-is-called-otherwise" in _anchors(DOCS / "howto" / "model.md")


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 120


def test_pictures_are_as_the_program_draws_them():
    program = runpy.run_path(str(DOCS / "pictures" / "make.py"))
    drawn = {name: picture() for name, picture in program["PICTURES"].items()}
    committed = {path.name: path.read_text() for path in (DOCS / "pictures").glob("*.svg")}
    assert committed == drawn, "run python docs/pictures/make.py"
    shown = set(re.findall(r"pictures/(\w+\.svg)", "".join(map(_prose, PAGES))))
    assert shown == drawn.keys()


def test_pictures_can_be_read_without_eyes_and_in_the_dark():
    for path in (DOCS / "pictures").glob("*.svg"):
        root = ElementTree.parse(path).getroot()
        named = {child.tag.rpartition("}")[2]: child.text for child in root}
        assert len(named["title"]) > 10, path
        assert len(named["desc"]) > 50, path
        assert "prefers-color-scheme: dark" in named["style"], path
        assert path.stat().st_size < 40_000, path
    assert not re.findall(r"!\[\]\(", "".join(map(_prose, PAGES)))


def test_site_builds_without_a_warning(tmp_path):
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    api = (tmp_path / "site" / "reference" / "api.html").read_text()
    assert "Find a graph lottery ticket" in api
    assert "A graph lottery ticket: which edges" in api
    assert not re.search(r":(class|func|meth|mod|data|attr):", api)
    settings = (tmp_path / "site" / "reference" / "settings.html").read_text()
    assert "teacher_weight" in settings
    assert not (tmp_path / "site" / "pictures" / "make.py").exists()
