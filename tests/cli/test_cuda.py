"""Searches on a GPU, where there is one."""

from __future__ import annotations

import pytest
import torch
from tiny_graph import QUICK

from fastglt.api import find
from fastglt.api.evidence import find_with_evidence
from fastglt.data import csbm
from fastglt.models import BACKBONES, build_model
from fastglt.models.config import BackboneConfig
from fastglt.search import METHODS
from fastglt.search.presets import resolve_settings
from fastglt.training.seeding import seeded
from fastglt.training.tasks import NodeClassification

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")
SHORT = {
    "edge_sparsity": 0.4, "weight_sparsity": 0.8, "dense_epochs": 20, "pretrain_epochs": 4,
    "denoise_steps": 25, "retrain_epochs": 20,
}  # fmt: skip
EDGES_ALONE = ("dropedge", "dspar")


def _case(name="gcn", device="cuda"):
    data = csbm(300, num_classes=3, num_features=12, average_degree=8, seed=1).to(device)
    layers = 3 if name == "deepergcn" else 2
    with seeded(0):
        model = build_model(name, 12, 3, BackboneConfig(hidden=32, layers=layers)).to(device)
    return model, data


def _assert_exact(ticket, data):
    assert ticket.num_edges_kept == round(0.6 * data.num_edges)
    assert ticket.weight_sparsity == pytest.approx(0.8, abs=1e-3)


@CUDA
@pytest.mark.parametrize("name", list(BACKBONES))
def test_every_backbone(name):
    model, data = _case(name)
    ticket = find(model, data, **SHORT)
    _assert_exact(ticket, data)
    assert ticket.metrics["val_ticket"] > 0.5
    assert ticket.provenance["device"] == torch.cuda.get_device_name()


@CUDA
@pytest.mark.parametrize(
    "method", [name for name in METHODS if name not in ("dense", "small-dense")]
)
def test_every_method(method):
    model, data = _case()
    edges_alone = {"weight_sparsity": 0.0} if method in EDGES_ALONE else {}
    ticket = find(model, data, method=method, **SHORT | edges_alone)
    assert 0 < ticket.num_edges_kept <= data.num_edges


@CUDA
@pytest.mark.parametrize(
    "settings",
    [
        {"inductive": True}, {"inductive": True, "edge_rule": "degree"},
        {"edge_values": "learned"}, {"weight_pattern": "4x4"},
        {"weight_pattern": "2:16", "weight_sparsity": 0.875},
        {"teacher_features": 0.5}, {"edge_score": "trained-gate"},
        {"edge_score": "divergence+degree"}, {"edge_score": "similarity"},
        {"edge_score": "influence"}, {"edge_score": "unit-gate"}, {"allocation": "live"},
        {"allocation": "global"}, {"teacher": "none"}, {"preset": "paper"},
        {"max_drop": 50.0, "edge_sparsity": 0.0, "weight_sparsity": 0.0},
    ],
    ids=str,
)  # fmt: skip
def test_settings(settings):
    model, data = _case()
    ticket = find(model, data, **{**SHORT, **settings})
    assert ticket.metrics["val_ticket"] > 0.3


@CUDA
def test_a_ticket_moves_between_devices(tmp_path):
    from fastglt.ticket import Ticket

    model, data = _case()
    ticket = find(model, data, **SHORT)
    path = tmp_path / "t.safetensors"
    ticket.save(path)
    loaded = Ticket.load(path)
    outputs = {}
    for device in ("cpu", "cuda"):
        model, data = _case(device=device)
        small, graph = loaded.apply(model, data)
        assert graph.edge_index.device.type == device
        with torch.no_grad():
            outputs[device] = small.eval()(graph.x, graph.edge_index).cpu()
    torch.testing.assert_close(outputs["cpu"], outputs["cuda"], rtol=1e-4, atol=1e-4)


@CUDA
def test_evidence():
    model, data = _case()
    settings = resolve_settings({**SHORT, "seed": 3})
    found = find_with_evidence(model, data, NodeClassification(), settings)
    assert found.ticket.metrics["test_ticket"] > 0.5
    assert found.figures["analysis"]


@CUDA
def test_the_command_line_computes_there(cli, tmp_path):
    arguments = ("--dataset=cora", "--device=cuda", *QUICK)
    assert cli("find", *arguments, "--edge-sparsity=0.3", "--out=t.safetensors").code == 0
    assert cli("eval", "t.safetensors", "--device=cuda").code == 0
