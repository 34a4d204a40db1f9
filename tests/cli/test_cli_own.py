"""Graphs and models of one's own, from ``find`` to ``eval``."""

from __future__ import annotations

import json
import subprocess
import sys

import own_inputs
import pytest
import torch
from tiny_graph import QUICK

from fastglt.data import save_mapped
from fastglt.ticket import Ticket

FILE = "ticket.safetensors"
BUDGET = ("--edge-sparsity=0.3", "--weight-sparsity=0.5")
SIZED = (*BUDGET, *QUICK)
OWN = (*BUDGET, *(option for option in QUICK if not option.startswith("--hidden")))


@pytest.fixture
def found(cli, tmp_path):
    """Run ``find`` with the options given; returns the ticket."""

    def run(*args):
        outcome = cli("find", *args)
        assert outcome.code == 0, outcome.err
        return Ticket.load(tmp_path / FILE)

    return run


@pytest.fixture
def agreeing(cli):
    """Run ``eval`` with the options given, which must agree; returns its JSON."""

    def run(*args):
        outcome = cli("eval", FILE, "--json=-", *args)
        assert outcome.code == 0, outcome.err
        result = json.loads(outcome.out)
        assert result["agrees"] is True
        return result

    return run


def test_a_folder_of_arrays_is_the_same_graph_as_the_file(found, agreeing, tmp_path):
    data = own_inputs.nodes(tmp_path / "mine.npz", masks=False)
    save_mapped(data, tmp_path / "mine")
    of_file, of_folder = (found(f"--data={name}", *SIZED) for name in ("mine.npz", "mine"))
    assert of_folder.settings["dataset"] == of_file.settings["dataset"]
    assert torch.equal(of_folder.edge_keep, of_file.edge_keep)
    assert of_folder.metrics["test_ticket"] == of_file.metrics["test_ticket"]
    agreeing("--data=mine")
    agreeing("--data=mine.npz")


def test_a_graph_with_masks_of_its_own(found, agreeing, tmp_path):
    data = own_inputs.nodes(tmp_path / "mine.npz")
    ticket = found("--data=mine.npz", *SIZED)
    assert ticket.settings["dataset"] == {
        "name": "mine", "title": "mine", "task": "node-classification", "metric": "accuracy",
        "own": True, "transforms": [],
    }  # fmt: skip
    assert ticket.edge_keep.numel() == data.num_edges
    result = agreeing("--data=mine.npz")
    assert (result["dataset"], result["title"]) == ("mine", "mine")
    assert result["test_ticket"] == pytest.approx(ticket.metrics["test_ticket"], abs=1e-6)


@pytest.mark.parametrize(
    ("options", "recorded"),
    [
        ((), {"train": 0.6, "val": 0.2, "seed": 0}),
        (("--split-seed=7",), {"train": 0.6, "val": 0.2, "seed": 7}),
        (("--split=0.5,0.25",), {"train": 0.5, "val": 0.25, "seed": 0}),
        (("--split=5, 10",), {"train_per_class": 5, "val_per_class": 10, "seed": 0}),
    ],
)
def test_a_split_that_is_drawn_is_recorded_and_replayed(
    options, recorded, found, agreeing, tmp_path
):
    own_inputs.nodes(tmp_path / "mine.npz", masks=False)
    ticket = found("--data=mine.npz", *options, *SIZED)
    assert ticket.settings["dataset"]["transforms"] == [{"name": "RandomSplit", **recorded}]
    agreeing("--data=mine.npz")


def test_a_file_that_was_renamed_is_the_same_graph(found, agreeing, tmp_path):
    own_inputs.nodes(tmp_path / "mine.npz", masks=False)
    found("--data=mine.npz", "--split-seed=7", *SIZED)
    (tmp_path / "mine.npz").rename(tmp_path / "yours.npz")
    agreeing("--data=yours.npz")


def test_eval_asks_for_the_file_and_refuses_another_graph(found, cli, tmp_path):
    own_inputs.nodes(tmp_path / "mine.npz")
    found("--data=mine.npz", *SIZED)
    missing = cli("eval", FILE)
    assert missing.code == 2
    assert "found on a graph of your own, 'mine'; give its file with --data" in missing.err
    own_inputs.links(tmp_path / "other.npz")
    other = cli("eval", FILE, "--data=other.npz", "--task=link-prediction")
    assert other.code == 2
    assert other.err.startswith("error: ")


