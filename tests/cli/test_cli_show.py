"""``fastglt show`` needs nothing but the file."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_graph import load
from torch_geometric.nn import GCN

import fastglt
from fastglt.cli.show import split_settings
from fastglt.search.presets import PRESETS
from fastglt.settings import Settings
from fastglt.ticket import Ticket


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GCN(6, 4, 2, 3)


def test_shows_metrics_layers_settings_and_provenance(cli, ticket):
    outcome = cli("show", "ticket.safetensors")
    assert outcome.code == 0
    assert outcome.out.isascii()
    assert "\x1b" not in outcome.out
    lines = [" ".join(line.split()) for line in outcome.out.splitlines()]
    assert lines[0].startswith("ticket.safetensors: lottery ticket, ")
    assert f"test accuracy {ticket.metrics['test_dense']:.2%}".replace("%", " %") in " ".join(lines)
    for name, mask in ticket.weight_masks.items():
        share = f"{100 * (1 - mask.float().mean().item()):.2f} %"
        assert f"{name} {int(mask.sum())} {mask.numel()} {share}" in lines
    found_on = lines[lines.index("Found on") :]
    for line in ("dataset.name cora", "task.metric accuracy", "model.name gcn", "model.hidden 8"):
        assert line in found_on
    assert not any(line.startswith("model.heads") for line in lines)
    different = lines.index("Settings that differ from the preset")
    other = lines.index("Other settings")
    assert different < lines.index("denoise_steps 25") < other < lines.index("alpha 0.3")
    assert f"torch {torch.__version__}" in lines


def test_json_is_everything_but_the_tensors(cli, ticket):
    outcome = cli("show", "ticket.safetensors", "--json")
    content = json.loads(outcome.out)
    for name in ("metrics", "settings", "provenance", "history", "graph", "model"):
        assert content[name] == json.loads(json.dumps(getattr(ticket, name)))
    assert content["edges"] == {"kept": ticket.num_edges_kept, "total": ticket.edge_keep.numel()}
    assert sum(each["kept"] for each in content["weights"].values()) == ticket.num_weights_kept


def test_a_ticket_of_the_python_interface(cli, model, tmp_path):
    found = fastglt.find(
        model, load("cora").data, weight_sparsity=0.5, dense_epochs=2, pretrain_epochs=1,
        denoise_steps=2, retrain_epochs=2,
    )  # fmt: skip
    found.save(tmp_path / "api.st")
    outcome = cli("show", "api.st")
    assert outcome.code == 0
    assert "50.00 % of the prunable weights" in outcome.out


def test_a_bare_ticket_without_metrics_and_settings(cli, model, tmp_path):
    data = load("cora").data
    state = model.state_dict()
    keep = torch.ones(data.num_edges, dtype=torch.bool)
    bare = Ticket.create(
        model, data, edge_keep=keep, weight_masks={}, init_state=state, trained_state=state
    )
    bare.save(tmp_path / "bare.st")
    outcome = cli("show", "bare.st")
    assert outcome.code == 0
    assert "not rewound" in outcome.out
    assert cli("show", "bare.st", "--json").code == 0


def test_foreign_text_cannot_reach_the_terminal(cli, ticket, tmp_path):
    ticket.provenance["note"] = "\x1b[31mred\nline [bold]x[/bold]"
    ticket.metrics["metric"] = "acc\x1b[0m"
    ticket.metrics["val_dense"] = "\x07"
    ticket.save(tmp_path / "foreign.st")
    outcome = cli("show", "foreign.st")
    assert outcome.code == 0
    assert "\x1b" not in outcome.out
    assert "\x07" not in outcome.out
    assert "\\u001b[31mred\\nline [bold]x[/bold]" in outcome.out


@pytest.mark.parametrize("command", ["show", "eval"])
def test_files_that_are_no_tickets(command, cli, ticket, tmp_path):
    (tmp_path / "text.st").write_text("hello")
    cut = (tmp_path / "ticket.safetensors").read_bytes()[:-20]
    (tmp_path / "cut.st").write_bytes(cut)
    for name in ("text.st", "cut.st", "absent.st", "."):
        outcome = cli(command, name)
        assert outcome.code == 2, name
        assert outcome.err.startswith("error: ")
        assert outcome.out == ""


@pytest.mark.parametrize("preset", PRESETS)
def test_only_what_differs_from_the_preset_is_set_apart(preset):
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    settings = {**defaults, **PRESETS[preset], "preset": preset}
    assert split_settings(settings) == ({}, settings)
    from_file = json.loads(json.dumps(settings))
    assert split_settings(from_file) == ({}, from_file)
    changed = {**settings, "seed": 5, "novel": 1, "include": ["*.bias"]}
    different, same = split_settings(changed)
    assert different == {"seed": 5, "novel": 1, "include": ["*.bias"]}
    assert {**different, **same} == changed


def test_a_preset_of_another_version_is_no_obstacle():
    different, same = split_settings({"preset": ["odd"], "lr": 0.01, "teacher": "none"})
    assert different == {"teacher": "none"}
    assert same == {"preset": ["odd"], "lr": 0.01}
