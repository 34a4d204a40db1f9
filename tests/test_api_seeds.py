"""Several seeds at once give what each gives alone."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch_geometric.nn import GCN

import fastglt
from fastglt.errors import BudgetError, GraphError, InputError
from fastglt.training.seeding import seeded
from helpers import MODELS, TINY, graph, states_equal

SETTINGS = TINY | {"edge_sparsity": 0.3, "weight_sparsity": 0.8}


def build():
    return MODELS["gcn"](12, 3)


class Halved(fastglt.NodeClassification):
    """A task of one's own; the workers find it in this module."""

    def loss(self, out, data, split="train"):
        return super().loss(out, data, split) / 2


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def alone(data, seed, **settings):
    with seeded(seed):
        model = build()
    return fastglt.find(model, data, seed=seed, **SETTINGS | settings)


def assert_equal(ticket, other):
    assert torch.equal(ticket.edge_keep, other.edge_keep)
    for name in ("weight_masks", "init_state", "trained_state"):
        assert states_equal(dict(getattr(ticket, name)), dict(getattr(other, name)))
    drop = {"seconds"}
    assert {k: v for k, v in ticket.metrics.items() if k not in drop} == {
        k: v for k, v in other.metrics.items() if k not in drop
    }
    assert ticket.settings == other.settings


def test_one_after_the_other():
    data = graph()
    seeds = [3, 0]
    tickets = fastglt.find_seeds(build, data, seeds, workers=1, **SETTINGS)
    for ticket, seed in zip(tickets, seeds, strict=True):
        assert_equal(ticket, alone(data, seed))
    assert not torch.equal(tickets[0].edge_keep, tickets[1].edge_keep)


def test_in_processes(one_thread, monkeypatch):
    monkeypatch.setattr("fastglt.api.seeds.num_cores", lambda: 2)
    data = graph()
    before = copy.copy(data)
    state = torch.get_rng_state()
    seeds = [4, 1, 2]
    tickets = fastglt.find_seeds(build, data, seeds, task=Halved(), **SETTINGS)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(data[key] is before[key] for key in before.keys())  # noqa: SIM118
    for ticket, seed in zip(tickets, seeds, strict=True):
        assert_equal(ticket, alone(data, seed, task=Halved()))


def test_what_a_worker_raises_is_raised_here():
    with pytest.raises(BudgetError, match=r"edge_sparsity must be in \[0, 1\)"):
        fastglt.find_seeds(build, graph(), [0, 1], workers=2, edge_sparsity=1.5)


@pytest.mark.parametrize(
    ("seeds", "settings", "message"),
    [
        ([1, 1], {}, r"seeds must all be different \(got \[1, 1\]\)"),
        (3, {}, r"seeds must be a sequence of whole numbers \(got 3\)"),
        ([1], {"workers": 0}, r"workers must be at least 1 \(got 0\)"),
        ([1], {"seed": 3}, "seed cannot be given"),
        ([1], {"callback": fastglt.Callback()}, "callback cannot be given"),
    ],
)
def test_arguments_that_cannot_be_used(seeds, settings, message):
    with pytest.raises(InputError, match=message):
        fastglt.find_seeds(build, graph(), seeds, **settings)


class _Unreadable(GCN):
    """A model that workers cannot read."""

    def __reduce__(self):
        return _raise, ()


def _raise():
    raise AttributeError("no such class here")


def test_what_workers_cannot_be_given_is_named():
    with pytest.raises(InputError, match=r"could not be sent.*workers=1"):
        fastglt.find_seeds(build, graph(), [0, 1], workers=2, task=lambda: None)
    with pytest.raises(InputError, match=r"could not read the model \(no such class here\)"):
        fastglt.find_seeds(lambda: _Unreadable(12, 8, 2, 3), graph(), [0, 1], workers=2)


def test_a_script_without_a_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import fastglt\nfrom fastglt.data import csbm\nfrom torch_geometric.nn import GCN\n"
        "data = csbm(60, num_features=4)\n"
        "fastglt.find_seeds(lambda: GCN(4, 4, 2, 2), data, [0, 1], workers=2, dense_epochs=1)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    # Python's resource tracker may have the last word, on what the dead workers left.
    told = "fastglt.errors.InputError: the workers could not be started: a script must call"
    assert any(line.startswith(told) for line in done.stderr.splitlines())


def test_no_seeds_no_tickets():
    assert fastglt.find_seeds(build, graph(), []) == []


def test_what_is_no_graph_is_refused_as_find_refuses_it():
    with pytest.raises(GraphError):
        fastglt.find_seeds(build, None, [0, 1])