def test_two_graphs_are_refused(cli):
    outcome = cli("find", "--data=mine.npz", "--dataset=cora")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "error: --dataset and --data are two graphs; leave one of them out\n"


def test_a_model_of_ones_own(found, agreeing, cli, tmp_path):
    (tmp_path / "secret_folder").mkdir()
    own_inputs.model(tmp_path / "secret_folder/net.py")
    ticket = found("--dataset=cora", "--model=secret_folder/net.py:build", *OWN)
    assert ticket.settings["model"]["name"] == "net.py:build"
    assert b"secret_folder" not in (tmp_path / FILE).read_bytes()
    assert {"first.lin_l.weight", "last.lin_r.weight"} <= set(ticket.weight_masks)
    assert agreeing("--model=secret_folder/net.py:build")["model"] == "net.py:build"

    missing = cli("eval", FILE)
    assert missing.code == 2
    assert "model is one of your own, 'net.py:build'; give its file with --model" in missing.err


def test_a_ticket_cannot_have_a_file_run(found, cli, tmp_path):
    ticket = found("--dataset=cora", *SIZED)
    (tmp_path / "evil.py").write_text("raise SystemExit('was run')")
    ticket.settings["model"] = {"name": "evil.py:build"}
    ticket.save(tmp_path / FILE)
    outcome = cli("eval", FILE)
    assert outcome.code == 2
    assert "give its file with --model" in outcome.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--layers=3",), "layers is for the named backbones"),
        (("--hidden=16",), "hidden is for the named backbones"),
        (("--model=absent.py:build",), "model file 'absent.py' does not exist"),
        (("--model=net.py:make",), "no function 'make'"),
    ],
)
def test_what_a_model_of_ones_own_does_not_have(options, message, cli, tmp_path):
    own_inputs.model(tmp_path / "net.py")
    outcome = cli("find", "--dataset=cora", "--model=net.py:build", *OWN, *options)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / FILE).exists()


def test_what_a_model_of_ones_own_raises_when_it_is_called(cli, tmp_path):
    own_inputs.model(tmp_path / "net.py")
    text = (tmp_path / "net.py").read_text(encoding="utf-8")
    (tmp_path / "net.py").write_text(text.replace("self.last(", "self.lost("), encoding="utf-8")
    outcome = cli("find", "--dataset=cora", "--model=net.py:build", *OWN)
    assert outcome.code == 2
    assert "the model's forward raised AttributeError: 'Net' object has no attri" in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision", "hits@5"])
def test_link_prediction(metric, found, agreeing, tmp_path):
    own_inputs.links(tmp_path / "pairs.npz")
    asked = () if metric == "roc_auc" else (f"--metric={metric}",)
    ticket = found("--data=pairs.npz", "--batch-size=64", *asked, *SIZED)
    recorded = {"name": "link-prediction", "metric": metric, "batch_size": 64}
    assert ticket.settings["task"] == recorded
    # Embeddings are as wide as the hidden layers.
    assert ticket.init_state["convs.1.lin.weight"].shape == (8, 8)
    result = agreeing("--data=pairs.npz")
    assert (result["task"], result["metric"]) == ("link-prediction", metric)


def test_positives_are_kept_among_the_messages_only_if_asked(found, tmp_path):
    own_inputs.links(tmp_path / "pairs.npz")
    taken_out = found("--data=pairs.npz", *SIZED)
    kept = found("--data=pairs.npz", "--keep-positives", *SIZED)
    assert any(
        not torch.equal(kept.trained_state[name], value)
        for name, value in taken_out.trained_state.items()
    )


def test_a_model_of_ones_own_for_links_keeps_its_width(found, agreeing, tmp_path):
    own_inputs.links(tmp_path / "pairs.npz")
    own_inputs.model(tmp_path / "net.py")
    wide = found("--data=pairs.npz", "--model=net.py", *OWN)
    assert wide.init_state["last.lin_l.weight"].shape == (64, 8)
    narrow = found("--data=pairs.npz", "--model=net.py:build", "--hidden=5", *OWN)
    assert narrow.init_state["last.lin_l.weight"].shape == (5, 8)
    agreeing("--data=pairs.npz", "--model=./net.py")


