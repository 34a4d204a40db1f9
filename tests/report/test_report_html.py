"""The HTML report: complete, self-contained, deterministic, inert and honest."""

from __future__ import annotations

import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from page import Page
from sample_cells import METHODS, cell, frontier_study, study

from fastglt.errors import InputError, OutputPathError
from fastglt.report import wording
from fastglt.report.html import make_report, write_report
from fastglt.study.summary import tables

HOSTILE = "</title></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'`${7*7}{{7*7}}"


@pytest.fixture(scope="module")
def full():
    return study(seeds=4, budgets=[(0.0, 0.9), (0.3, 0.9)])


@pytest.fixture(scope="module")
def report(full):
    return make_report(full, files=True)


@pytest.fixture(scope="module")
def page(report):
    return Page(report.html)


@pytest.fixture(scope="module")
def hostile():
    cells = [
        cell(
            seed=seed,
            title=HOSTILE,
            label=HOSTILE,
            model=HOSTILE,
            metric=HOSTILE,
            notes=[HOSTILE],
            provenance={HOSTILE: HOSTILE},
        )
        for seed in range(2)
    ]
    for each in cells:
        each.spec["settings"]["allocation"] = HOSTILE
        each.analysis["groups"]["class"][0]["name"] = HOSTILE
        each.analysis["layers"][0]["name"] = HOSTILE
        each.analysis["graph"]["degrees"][1]["name"] = HOSTILE
    return make_report(cells, files=True)


def test_every_section_is_there(page):
    for section in (
        "Methods",
        "Harm by class, degree and homophily",
        "What was pruned",
        "The denoising run",
        "A small neighbourhood",
        "Settings",
        "Provenance",
        "How to read this",
    ):
        assert section in page.texts
    assert page.tags.count("svg") == 2 + 1 + 3 + 2 + 1 + 1


def test_tags_are_balanced_and_ids_are_unique(page):
    assert page.problems == []
    assert len(page.ids) == len(set(page.ids))
    inner = {address[1:] for address in page.addresses}
    assert inner <= set(page.ids)
    used = set(re.findall(r"url\(#([^)]*)\)", " ".join(page.styles)))
    assert used <= set(page.ids)


def test_the_page_needs_nothing_else(report, page):
    assert all(address.startswith("#") for address in page.addresses)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & set(page.tags)
    assert page.handlers == []
    styles = " ".join(page.styles)
    assert "@import" not in styles
    assert set(re.findall(r"url\((.)", styles)) <= {"#"}
    assert "//" not in report.html.replace("http-equiv", "")


def test_the_same_cells_give_the_same_bytes_in_any_order(full, report):
    again = make_report(full[::-1], files=True)
    assert again.html == report.html
    assert again.files == report.files


def test_figures_have_a_text_alternative(report):
    for svg in re.findall(r"<svg .*?</svg>", report.html, re.DOTALL):
        root = ElementTree.fromstring(svg)
        title = root[0]
        assert title.tag == "title"
        assert title.text
        assert root.attrib["aria-labelledby"] == title.attrib["id"]
        assert "#1b1b1b" not in svg
        assert "currentColor" in svg


def test_numbers_are_those_of_the_summary(full, page):
    table = next(each for each in tables(full) if each.edge_sparsity == 0.3)
    for row in table.rows:
        metric = wording.plus_minus(row.test)
        line = next(
            each
            for each in page.rows
            if each[0].startswith(f"{row.label} ") and each[1:2] == [metric]
        )
        assert line[2].startswith(wording.signed(row.versus_dense.test.difference.mean))
        assert line[2].endswith(wording.bounds(row.versus_dense.test.difference))
        assert line[3].startswith(row.versus_dense.verdict.value)
        if row.versus_like is not None:
            assert line[4].startswith(wording.signed(row.versus_like.test.difference.mean))
            assert line[5].startswith(row.versus_like.verdict.value)
        assert line[6] == wording.seconds(row.search_seconds)
        assert line[7] == wording.count(row.search_epochs)
        assert line[8].startswith(wording.large(row.median("macs_ticket")))
        assert line[9].startswith(wording.size(row.median("bytes_ticket")))
        assert line[10] == f"{row.cost_ratio:.1f}×"


@pytest.mark.parametrize(
    "cells",
    [
        [cell(details=False)],
        study(("random",), seeds=2, details=False),
        [each.model_copy(update={"history": []}) for each in study(("fastglt",), seeds=1)],
        [cell(stage="search")],
    ],
    ids=["one cell", "a control only", "no history", "a search only"],
)
def test_what_is_missing_is_said(cells):
    page = Page(make_report(cells).html)
    assert page.problems == []
    assert "No run has denoising events to draw." in page.text


