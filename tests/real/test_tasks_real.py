"""Tasks and backbones on real graphs, with very short settings; see ``benchmarks/grid.py``."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score

import fastglt
from fastglt.models import BackboneConfig, build_model
from fastglt.training.seeding import seeded
from fastglt.training.tasks import make_task

pytestmark = pytest.mark.real

SHORT = {"dense_epochs": 2, "pretrain_epochs": 1, "denoise_steps": 6, "retrain_epochs": 2}
BUDGET = {"edge_sparsity": 0.3, "weight_sparsity": 0.5}


def model_for(dataset, name, **sizes):
    data = dataset.data
    with seeded(0):
        return build_model(
            name,
            data.num_features,
            dataset.num_classes or sizes["hidden"],
            BackboneConfig(**sizes),
            num_nodes=data.num_nodes,
        )


def assert_measures_the_same(ticket, dataset, task, name, **sizes):
    model, pruned = ticket.apply(model_for(dataset, name, **sizes), dataset.data)
    pruned = task.prepare(pruned)
    with torch.no_grad():
        out = task.forward(model.eval(), pruned)
    for split in ("val", "test"):
        again = task.metric(out, pruned, split)
        assert again == pytest.approx(ticket.metrics[f"{split}_ticket"], abs=2e-3)


@pytest.mark.parametrize("name", ["gin", "gat", "sage", "deepergcn"])
def test_backbones(real_dataset, tmp_path, name):
    dataset, sizes = real_dataset("cora"), {"hidden": 16, "layers": 2}
    task = make_task(None, dataset.data)
    ticket = fastglt.find(model_for(dataset, name, **sizes), dataset.data, **SHORT | BUDGET)
    ticket.save(tmp_path / "ticket.safetensors")
    loaded = fastglt.Ticket.load(tmp_path / "ticket.safetensors")
    assert_measures_the_same(loaded, dataset, task, name, **sizes)


def test_area_under_the_curve_on_a_million_edges(real_dataset):
    dataset, sizes = real_dataset("tolokers"), {"hidden": 8}
    assert dataset.data.num_edges > 10**6
    task = make_task(dataset.task, dataset.data, metric=dataset.metric)
    ticket = fastglt.find(
        model_for(dataset, "sage", **sizes), dataset.data, task=task, **SHORT | BUDGET
    )
    assert ticket.metrics["metric"] == "roc_auc"
    assert_measures_the_same(ticket, dataset, task, "sage", **sizes)
    model, pruned = ticket.apply(model_for(dataset, "sage", **sizes), dataset.data)
    with torch.no_grad():
        score = model.eval()(pruned.x, pruned.edge_index).softmax(dim=1)[:, 1]
    mask = pruned.test_mask
    expected = roc_auc_score(pruned.y[mask], score[mask])
    assert ticket.metrics["test_ticket"] == pytest.approx(expected, abs=2e-3)


def test_links_of_a_graph_without_features(real_dataset):
    dataset, sizes = real_dataset("ogbl-ddi"), {"hidden": 8}
    task = make_task(dataset.task, dataset.data, metric="roc_auc", batch_size=500_000)
    settings = SHORT | BUDGET | {"dense_epochs": 1, "retrain_epochs": 1}
    ticket = fastglt.find(model_for(dataset, "gcn", **sizes), dataset.data, task=task, **settings)
    assert ticket.edge_sparsity == pytest.approx(0.3, abs=1e-5)
    assert not any("embedding" in name for name in ticket.weight_masks)
    assert "embedding.weight" in ticket.trained_state
    assert_measures_the_same(ticket, dataset, task, "gcn", **sizes)


def test_substitute_features_are_named(real_dataset):
    dataset, sizes = real_dataset("ogbn-arxiv"), {"hidden": 8}
    if dataset.data.num_features != 128:
        assert "substitute features" in dataset.title
    ticket = fastglt.find(
        model_for(dataset, "gcn", **sizes), dataset.data, method="one-shot", **SHORT | BUDGET
    )
    assert_measures_the_same(ticket, dataset, make_task(None, dataset.data), "gcn", **sizes)
