"""Sparsities that follow from a goal."""

from __future__ import annotations

import pytest
import torch

import fastglt
from fastglt.api import goals
from fastglt.api.goals import Goal
from fastglt.errors import BudgetError, InputError
from fastglt.study.frontier import border, sparsities
from fastglt.training.callback import Callback
from fastglt.training.tasks import NodeClassification
from helpers import TINY, build, graph

LEARNS = TINY | {"dense_epochs": 30, "retrain_epochs": 30, "patience": 0}


def _find(data=None, model="gcn", **settings):
    data = graph() if data is None else data
    return fastglt.find(build(model, data), data, **(LEARNS | settings))


def _trials(ticket):
    return ticket.metrics["goal"]["trials"]


@pytest.mark.parametrize(("axis", "most"), [("edges", 0.0), ("weights", 8.0), ("joint", 8.0)])
def test_the_ticket_is_the_sparsest_that_was_seen_to_lose_little(axis, most):
    ticket = _find(max_drop=most, axis=axis)
    drop = 100 * (ticket.metrics["val_dense"] - ticket.metrics["val_ticket"])
    assert drop <= most + 1e-6
    passed = [trial for trial in _trials(ticket) if trial["meets"]]
    failed = [trial for trial in _trials(ticket) if not trial["meets"]]
    assert passed
    assert failed or axis == "edges"  # a model that knows the features hardly needs its edges
    best = max(passed, key=lambda trial: trial["edge_sparsity"] + trial["weight_sparsity"])
    assert best["value"] == pytest.approx(drop)
    assert ticket.settings["edge_sparsity"] == best["edge_sparsity"]
    assert ticket.settings["weight_sparsity"] == best["weight_sparsity"]
    assert (ticket.edge_sparsity > 0) == (axis != "weights")
    assert (ticket.weight_sparsity > 0) == (axis != "edges")
    assert all(trial["value"] is None or trial["value"] > most for trial in failed)


def test_it_is_the_ticket_that_its_sparsities_give():
    chosen = _find(max_drop=8.0)
    budget = {name: chosen.settings[name] for name in ("edge_sparsity", "weight_sparsity")}
    given = _find(**budget)
    assert torch.equal(chosen.edge_keep, given.edge_keep)
    assert chosen.metrics["test_ticket"] == given.metrics["test_ticket"]
    for name, tensor in given.trained_state.items():
        assert torch.equal(chosen.trained_state[name], tensor)


def test_a_side_that_is_not_chosen_may_be_given():
    ticket = _find(max_drop=20.0, axis="edges", weight_sparsity=0.5)
    assert ticket.metrics["weight_sparsity"] == pytest.approx(0.5, abs=0.02)
    assert {trial["weight_sparsity"] for trial in _trials(ticket)} == {0.5}
    assert ticket.edge_sparsity > 0


@pytest.mark.parametrize("share", [True, False])
def test_macs_stay_below_the_target_and_no_lower_than_needed(share):
    dense = _find(weight_sparsity=0.1).metrics["macs_dense"]
    ticket = _find(target_macs=0.4 if share else 0.4 * dense, resolution=0.5)
    assert ticket.metrics["macs_ticket"] <= 0.4 * dense
    assert ticket.metrics["macs_ticket"] == min(
        trial["value"]
        for trial in _trials(ticket)
        if trial["value"] is not None and trial["edge_sparsity"] == ticket.settings["edge_sparsity"]
    )
    dearer = [trial["value"] for trial in _trials(ticket) if not trial["meets"]]
    assert dearer
    assert min(dearer) > 0.4 * dense


def test_only_one_dense_run_and_one_retraining_are_needed_for_a_cost():
    phases = []

    class Listener(Callback):
        def on_phase_start(self, phase, total):
            phases.append(phase)

    ticket = _find(target_macs=0.3, callback=Listener())
    assert phases.count("dense") == phases.count("retrain") == 1
    assert phases.count("denoise") == len(_trials(ticket))


def test_a_latency_is_measured_under_the_masks_on_the_kept_graph(monkeypatch):
    seen = []

    def latency(model, task, data):
        zeros = sum(int((p == 0).sum()) for p in model.parameters() if p.dim() > 1)
        seen.append((data.num_edges, zeros))
        return data.num_edges / 100

    monkeypatch.setattr(goals, "latency_ms", latency)
    ticket = _find(target_latency_ms=3.0)
    assert ticket.num_edges_kept <= 300
    assert all(edges < graph().num_edges and zeros > 0 for edges, zeros in seen)


def test_a_latency_is_the_median_of_what_the_clock_says(monkeypatch):
    ticks = iter(range(10_000))
    monkeypatch.setattr(goals.time, "perf_counter", lambda: next(ticks) / 1000)
    data = graph()
    assert goals.latency_ms(build("gcn", data), NodeClassification(), data) == pytest.approx(1.0)


def test_seconds_add_up_and_the_trials_have_theirs():
    seconds = _find(max_drop=8.0).metrics["seconds"]
    assert seconds["trials"] > 0
    parts = sum(value for name, value in seconds.items() if name != "total")
    assert parts <= seconds["total"] + 1e-6


def test_a_goal_that_nothing_meets_says_what_was_tried():
    with pytest.raises(BudgetError, match=r"no sparsity that was tried meets target_macs=1"):
        _find(target_macs=1.0)
    with pytest.raises(BudgetError, match=r"max_drop=0 .*points lost on validation"):
        _find(max_drop=0.0, retrain_epochs=1, resolution=2.0)


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"max_drop": 1.0, "target_macs": 0.5}, InputError, "one goal at a time"),
        ({"max_drop": -1.0}, InputError, "max_drop must be at least 0"),
        ({"target_macs": 0.0}, InputError, "target_macs must be positive"),
        ({"target_latency_ms": -1.0}, InputError, "target_latency_ms must be positive"),
        ({"max_drop": 1.0, "resolution": 0.0}, InputError, "resolution must be positive"),
        ({"max_drop": 1.0, "axis": "both"}, InputError, "axis must be one of"),
        ({"max_drop": 1.0, "edge_sparsity": 0.2}, BudgetError, "edge_sparsity follows from"),
        (
            {"max_drop": 1.0, "axis": "weights", "weight_sparsity": 0.2},
            BudgetError,
            "weight_sparsity follows from",
        ),
    ],
)
def test_what_contradicts_a_goal_is_refused(settings, error, match):
    with pytest.raises(error, match=match):
        _find(**settings)


def test_without_a_goal_there_is_none():
    given = {"max_drop": None, "target_macs": None, "target_latency_ms": None}
    assert Goal.of(given, "joint", 1.0) is None


def test_the_border_lies_between_what_passes_and_what_does_not():
    tried = []

    def passes(rounds):
        tried.append(rounds)
        return rounds <= 10.3

    low, high = border(passes, 0.5)
    assert low <= 10.3 < high
    assert high - low <= 0.5
    assert tried[:3] == [4.0, 8.0, 16.0]
    assert sparsities("joint", low)[0] < sparsities("joint", high)[0]
    assert border(lambda rounds: True, 0.5)[1] > 64
    assert border(lambda rounds: False, 1.0)[0] == 0
