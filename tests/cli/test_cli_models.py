"""Named backbones, and settings that depend on the model or reach it."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_graph import QUICK

from fastglt.models import BACKBONES
from fastglt.ticket import Ticket

FILE = "ticket.safetensors"
BUDGET = ("--edge-sparsity=0.2", "--weight-sparsity=0.5")
SIZES = {"deepergcn": ("--layers=3",), "gat": ("--heads=2",)}


def agrees(cli, *args):
    outcome = cli("eval", FILE, "--json=-", *args)
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)["agrees"]


@pytest.mark.parametrize("model", BACKBONES)
def test_every_backbone_from_find_to_eval(model, find, cli, tmp_path):
    find(f"--model={model}", *SIZES.get(model, ()), *BUDGET)
    ticket = Ticket.load(tmp_path / FILE)
    sizes = {option.lstrip("-").partition("=")[0]: int(option.partition("=")[2])
             for option in ("--hidden=8", *SIZES.get(model, ()))}  # fmt: skip
    record = ticket.settings["model"]
    assert record["name"] == model
    assert {name: record[name] for name in sizes} == sizes
    assert agrees(cli) is True


def test_a_name_in_any_case(find, cli, tmp_path):
    find("--model=SAGE")
    assert Ticket.load(tmp_path / FILE).settings["model"]["name"] == "sage"
    assert agrees(cli, "--model=Sage", "--dataset=CORA") is True


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model=gcn", "--heads=2"), "gcn has no heads (got heads=2); leave it out"),
        (("--model=gat", "--hidden=9", "--heads=2"), "hidden must be divisible by heads"),
    ],
)
def test_heads_are_for_attention_only(options, message, cli):
    outcome = cli("find", "--dataset=cora", *options)
    assert outcome.code == 2
    assert message in outcome.err


def test_patterns_choose_what_is_pruned(find, cli, tmp_path):
    find("--model=gat", "--heads=2", "--include=*.att_src, *.att_dst", "--exclude=convs.1.*")
    ticket = Ticket.load(tmp_path / FILE)
    assert ticket.settings["include"] == ["*.att_src", "*.att_dst"]
    assert ticket.settings["exclude"] == ["convs.1.*"]
    assert set(ticket.weight_masks) == {
        "convs.0.lin.weight", "convs.0.att_src", "convs.0.att_dst",
    }  # fmt: skip
    assert agrees(cli) is True


def test_patterns_from_a_file_are_a_list_or_a_string(cli, tmp_path):
    (tmp_path / "c.toml").write_text(
        'include = ["*.bias"]\nexclude = "convs.0.lin.*, convs.1.b*"\n'
    )
    outcome = cli("find", "--dataset=cora", "--config=c.toml", *QUICK)
    assert outcome.code == 0, outcome.err
    ticket = Ticket.load(tmp_path / FILE)
    assert set(ticket.weight_masks) == {"convs.0.bias", "convs.1.lin.weight"}


@pytest.mark.parametrize("option", ["include", "exclude"])
def test_a_pattern_that_matches_nothing_is_refused(option, cli, tmp_path):
    outcome = cli("find", "--dataset=cora", *QUICK, f"--{option}=convs.0.lim.weight")
    assert outcome.code == 2
    assert f"{option} pattern 'convs.0.lim.weight' must match a parameter" in outcome.err
    assert "'convs.0.lin.weight'" in outcome.err
    assert not (tmp_path / FILE).exists()


def test_learned_edge_values(find, cli, tmp_path):
    find("--edge-values=learned", *BUDGET)
    ticket = Ticket.load(tmp_path / FILE)
    assert ticket.edge_weight is not None
    assert not torch.equal(ticket.edge_weight, torch.ones_like(ticket.edge_weight))
    assert agrees(cli) is True


def test_learned_edge_values_need_a_model_that_takes_them(cli, tmp_path):
    args = ("--model=sage", "--edge-values=learned", *QUICK)
    outcome = cli("find", "--dataset=cora", *args)
    assert outcome.code == 2
    assert "edge_values='learned' needs a model" in outcome.err


@pytest.mark.parametrize("rule", ["keep", "degree"])
def test_an_inductive_search(rule, find, cli, tmp_path):
    outcome = find("--inductive", "--holdout=0.3", f"--edge-rule={rule}", "--json=r.json", *BUDGET)
    assert outcome.err == ""
    assert json.loads((tmp_path / "r.json").read_text())["inductive"] is True
    found = Ticket.load(tmp_path / FILE)
    settings, pruned = found.settings, found.metrics["edges_pruned"]
    counts = f"prunable edges ({pruned} of {found.metrics['edges_prunable']}) and"
    assert counts in outcome.out
    assert counts in cli("show", FILE).out
    assert (settings["inductive"], settings["holdout"], settings["edge_rule"]) == (True, 0.3, rule)
    assert agrees(cli) is True


@pytest.mark.parametrize(
    ("text", "recorded"),
    [
        ("5,10", {"train_per_class": 5, "val_per_class": 10}),
        ("0.6,0.2", {"train": 0.6, "val": 0.2}),
    ],
)
def test_a_split_takes_the_place_of_the_public_one(text, recorded, find, cli, tmp_path):
    find(f"--split={text}", "--split-seed=2")
    transforms = Ticket.load(tmp_path / FILE).settings["dataset"]["transforms"]
    assert transforms[0] == {"name": "RandomSplit", **recorded, "seed": 2}
    assert agrees(cli) is True
