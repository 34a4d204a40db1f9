"""``fastglt eval``: a ticket's claims are measured again."""

from __future__ import annotations

import json

import own_inputs
import pytest
import tiny_graph
import torch
from torch_geometric.data import Data

from fastglt.cli.measure import Check, rounding_slack
from fastglt.ticket import Ticket
from fastglt.training.tasks import NodeClassification

FILE = "ticket.safetensors"


def test_graph_and_model_come_from_the_ticket_and_its_claims_hold(cli, ticket, tmp_path):
    outcome = cli("eval", FILE, "--json=e.json")
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    assert "measured and recorded figures agree" in outcome.out
    result = json.loads((tmp_path / "e.json").read_text())
    assert result["agrees"] is True
    assert result["test_ticket"] == pytest.approx(ticket.metrics["test_ticket"], abs=1e-6)
    assert (result["dataset"], result["model"]) == ("cora", "gcn")


@pytest.mark.parametrize("name", ["val_ticket", "test_ticket"])
def test_a_claim_that_does_not_hold_is_a_failure(name, cli, ticket, tmp_path):
    ticket.metrics[name] += 0.5
    ticket.save(tmp_path / FILE)
    outcome = cli("eval", FILE, "--json=e.json")
    assert outcome.code == 1
    assert "claims what does not hold" in outcome.err
    assert f"{ticket.metrics[name]:.6f} recorded" in outcome.err
    assert json.loads((tmp_path / "e.json").read_text())["agrees"] is False


def test_a_recorded_split_is_replayed(cli, tmp_path):
    args = ("--dataset=computers", "--split-seed=3", *tiny_graph.QUICK)
    assert cli("find", *args).code == 0
    records = Ticket.load(tmp_path / FILE).settings["dataset"]["transforms"]
    assert [record["name"] for record in records] == ["RandomSplit", "NormalizeFeatures"]
    assert records[0]["seed"] == 3
    recorded = json.loads(cli("eval", FILE, "--json=-").out)
    assert recorded["agrees"] is True
    asked = json.loads(cli("eval", FILE, "--dataset=Computers", "--json=-").out)
    assert asked == recorded


def test_figures_of_another_split_are_not_held_against_the_ticket(cli, tmp_path):
    assert cli("find", "--dataset=computers", "--split-seed=3", *tiny_graph.QUICK).code == 0
    recorded = json.loads(cli("eval", FILE, "--json=-").out)
    outcome = cli("eval", FILE, "--split-seed=8", "--json=-")
    other = json.loads(outcome.out)
    assert other["test_ticket"] != recorded["test_ticket"]
    assert (outcome.code, other["agrees"], other["test_recorded"]) == (0, None, None)
    assert "another split than the ticket's" in outcome.err
    # The recorded split under another option is the recorded split.
    same = json.loads(cli("eval", FILE, "--split-seed=3", "--json=-").out)
    assert same == recorded


def test_another_model_or_graph_is_refused(cli, ticket):
    outcome = cli("eval", FILE, "--hidden=9")
    assert outcome.code == 2
    assert "another model" in outcome.err
    assert cli("eval", FILE, "--layers=3").code == 2
    assert cli("eval", FILE, "--model=gat").code == 2


def test_a_lazy_model_of_ones_own(cli, tmp_path):
    own_inputs.model(tmp_path / "net.py")
    text = (tmp_path / "net.py").read_text().replace("SAGEConv(num_features", "SAGEConv(-1")
    (tmp_path / "net.py").write_text(text)
    quick = [option for option in tiny_graph.QUICK if not option.startswith("--hidden")]
    found = cli("find", "--dataset=cora", "--model=net.py", "--weight-sparsity=0.5", *quick)
    assert found.code == 0, found.err
    outcome = cli("eval", FILE, "--model=net.py", "--json=-")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["agrees"] is True


def test_a_graph_of_another_size_is_named_as_such(cli, ticket, tmp_path):
    ticket.graph["num_nodes"] = 121
    ticket.save(tmp_path / FILE)
    outcome = cli("eval", FILE)
    assert outcome.code == 2
    assert "another graph: it was found on 121 nodes, and cora has 120" in outcome.err


def test_other_features_are_warned_about(cli, ticket, monkeypatch):
    load = tiny_graph.load

    def raw(name, **keywords):
        dataset = load(name, **keywords)
        dataset.data.x = dataset.data.x + 1
        return dataset

    monkeypatch.setattr("fastglt.data.load", raw)
    outcome = cli("eval", FILE)
    assert outcome.err.startswith("warning: the node features differ")