def test_a_graph_without_features_in_a_new_process(found, tmp_path):
    own_inputs.links(tmp_path / "bare.npz", features=False)
    ticket = found("--data=bare.npz", "--embedding-dim=6", *SIZED)
    assert ticket.settings["model"] == {
        "name": "gcn", "hidden": 8, "layers": 2, "dropout": 0.5, "heads": None, "norm": "none",
        "embedding_dim": 6,
    }  # fmt: skip
    assert [120, 6] in [list(value.shape) for value in ticket.init_state.values()]
    command = [sys.executable, "-m", "fastglt", "eval", FILE, "--data=bare.npz", "--json=-"]
    result = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    measured = json.loads(result.stdout)
    assert measured["agrees"] is True
    assert measured["test_recorded"] == ticket.metrics["test_ticket"]


def test_the_width_of_a_learned_embedding_is_that_of_the_hidden_layers(found, tmp_path):
    own_inputs.links(tmp_path / "bare.npz", features=False)
    assert found("--data=bare.npz", *SIZED).settings["model"]["embedding_dim"] == 8


def test_several_labels_a_node(found, agreeing, tmp_path):
    own_inputs.labels(tmp_path / "tags.npz")
    ticket = found("--data=tags.npz", *SIZED)
    expected = {"name": "multilabel-node-classification", "metric": "roc_auc"}
    assert ticket.settings["task"] == expected
    assert agreeing("--data=tags.npz")["metric"] == "roc_auc"


def test_two_classes_can_be_ranked(found, agreeing, cli, tmp_path):
    own_inputs.nodes(tmp_path / "two.npz", num_classes=2)
    assert found("--data=two.npz", "--metric=roc_auc", *SIZED).metrics["metric"] == "roc_auc"
    assert agreeing("--data=two.npz")["metric"] == "roc_auc"
    # Another metric is measured, and has nothing to be compared with.
    outcome = cli("eval", FILE, "--data=two.npz", "--metric=accuracy", "--json=-")
    result = json.loads(outcome.out)
    assert "records no accuracy to compare with" in outcome.err
    assert (result["metric"], result["agrees"]) == ("accuracy", None)


def test_a_graph_can_be_used_for_another_task_than_its_usual_one(found, agreeing, tmp_path):
    data = own_inputs.links(tmp_path / "both.npz")
    data.y = torch.arange(120) % 4
    for name in own_inputs.MASKS:
        data[name] = torch.arange(120) % 3 == own_inputs.MASKS.index(name)
    own_inputs.save_npz(data, tmp_path / "both.npz")
    ticket = found("--data=both.npz", "--task=node-classification", *SIZED)
    assert ticket.settings["task"] == {"name": "node-classification", "metric": "accuracy"}
    assert ticket.settings["dataset"]["task"] == "link-prediction"
    assert ticket.init_state["convs.1.lin.weight"].shape == (4, 8), "as many outputs as classes"
    assert agreeing("--data=both.npz")["task"] == "node-classification"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--task=link-prediction",), "needs pairs to tell apart, which mine does not have"),
        (("--task=multilabel-node-classification",), "data.y must"),
        (("--task=graph-classification",), "task: input should be 'node-classification'"),
        (("--metric=hits@20",), "unknown metric of node-classification 'hits@20'"),
        (("--metric=roc_auc",), "metric 'roc_auc' needs two classes (got 3)"),
        (("--batch-size=64",), "batch_size is for link prediction (got task 'node-classi"),
        (("--keep-positives",), "keep_positives is for link prediction"),
        (("--split=20",), "split must be TRAIN,VAL, such as 20,30 or 0.6,0.2 (got '20')"),
        (("--split=a,b",), "split must be TRAIN,VAL"),
        (("--split=0.6,0.2,0.2",), "split must be TRAIN,VAL"),
        (("--split=0.6,0.6",), "train + val must be at most 1 (got 0.6 + 0.6)"),
        (("--split=nan,0.2",), "train must be a share in (0, 1) (got nan)"),
        (("--split=20,30",), "every class must have at least 50 nodes"),
        (("--embedding-dim=4",), "embedding_dim is for graphs without features"),
    ],
)
def test_what_does_not_go_together_is_refused(options, message, cli, tmp_path):
    own_inputs.nodes(tmp_path / "mine.npz")
    outcome = cli("find", "--data=mine.npz", *SIZED, *options)
    assert outcome.code == 2, outcome.out
    assert outcome.err.startswith("error: ")
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"not an archive", "must be a .npz archive"),
        (b"", "must be a .npz"),
    ],
)
def test_files_that_are_no_graphs(content, message, cli, tmp_path):
    if content is not None:
        (tmp_path / "mine.npz").write_bytes(content)
    outcome = cli("find", "--data=mine.npz")
    assert outcome.code == 2
    assert message in outcome.err
