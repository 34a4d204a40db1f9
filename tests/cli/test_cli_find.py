"""``fastglt find``: what it writes, what it prints, and what it refuses before it starts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny_graph
import torch

from fastglt import data as datasets
from fastglt.errors import DatasetNotFoundError
from fastglt.models import build_model
from fastglt.models.config import BackboneConfig
from fastglt.search.presets import resolve_settings
from fastglt.ticket import Ticket
from fastglt.training.seeding import seeded

NAMED = {
    "dataset": "cora", "title": "Cora", "task": "node-classification", "model": "gcn",
    "method": "fastglt", "preset": "default", "seed": 0, "inductive": False,
}  # fmt: skip
MEASURED = {
    "metric", "edge_sparsity", "weight_sparsity", "val_dense", "test_dense", "val_ticket",
    "test_ticket", "macs_dense", "macs_ticket", "params_dense", "params_ticket", "edges_dense",
    "edges_ticket", "seconds", "epochs", "notes",
}  # fmt: skip


def test_json_has_exactly_the_promised_keys_and_the_figures_of_the_ticket(find, tmp_path):
    find("--edge-sparsity=0.3", "--weight-sparsity=0.5", "--json=r.json", "--out=t.safetensors")
    result = json.loads((tmp_path / "r.json").read_text())
    assert set(result) == NAMED.keys() | MEASURED
    assert set(result["seconds"]) == {"dense", "teacher", "search", "retrain", "total"}
    assert set(result["epochs"]) == {"dense", "teacher", "search", "retrain"}
    ticket = Ticket.load(tmp_path / "t.safetensors")
    assert {name: result[name] for name in MEASURED} == {
        name: ticket.metrics[name] for name in MEASURED
    }
    assert {name: result[name] for name in NAMED} == NAMED


@pytest.mark.parametrize("args", [(), ("--inductive",)])
def test_a_teacher_that_was_trained_has_a_row(args, find, tmp_path):
    outcome = find(*args, "--json=r.json")
    epochs = json.loads((tmp_path / "r.json").read_text())["epochs"]
    assert ("training of the teacher" in outcome.out) == bool(args) == (epochs["teacher"] >= 6)


def test_the_sparsity_in_the_json_is_the_one_achieved(find, tmp_path):
    find("--edge-sparsity=0.333", "--json=r.json")
    groups = tiny_graph.load("cora").data.num_edges // 2
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["edge_sparsity"] == pytest.approx(int(0.333 * groups) / groups)
    assert result["edge_sparsity"] != 0.333
    assert result["weight_sparsity"] == 0


def test_out_defaults_and_the_settings_rebuild_the_run(find, tmp_path):
    find("--weight-sparsity=0.5", "--layers=3", "--dropout=0.25", "--seed=4", "--root=/data/here")
    assert [path.name for path in tmp_path.iterdir()] == ["ticket.safetensors"]
    ticket = Ticket.load(tmp_path / "ticket.safetensors")
    assert ticket.settings["model"] == {
        "name": "gcn", "hidden": 8, "layers": 3, "dropout": 0.25, "heads": None, "norm": "none",
        "embedding_dim": None,
    }  # fmt: skip
    assert ticket.settings["task"] == {"name": "node-classification", "metric": "accuracy"}
    assert ticket.settings["dataset"] == {
        "name": "cora",
        "title": "Cora",
        "task": "node-classification",
        "metric": "accuracy",
        "own": False,
        "transforms": [{"name": "NormalizeFeatures"}],
    }
    with seeded(4):
        model = build_model("gcn", 6, 3, BackboneConfig(hidden=8, layers=3, dropout=0.25))
    for name, value in model.state_dict().items():
        assert torch.equal(ticket.init_state[name], value)


def test_no_path_is_kept_in_the_ticket(find, tmp_path):
    (tmp_path / "c.toml").write_text("seed = 1\n")
    find("--root=/secret/folder", f"--config={tmp_path / 'c.toml'}")
    content = (tmp_path / "ticket.safetensors").read_bytes()
    assert b"secret" not in content
    assert str(tmp_path).encode() not in content


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_settings_not_given_are_those_of_the_preset(preset, cli, tmp_path):
    args = ("--hidden=4", "--dense-epochs=1", "--retrain-epochs=1", "--denoise-steps=1")
    assert cli("find", "--dataset=cora", f"--preset={preset}", *args).code == 0
    given = {"preset": preset, "dense_epochs": 1, "retrain_epochs": 1, "denoise_steps": 1}
    expected = resolve_settings(given).model_dump(mode="json")
    settings = Ticket.load(tmp_path / "ticket.safetensors").settings
    assert {name: settings[name] for name in expected} == expected


def test_a_switch_can_be_turned_off(find, tmp_path):
    find("--no-sparse-inputs")
    assert Ticket.load(tmp_path / "ticket.safetensors").settings["sparse_inputs"] is False


def test_plain_text_where_stdout_is_no_terminal(find):
    outcome = find("--edge-sparsity=0.2", "--weight-sparsity=0.5", "--plot=t.png", "--json=r.json")
    assert outcome.err == ""
    assert outcome.out.isascii()
    assert "\x1b" not in outcome.out
    lines = outcome.out.splitlines()
    assert lines[0] == "gcn on Cora: node-classification by accuracy"
    assert lines[1].split() == ["dense", "ticket"]
    starts = ("validation accuracy", "test accuracy", "edges", "parameters", "MACs", "training")
    for start in (*starts, "search"):
        assert sum(line.startswith(start) for line in lines) == 1
    for name in ("ticket.safetensors", "t.png", "r.json"):
        assert any(line.startswith(f"wrote {name} (") for line in lines)
    assert len({len(line) for line in lines[1:7]}) == 1, "columns are aligned"


def test_json_on_stdout_is_all_of_stdout(find, tmp_path):
    outcome = find("--weight-sparsity=0.5", "--json=-")
    assert json.loads(outcome.out)["dataset"] == "cora"
    assert "validation accuracy" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["ticket.safetensors"]


def test_plot_is_an_image(find, tmp_path):
    find("--edge-sparsity=0.2", "--plot=t.png")
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


def test_threads_are_set(find):
    before = torch.get_num_threads()
    try:
        find("--threads=1")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


REFUSED = {
    "sparsity": (["--edge-sparsity=1.2"], "edge_sparsity must be in [0, 1) (got 1.2)"),
    "negative": (["--weight-sparsity", "-0.1"], "weight_sparsity must be in [0, 1) (got -0.1)"),
    "method": (["--method=fastgl"], "did you mean 'fastglt'?"),
    "model": (["--model=gcm"], "unknown model 'gcm'; did you mean 'gcn'?"),
    "preset": (["--preset=papers"], "did you mean 'paper'?"),
    "choice": (["--teacher=some"], "teacher: input should be 'none', 'dense' or 'given'"),
    "range": (["--hidden=0"], "hidden: input should be greater than or equal to 1 (got 0)"),
    "threads": (["--threads=0"], "threads: input should be greater than or equal to 1 (got 0)"),
    "cross-check": (["--accumulation=11"], "accumulation must be at most interval"),
    "recovery": (["--recover=finetune"], "recover must be 'rewind' on the command line"),
    "no history": (["--plot=t.png", "--method=random"], "which method 'random' does not have"),
    "no history 2": (["--plot=t.png", "--method=one-shot"], "method 'one-shot' does not have"),
    "no swaps": (["--plot=t.png", "--denoise-steps=5"], "denoise_steps must be above interval"),
    "format": (["--plot=t.gif"], "must end in one of .png, .pdf, .svg (got 't.gif')"),
    "out": (["--out=missing/t.safetensors"], "create it first"),
    "json": (["--json=missing/r.json"], "output path 'missing/r.json' cannot be written"),
    "plot": (["--plot=missing/t.png"], "output path 'missing/t.png' cannot be written"),
    "no teacher": (["--teacher=given"], "add --teacher-file"),
    "two teachers": (
        ["--teacher=none", "--teacher-file=t.npy"],
        "leave out --teacher (got 'none')",
    ),
    "drop": (["--max-drop=-1"], "max_drop: input should be greater than or equal to 0 (got -1"),
    "axis": (
        ["--max-drop=1", "--axis=both"],
        "axis: input should be 'edges', 'weights' or 'joint'",
    ),
    "a folder": (["--out=."], "it is a folder"),
    "one file": (["--out=x.png", "--plot=./x.png"], "--out and --plot must be different files"),
}


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("option", ["out", "json", "log"])
def test_the_graph_is_not_written_over(option, cli, tmp_path):
    (tmp_path / "g.npz").write_bytes(b"a graph")
    outcome = cli("find", "--data=g.npz", f"--{option}=./g.npz")
    assert outcome.code == 2
    assert f"--data and --{option} must be different files" in outcome.err
    assert (tmp_path / "g.npz").read_bytes() == b"a graph"


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_slow(case, cli, tmp_path):
    args, message = REFUSED[case]
    outcome = cli("find", "--dataset=cora", *args)
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--no-such-option=1"], "No such option"),
        (["--seed=x"], "Invalid value for '--seed'"),
        (["--seed=1.5"], "Invalid value for '--seed'"),
        (["stray"], "unexpected extra argument"),
    ],
)
def test_bad_usage_ends_with_2(args, message, cli):
    outcome = cli("find", "--dataset=cora", *args)
    assert (outcome.code, message in outcome.err) == (2, True)


def test_a_missing_or_unknown_dataset_lists_what_there_is(cli):
    missing = cli("find")
    assert missing.code == 2
    assert "--dataset is missing; choose one of cora, citeseer" in missing.err
    unknown = cli("find", "--dataset=citeser")
    assert unknown.code == 2
    assert "did you mean 'citeseer'?" in unknown.err


def test_a_budget_that_empties_the_graph_is_refused(cli, tmp_path):
    outcome = cli("find", "--dataset=cora", *tiny_graph.QUICK, "--weight-sparsity=0.9999")
    assert outcome.code == 2, outcome.err
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_explodes_is_a_failure_and_leaves_nothing(cli, tmp_path):
    outcome = cli("find", "--dataset=cora", *tiny_graph.QUICK, "--lr=1e30", "--json=r.json")
    assert outcome.code == 1
    assert "lr=1e+30" in outcome.err
    assert list(tmp_path.iterdir()) == []


def failing(error):
    def load(*args, **kwargs):
        raise error

    return load


def test_a_dataset_that_is_not_found_is_a_failure(cli, monkeypatch):
    monkeypatch.setattr(datasets, "load", failing(DatasetNotFoundError("tried everything")))
    assert cli("find", "--dataset=cora") == (1, "", "error: tried everything\n")


def test_an_interrupt_is_no_traceback(cli, monkeypatch):
    monkeypatch.setattr(datasets, "load", failing(KeyboardInterrupt()))
    assert cli("find", "--dataset=cora") == (130, "", "interrupted\n")


def test_a_bug_is_not_hidden(cli, monkeypatch):
    monkeypatch.setattr(datasets, "load", failing(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        cli("find", "--dataset=cora")


def test_a_goal_chooses_the_sparsities_and_says_so(find, tmp_path):
    outcome = find("--max-drop=30", "--axis=edges", "--json=r.json")
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["goal"]["kind"] == "max_drop"
    assert result["weight_sparsity"] == 0 < result["edge_sparsity"]
    assert 100 * (result["val_dense"] - result["val_ticket"]) <= 30 + 1e-6
    assert set(result["seconds"]) >= {"trials", "total"}
    number = len(result["goal"]["trials"])
    assert f"chosen by max-drop 30 among {number} sparsities" in outcome.out


def test_a_goal_out_of_reach_is_a_usage_error(cli):
    outcome = cli("find", "--dataset=cora", *tiny_graph.QUICK, "--target-macs=1")
    assert outcome.code == 2
    assert outcome.err.startswith("error: no sparsity that was tried meets target_macs")


def test_predictions_of_a_file_guide(find, tmp_path):
    data = tiny_graph.load("cora").data
    labels = 9.0 * torch.nn.functional.one_hot((data.y + 1) % 3, 3).float()
    np.save(tmp_path / "t.npy", labels.numpy())
    args = ("--weight-sparsity=0.2", "--retrain-epochs=60", "--lr=0.05")
    find(*args, "--teacher-file=t.npy", "--teacher-weight=1", "--json=a.json")
    find(*args, "--teacher=none", "--json=b.json")
    taught, told = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert taught["val_ticket"] < told["val_ticket"]
    assert Ticket.load(tmp_path / "ticket.safetensors").settings["teacher"] == "none"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read as .npy"),
        (np.zeros(3, dtype=np.float32), "must hold a table of floats"),
        (np.zeros((3, 3), dtype=np.int64), "must hold a table of floats"),
        (np.array([{}]), "cannot be read as .npy"),
        (np.zeros((2, 3), dtype=np.float32), "teacher must have shape"),
    ],
)
def test_predictions_that_cannot_guide_are_refused(content, message, cli, tmp_path):
    if content is not None:
        np.save(tmp_path / "t.npy", content, allow_pickle=True)
    outcome = cli("find", "--dataset=cora", *tiny_graph.QUICK, "--teacher-file=t.npy")
    assert outcome.code == 2
    assert message in outcome.err


@pytest.mark.parametrize(
    ("device", "reason"), [("nonsense", "nonsense"), ("meta", "meta"), ("cuda:99", "")]
)
def test_a_device_that_cannot_be_used_is_refused(device, reason, cli):
    outcome = cli("find", "--dataset=cora", "--edge-sparsity=0.3", f"--device={device}")
    assert (outcome.code, outcome.out) == (2, "")
    assert "device must be one that torch can use here" in outcome.err
    assert reason in outcome.err


def test_a_search_can_be_watched_in_files(find, tmp_path):
    outcome = find("--edge-sparsity=0.3", "--log=run.jsonl", "--tensorboard=board", "--json=r.json")
    assert "wrote run.jsonl" in outcome.out
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert (lines[0]["event"], lines[-1]["event"]) == ("run_start", "run_end")
    assert (
        lines[-1]["metrics"]["seconds"] == json.loads((tmp_path / "r.json").read_text())["seconds"]
    )
    assert len(list((tmp_path / "board").glob("events.out.tfevents.*"))) == 1


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--log=missing/run.jsonl"], "missing"),
        (["--log=same", "--out=same"], "--out and --log must be different files"),
        (["--teacher-file=t.npy", "--log=t.npy"], "--teacher-file and --log must be different"),
        (["--checkpoint=c", "--log=c/lock"], "--checkpoint and --log must be different files"),
        (
            ["--checkpoint=c", "--out=c/checkpoint-1.safetensors"],
            "--checkpoint and --out must be different files",
        ),
    ],
)
def test_a_log_that_cannot_be_written_is_refused_before_the_search(args, message, cli):
    outcome = cli("find", "--dataset=cora", *args)
    assert outcome.code == 2
    assert message in outcome.err
