from __future__ import annotations

import torch

import fastglt
from helpers import TINY, build, graph, states_equal


def _find(**settings):
    data = graph()
    budget = {"edge_sparsity": 0.3, "weight_sparsity": 0.8}
    return fastglt.find(build("gcn", data), data, method="dense", **TINY | budget | settings)


def test_nothing_is_pruned_whatever_is_asked_for():
    ticket = _find()
    assert ticket.edge_keep.all()
    assert all(keep.all() for keep in ticket.weight_masks.values())
    metrics = ticket.metrics
    assert metrics["epochs"]["search"] == 0
    for cost in ("macs", "params", "edges"):
        assert metrics[f"{cost}_ticket"] == metrics[f"{cost}_dense"]


def test_without_a_teacher_the_dense_run_is_repeated():
    ticket = _find(teacher="none")
    for split in ("val", "test"):
        assert ticket.metrics[f"{split}_ticket"] == ticket.metrics[f"{split}_dense"]
    assert not states_equal(ticket.trained_state, _find(teacher="dense").trained_state)
    assert states_equal(ticket.init_state, build("gcn", graph()).state_dict())
    assert torch.equal(ticket.edge_keep, torch.ones_like(ticket.edge_keep))