def test_a_run_without_test_metrics_is_not_compared():
    cells = [cell(seed=seed, test_ticket=None, test_dense=None, details=False) for seed in range(2)]
    page = Page(make_report(cells).html)
    assert page.problems == []
    assert "has no test result to compare with dense gcn" in page.text


def test_parts_of_an_analysis_may_be_missing():
    cells = study(("fastglt",), seeds=2)
    for each in cells:
        each.analysis.update(neighbourhood=None, groups={}, layers=[])
        each.analysis["graph"]["before"]["homophily"] = None
    page = Page(make_report(cells).html)
    assert "No run recorded a neighbourhood small enough to draw." in page.text
    assert page.row("edge homophily")[1] == wording.NOTHING


def test_hostile_text_is_inert(hostile):
    page = Page(hostile.html)
    assert page.problems == []
    assert not {"script", "img"} & set(page.tags)
    assert page.handlers == []
    assert HOSTILE in page.text
    assert "{{7*7}}" in page.text
    for name, content in hostile.files.items():
        if name.endswith(".svg"):
            tags = {
                element.tag.rpartition("}")[2] for element in ElementTree.fromstring(content).iter()
            }
            assert not {"script", "img", "image"} & tags


def test_control_characters_and_any_script_do_no_harm():
    odd = "a\x00b\u202ec\x1b[31m 图 $x^$ _ \\frac"
    cells = [cell(seed=seed, title=odd, label=odd) for seed in range(2)]
    result = make_report(cells, files=True)
    assert "\x00" not in result.html
    assert "\u202e" not in result.html
    assert "\x1b" not in result.html
    assert "图 $x^$" in result.html
    for name, content in result.files.items():
        if name.endswith(".svg"):
            ElementTree.fromstring(content)


def test_files_are_written_and_whole(tmp_path):
    out, plots = tmp_path / "report.html", tmp_path / "deep" / "plots"
    written = write_report([cell()], out, plots=plots)
    assert written[0] == out
    assert Page(out.read_text(encoding="utf-8")).problems == []
    assert sorted(written[1:]) == sorted(plots.iterdir())
    for path in written[1:]:
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        else:
            assert ElementTree.fromstring(path.read_bytes()).tag.endswith("}svg")
    names = {path.stem for path in written[1:]}
    assert {path.name for path in written[1:]} == {
        f"{n}.{end}" for n in names for end in ("png", "svg")
    }
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_without_a_folder_for_plots_there_is_one_file(tmp_path):
    assert write_report([cell(details=False)], tmp_path / "r.html") == [tmp_path / "r.html"]
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def test_what_cannot_be_written_or_read(tmp_path):
    with pytest.raises(InputError, match="no finished cells"):
        write_report([], tmp_path / "r.html")
    with pytest.raises(OutputPathError):
        write_report([cell(details=False)], tmp_path / "none" / "r.html")
    (tmp_path / "file").touch()
    with pytest.raises(OutputPathError):
        write_report([cell(details=False)], tmp_path / "r.html", plots=tmp_path / "file")
    broken = cell()
    broken.analysis["layers"] = [{"name": "a", "kept": "many", "total": 3}]
    with pytest.raises(InputError, match=r"'fastglt' of seed 0: analysis\.layers\.0\.kept"):
        make_report([broken])


def test_several_graphs_have_a_verdict_each():
    other = [
        cell(
            seed=seed,
            title="ogbn-arxiv (substitute features)",
            dataset="ogbn-arxiv",
            details=seed == 0,
        )
        for seed in range(3)
    ]
    page = Page(make_report([*study(("fastglt",), seeds=3, details=False), *other]).html)
    assert page.problems == []
    assert len(page.ids) == len(set(page.ids))
    headlines = [text for text in page.texts if text.startswith("On ")]
    assert len(headlines) == 4
    assert sum("ogbn-arxiv (substitute features)" in text for text in headlines) == 2


def test_a_frontier_names_validation_and_what_was_confirmed():
    html = make_report(frontier_study(details=False)).html
    assert "searched, validation" in html
    assert "confirmed, test" in html
    assert "98 % of weights removed" in Page(html).text


def test_all_labels_are_in_the_table(page):
    for label in METHODS:
        assert page.row(f"{label} ")


def test_drawing_leaves_the_users_matplotlib_alone():
    code = (
        "import sys; sys.path.insert(0, 'tests/report')\n"
        "import fastglt.report.html\n"
        "assert 'matplotlib' not in sys.modules and 'networkx' not in sys.modules\n"
        "from sample_cells import cell\n"
        "import matplotlib\n"
        "matplotlib.rcParams['text.usetex'] = True\n"
        "fastglt.report.html.make_report([cell(details=False)])\n"
        "assert matplotlib.rcParams['text.usetex']\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
