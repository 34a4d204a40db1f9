"""``fastglt compare``: what it runs, stores and prints, and what it never looks at."""

from __future__ import annotations

import json

import made_up_study
import own_inputs
import pytest
import tiny_graph
import torch

from fastglt import data as datasets
from fastglt.cli import cells as cell_module
from fastglt.study.cells import read_cells

QUICK = (*tiny_graph.QUICK, "--workers=1", "--threads=1", "--edge-sparsity=0.2")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    """No graph of another test is kept, and the process has its memory as it is."""
    cell_module._loaded.cache_clear()
    monkeypatch.setattr("fastglt.study.processes.keep_memory", lambda: None)


@pytest.fixture
def compare(cli):
    return lambda *args: cli("compare", "--dataset=cora", "--out=s", "--weight-sparsity=0.1", *args)


def test_a_study_that_prunes_nothing_is_refused(cli, made_up):
    runs = made_up(lambda *_: 0.0)
    outcome = cli("compare", "--dataset=cora", "--methods=random")
    assert outcome.code == 2
    assert "nothing is to be pruned" in outcome.err
    assert runs.jobs == []


def test_other_seeds_are_another_study(compare, made_up):
    made_up(lambda *_: 0.0)
    args = ("--methods=random", "--seeds=2", "--workers=1")
    assert compare(*args).code == 0
    outcome = compare(*args, "--first-seed=2")
    assert outcome.code == 2
    assert "first_seed must be 0, as declared in s" in outcome.err


@pytest.fixture
def made_up(monkeypatch):
    """Replace every run by made-up figures."""

    def replace(loss):
        runs = made_up_study.Runs(loss)
        monkeypatch.setattr("fastglt.cli.study.run_job", runs)
        return runs

    return replace


def test_a_study_is_stored_printed_and_not_run_again(compare, tmp_path, monkeypatch):
    args = (*QUICK, "--methods=fastglt,random", "--seeds=2", "--json=r.json")
    first = compare(*args)
    assert first.code == 0, first.err
    stored = (tmp_path / "s" / "cells.jsonl").read_bytes()
    cells = read_cells(tmp_path / "s")
    assert [(cell.label, cell.seed) for cell in cells] == [
        (label, seed) for seed in (0, 1) for label in ("fastglt", "random", "dense + teacher")
    ]
    assert all(cell.stage == "compare" and cell.analysis["groups"] for cell in cells)
    assert json.loads((tmp_path / "s" / "plan.json").read_text()) == {
        "margin": 0.5,
        "looks": [2],
        "first_seed": 0,
    }
    assert first.err.count("\n") == 6
    for label in ("fastglt", "random", "dense + teacher"):
        assert sum(line.startswith(f"{label}  ") for line in first.out.splitlines()) == 1
    (table,) = json.loads((tmp_path / "r.json").read_text())
    assert [row["seeds"] for row in table["rows"]] == [[0, 1]] * 3
    monkeypatch.setattr("fastglt.api.evidence.find_with_evidence", None)
    second = compare(*args)
    assert (second.code, second.out, second.err) == (0, first.out, "")
    assert (tmp_path / "s" / "cells.jsonl").read_bytes() == stored


@pytest.mark.parametrize(
    "methods", ["fastglt,one-shot", "ugs,early-bird", "teddy,wd-glt", "reinit,small-dense"]
)
def test_shuffled_test_labels_change_no_choice(methods, compare, tmp_path, monkeypatch):
    from fastglt.api import evidence

    found, find = [], evidence.find_with_evidence

    def spy(*args, **keywords):
        found.append(find(*args, **keywords))
        return found[-1]

    monkeypatch.setattr(evidence, "find_with_evidence", spy)
    args = (*QUICK, *tiny_graph.LEARNING, "--weight-sparsity=0.5", "--seeds=1")
    args = (*args, f"--methods={methods}", "--rounds=2", "--mask-epochs=5")
    assert compare(*args).code == 0
    as_is, count = read_cells(tmp_path / "s"), len(found)
    monkeypatch.setattr(datasets, "load", tiny_graph.load_with_shuffled_test_labels)
    cell_module._loaded.cache_clear()
    assert compare(*args, "--out=t").code == 0
    changed = read_cells(tmp_path / "t")
    assert len(as_is) == len(changed) == count >= 2
    for old, new in zip(as_is, changed, strict=True):
        assert (old.val_dense, old.val_ticket) == (new.val_dense, new.val_ticket)
        assert (old.epochs, old.history) == (new.epochs, new.history)
        assert old.analysis["layers"] == new.analysis["layers"]
    assert [cell.test_dense for cell in as_is] != [cell.test_dense for cell in changed]
    for old, new in zip(found[:count], found[count:], strict=True):
        assert torch.equal(old.ticket.edge_keep, new.ticket.edge_keep)
        for name, mask in old.ticket.weight_masks.items():
            assert torch.equal(mask, new.ticket.weight_masks[name])