def test_a_ticket_that_does_not_name_its_graph(cli, ticket, tmp_path):
    del ticket.settings["dataset"], ticket.settings["model"]
    ticket.save(tmp_path / FILE)
    outcome = cli("eval", FILE)
    assert outcome.code == 2
    assert "name it with --dataset" in outcome.err
    assert cli("eval", FILE, "--dataset=cora", "--hidden=8").code == 0
    (tmp_path / "c.toml").write_text('dataset = "cora"\nhidden = 8\ndenoise_steps = 3\n')
    assert cli("eval", FILE, "--config=c.toml").code == 0


def test_nothing_recorded_is_nothing_to_disagree_with(cli, ticket, tmp_path):
    for name in ("val_ticket", "test_ticket"):
        del ticket.metrics[name]
    ticket.save(tmp_path / FILE)
    outcome = cli("eval", FILE, "--json=e.json")
    assert outcome.code == 0
    assert "no accuracy to compare with" in outcome.out
    assert json.loads((tmp_path / "e.json").read_text())["agrees"] is None


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("dataset", "cora", "setting dataset cannot be used"),
        ("dataset", {"name": "cora"}, "setting dataset.task cannot be used: field required"),
        ("dataset", {"name": "cora", "task": "t", "transforms": [{"name": "Evil"}]}, "'Evil'"),
        (
            "dataset",
            {"name": "cora", "task": "t", "transforms": [{"name": "NormalizeFeatures", "x": 1}]},
            "cannot be replayed",
        ),
        ("model", {"name": "gcn", "hidden": -1}, "setting model.hidden cannot be used"),
        ("model", {"hidden": 8}, "setting model.name cannot be used: field required"),
        ("model", {"name": "evil"}, "unknown model 'evil'"),
        ("task", {"name": "evil"}, "setting task.metric cannot be used: field required"),
        ("task", {"name": "custom", "metric": "m"}, "'custom', is none of the command line's"),
        (
            "task",
            {"name": "node-classification", "metric": "luck"},
            "unknown metric of node-classification 'luck'",
        ),
    ],
)
def test_damaged_records_are_named(key, value, message, cli, ticket, tmp_path):
    ticket.settings[key] = value
    ticket.save(tmp_path / FILE)
    outcome = cli("eval", FILE)
    assert outcome.code == 2
    assert message in outcome.err


def test_a_recorded_metric_must_be_a_number(cli, ticket, tmp_path):
    ticket.metrics["val_ticket"] = "high"
    ticket.save(tmp_path / FILE)
    outcome = cli("eval", FILE)
    assert outcome.code == 2
    assert "val_ticket must be a number (got 'high')" in outcome.err


def test_an_unwritable_json_path_is_found_out_first(cli, ticket, no_search):
    assert cli("eval", FILE, "--json=missing/e.json").code == 2


def slack(out, y):
    data = Data(y=torch.tensor(y), val_mask=torch.ones(len(y), dtype=torch.bool))
    task, predicted = NodeClassification(), torch.tensor(out)
    return rounding_slack(task, predicted, data, "val", task.metric(predicted, data, "val"))


def test_rounding_may_move_only_nodes_on_the_edge():
    sure = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    assert slack(sure, [0, 1, 1, 1]) == 0
    # Of four nodes one is undecided, and is allowed for twice.
    undecided = [[1.0, 0.0], [0.5, 0.50000001], [1.0, 0.0], [0.0, 1.0]]
    assert slack(undecided, [0, 1, 1, 1]) == 0.5


def test_figures_agree_within_their_tolerance():
    assert Check("val", 0.5, 0.5 + 5e-7, 1e-6).agrees is True
    assert Check("val", 0.5, 0.5 + 5e-6, 1e-6).agrees is False
    assert Check("val", 0.5, None, 1e-6).agrees is None


@pytest.mark.parametrize("model", ["gcn", "gat"])
def test_a_narrower_model_in_place_of_the_searched_one_is_rebuilt(model, find, cli):
    find(f"--model={model}", "--hidden=32", "--method=small-dense", "--weight-sparsity=0.7")
    outcome = cli("eval", "ticket.safetensors")
    assert outcome.code == 0, outcome.err
