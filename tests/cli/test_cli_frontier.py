"""``fastglt frontier``: searched on validation, confirmed once on test."""

from __future__ import annotations

import json

import made_up_study
import pytest
import tiny_graph

from fastglt import data as datasets
from fastglt.cli import cells as cell_module
from fastglt.cli.frontier import SEARCH_SEED
from fastglt.study.cells import read_cells


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    """No graph of another test is kept, and the process has its memory as it is."""
    cell_module._loaded.cache_clear()
    monkeypatch.setattr("fastglt.study.processes.keep_memory", lambda: None)


@pytest.fixture
def frontier(cli):
    return lambda *args: cli(
        "frontier", "--dataset=cora", "--out=s", "--axis=edges", "--workers=1", "--threads=1",
        "--seeds=4", "--max-seeds=4", "--search-seeds=3", *args,
    )  # fmt: skip


@pytest.fixture
def made_up(monkeypatch):
    """Replace every run by made-up figures."""

    def replace(loss):
        runs = made_up_study.Runs(loss)
        monkeypatch.setattr("fastglt.cli.study.run_job", runs)
        return runs

    return replace


def border_at(sparsity, beyond=9.0):
    def loss(label, edge_sparsity, seed):
        if edge_sparsity <= sparsity:
            return made_up_study.wobble(seed)
        return beyond if isinstance(beyond, str) else beyond + made_up_study.wobble(seed)

    return loss


@pytest.mark.parametrize("beyond", [9.0, "empty"])
def test_finds_the_border_and_confirms_it_with_new_seeds(beyond, frontier, made_up, tmp_path):
    runs = made_up(border_at(0.5, beyond))
    outcome = frontier("--json=r.json")
    assert outcome.code == 0, outcome.err
    result = json.loads((tmp_path / "r.json").read_text())
    assert 0.47 < result["best"]["edge_sparsity"] <= 0.5
    assert all(probe["passes"] == (probe["edge_sparsity"] <= 0.5) for probe in result["probes"])
    (table,) = result["confirmation"]
    assert table["edge_sparsity"] == result["best"]["edge_sparsity"]
    assert [row["label"] for row in table["rows"]] == ["fastglt", "random", "dense + teacher"]
    search = [job for job in runs.jobs if job.stage == "search"]
    confirm = [job for job in runs.jobs if job.stage == "confirm"]
    assert runs.jobs == search + confirm, "the test set is read when the sparsity is fixed"
    assert {job.seed for job in search} == set(range(SEARCH_SEED, SEARCH_SEED + 3))
    assert {job.seed for job in confirm} == set(range(4))
    assert {job.spec["settings"]["edge_sparsity"] for job in confirm} == {table["edge_sparsity"]}
    assert "passes on validation up to" in outcome.out
    assert "with 4 new seeds: wins" in outcome.out
    count = len(runs.jobs)
    assert frontier().out == outcome.out
    assert all(job.spec["settings"]["edge_sparsity"] > 0.5 for job in runs.jobs[count:]), (
        "only what failed is tried again"
    )


def test_the_same_seeds_do_not_confirm_a_second_sparsity(frontier, made_up):
    made_up(border_at(0.5))
    assert frontier("--resolution=4").code == 0
    runs = made_up(border_at(0.5))
    outcome = frontier("--resolution=0.5")
    assert outcome.code == 2
    assert "to choose by the test set" in outcome.err
    assert {job.stage for job in runs.jobs} == {"search"}
    assert frontier("--resolution=0.5", "--alpha=0.2").code == 0, "another question"
    assert frontier("--resolution=0.5", "--out=t", "--first-seed=4").code == 0


def test_nothing_is_tested_where_nothing_passes(frontier, made_up):
    runs = made_up(border_at(-1))
    outcome = frontier("--json=-")
    assert outcome.code == 0
    result = json.loads(outcome.out)
    assert (result["best"], result["confirmation"]) == (None, [])
    assert {job.stage for job in runs.jobs} == {"search"}
    assert "no sparsity that was tried passes" in outcome.err


def test_a_run_that_fails_ends_the_search(frontier, made_up):
    made_up(lambda *_: None)
    outcome = frontier()
    assert (outcome.code, outcome.out) == (1, "")
    assert "the loss exploded" in outcome.err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--edge-sparsity=0.3"], "edge_sparsity is what frontier looks for"),
        (["--method=nonsense"], "unknown method 'nonsense'"),
        (["--resolution=0"], "resolution"),
        (["--search-seeds=1"], "search_seeds"),
        (["--axis=nodes"], "axis"),
        (["--method=dense"], "prunes nothing on axis edges; choose another method"),
        (["--method=small-dense"], "choose --axis weights"),
        (["--method=dspar", "--axis=joint"], "choose --axis edges"),
        (["--weight-pattern=4x4"], "weight_pattern is for weights that are pruned"),
        (["--method=dspar", "--axis=weights", "--weight-pattern=2:4"], "choose --axis edges"),
        (["--axis=weights", "--weight-pattern=2:4"], "also tries low sparsities"),
    ],
)
def test_refused_before_anything_is_run(args, message, frontier, made_up, tmp_path):
    runs = made_up(lambda *_: 0.0)
    outcome = frontier(*args)
    assert outcome.code == 2
    assert message in outcome.err
    assert runs.jobs == []
    assert list(tmp_path.iterdir()) == []


def test_shuffled_test_labels_change_no_probe_and_no_choice(frontier, tmp_path, monkeypatch):
    args = (*tiny_graph.LEARNING, "--margin=60", "--resolution=8", "--seeds=2", "--max-seeds=2",
            "--search-seeds=3", "--method=one-shot")  # fmt: skip
    assert frontier(*args, "--json=a.json").code == 0
    monkeypatch.setattr(datasets, "load", tiny_graph.load_with_shuffled_test_labels)
    cell_module._loaded.cache_clear()
    assert frontier(*args, "--out=t", "--json=b.json").code == 0
    old, new = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert old["probes"] == new["probes"]
    assert old["best"] == new["best"]
    assert old["best"] is not None
    assert old["confirmation"] != new["confirmation"]
    for cell in read_cells(tmp_path / "s"):
        is_search = cell.stage == "search"
        assert (cell.test_dense is None, cell.test_ticket is None) == (is_search, is_search)
        assert (cell.analysis == {}) == is_search