def test_defaults_and_the_command_line_over_a_file(compare, made_up, tmp_path):
    runs = made_up(lambda label, sparsity, seed: made_up_study.wobble(seed))
    (tmp_path / "c.toml").write_text('seeds = 3\nedge-sparsity = 0.4\nmargin = 2\nout = "x"\n')
    outcome = compare("--config=c.toml", "--seeds=2", "--first-seed=5", "--workers=1")
    assert outcome.code == 0, outcome.err
    labels = ["fastglt", "random", "reinit", "small-dense", "dense + teacher"]
    assert [(job.label, job.seed) for job in runs.jobs] == [
        (label, seed) for seed in (5, 6) for label in labels
    ]
    assert {job.spec["settings"]["edge_sparsity"] for job in runs.jobs} == {0.4}
    assert "margin 2" in outcome.out


@pytest.mark.parametrize("key", ["seed", "method"])
def test_a_file_cannot_say_what_the_study_chooses(key, compare, made_up, tmp_path):
    runs = made_up(lambda *_: 0.0)
    (tmp_path / "c.toml").write_text(f"{key} = 1\n")
    outcome = compare("--config=c.toml")
    assert outcome.code == 2
    assert f"'{key}'" in outcome.err
    assert runs.jobs == []


@pytest.mark.parametrize(
    ("args", "splits"),
    [
        (["--dataset=computers"], [4, 5]), (["--dataset=cora"], [0, 0]),
        (["--dataset=computers", "--split-seed=7"], [7, 7]),
        (["--dataset=cora", "--split=5,10"], [4, 5]),
    ],
)  # fmt: skip
def test_split_seeds(args, splits, cli, made_up, tmp_path):
    made_up(lambda *_: 0.0)
    outcome = cli(
        "compare", *args, "--weight-sparsity=0.1", "--methods=random", "--teacher=none",
        "--seeds=2", "--first-seed=4", "--workers=1", "--out=s",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert [cell.split_seed for cell in read_cells(tmp_path / "s")] == splits


def test_only_undecided_methods_go_on(compare, made_up):
    losses = {"fastglt": 0.0, "random": 5.0, "dense + teacher": -1.0}

    def loss(label, sparsity, seed):
        return losses.get(label, 0.5) + made_up_study.wobble(seed)

    runs = made_up(loss)
    outcome = compare(
        "--methods=fastglt,random,one-shot", "--seeds=6", "--max-seeds=15", "--workers=1",
        "--json=-",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    seeds = {row["label"]: len(row["seeds"]) for row in json.loads(outcome.out)[0]["rows"]}
    assert seeds == {"fastglt": 6, "random": 6, "one-shot": 15, "dense + teacher": 15}
    assert len(runs.jobs) == 6 + 6 + 15 + 15
    verdicts = {
        row["label"]: row["versus_dense"]["verdict"] for row in json.loads(outcome.out)[0]["rows"]
    }
    assert verdicts == {
        "fastglt": "wins", "random": "loses", "one-shot": "inconclusive", "dense + teacher": "wins"
    }  # fmt: skip


def test_a_method_that_fails_is_told_after_the_others_are_stored(compare, made_up, tmp_path):
    made_up(lambda label, sparsity, seed: None if label == "one-shot" else 0.0)
    args = ("--methods=one-shot,random", "--seeds=2", "--workers=1")
    outcome = compare(*args)
    assert outcome.code == 1
    assert "one-shot with seed 0, and 1 more failed: the loss exploded" in outcome.err
    assert "random" in outcome.out, "what was finished is shown"
    assert "one-shot" not in outcome.out
    assert [cell.label for cell in read_cells(tmp_path / "s")] == ["random", "dense + teacher"] * 2
    runs = made_up(lambda *_: 0.0)
    assert compare(*args).code == 0
    assert [job.label for job in runs.jobs] == ["one-shot"] * 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--methods=fastglt,nonsense"], "unknown method 'nonsense'"),
        (["--methods=ugs,ugs"], "named twice"),
        (["--edge-sparsity=1"], "edge_sparsity must be in [0, 1)"),
        (["--seeds=0"], "seeds: input should be greater than or equal to 1"),
        (["--margin=-1"], "margin: input should be greater than or equal to 0"),
        (["--recover=finetune"], "recover must be 'rewind'"),
        (["--model=gcm"], "unknown model 'gcm'"),
        (["--json=missing/r.json"], "cannot be written"),
    ],
)
def test_refused_before_anything_is_run(args, message, compare, made_up, monkeypatch):
    runs = made_up(lambda *_: 0.0)
    monkeypatch.setattr(datasets, "load", None)
    outcome = compare(*args)
    assert outcome.code == 2, outcome.err
    assert message in outcome.err
    assert runs.jobs == []


@pytest.mark.parametrize("graph", ["g.npz", "g"])
def test_graph_and_model_of_ones_own_in_two_processes(graph, cli, tmp_path):
    data = own_inputs.nodes(tmp_path / "g.npz")
    datasets.save_mapped(data, tmp_path / "g")
    own_inputs.model(tmp_path / "net.py")
    sizes = [arg for arg in tiny_graph.QUICK if not arg.startswith("--hidden")]
    outcome = cli(
        "compare", f"--data={graph}", "--model=net.py:build", *sizes, "--edge-sparsity=0.2",
        "--seeds=1", "--workers=2", "--threads=2", "--out=s",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    cells = read_cells(tmp_path / "s")
    assert {cell.label for cell in cells} == {"fastglt", "random", "reinit", "dense + teacher"}
    assert cells[0].spec["model_config"]["name"] == "net.py:build"
    assert str(tmp_path) not in (tmp_path / "s" / "cells.jsonl").read_text()
