"""``fastglt report`` hands the cells of a study to the report and tells what was written."""

from __future__ import annotations

import sys
import types

import made_up_study
import pytest

from fastglt.search.presets import resolve_settings
from fastglt.study.cells import append_cell
from fastglt.study.jobs import Job
from fastglt.study.plan import Plan


def cells(folder, count=2):
    """A study with cells that have all that a command line's have."""
    settings = resolve_settings({"edge_sparsity": 0.1}).model_dump(mode="json", exclude={"seed"})
    shared = {"dataset": {"name": "cora"}, "split": {}, "model_config": {"name": "gcn"}, "task": {}}
    run = made_up_study.Runs(lambda _label, _sparsity, seed: made_up_study.wobble(seed))
    for seed in range(count):
        job = Job("compare", "fastglt", {**shared, "settings": settings}, seed, 0)
        append_cell(folder, run(job))


@pytest.fixture
def written(monkeypatch):
    """Stands for ``write_report``; notes what it is called with."""

    def write_report(cells, out, *, margin, looks, plots):
        calls.append((cells, out, margin, looks, plots))
        out.write_text("<html>")
        return [out]

    calls = []
    module = types.ModuleType("fastglt.report.html")
    module.write_report = write_report
    monkeypatch.setitem(sys.modules, "fastglt.report.html", module)
    return calls


def test_the_report_gets_the_cells_and_the_plan_of_the_study(cli, written, tmp_path):
    cells(tmp_path / "s")
    plan = Plan(margin=0.25, looks=(10, 20))
    plan.save(tmp_path / "s")
    assert cli("report", "s", "--plots=p") == (0, "wrote report.html (6 bytes)\n", "")
    ((found, out, margin, looks, plots),) = written
    assert [cell.seed for cell in found] == [0, 1]
    assert (out.name, margin, looks, plots.name) == ("report.html", 0.25, (10, 20), "p")


def test_without_a_plan(cli, written, tmp_path):
    cells(tmp_path / "one.jsonl")
    assert cli("report", "one.jsonl", "--out=r.html").code == 0
    ((_, out, margin, looks, plots),) = written
    assert (out.name, margin, looks, plots) == ("r.html", 0.5, None, None)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere"], "there are no finished runs in 'nowhere/cells.jsonl'"),
        (["s", "--out=missing/r.html"], "cannot be written"),
    ],
)
def test_refused(args, message, cli, written, tmp_path):
    cells(tmp_path / "s")
    outcome = cli("report", *args)
    assert outcome.code == 2
    assert message in outcome.err
    assert written == []


def test_a_damaged_study_is_named(cli, written, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "cells.jsonl").write_text("{}\n")
    outcome = cli("report", "s")
    assert outcome.code == 2
    assert "cells.jsonl, line 1: " in outcome.err


def test_the_report_itself(cli, tmp_path):
    cells(tmp_path / "s", 3)
    outcome = cli("report", "s")
    assert outcome.code == 0, outcome.err
    assert "fastglt" in (tmp_path / "report.html").read_text(encoding="utf-8")
