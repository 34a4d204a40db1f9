"""What is told of a model before it is trained: whether it goes by the edges it is called with."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.nn import GCNConv, SAGEConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import degree

import fastglt
from fastglt.errors import InputError, ModelError
from fastglt.training.inputs import PROBED_EDGES
from fastglt.training.loop import clone_state
from fastglt.training.probe import (
    NO_EDGES,
    check_follows_edges,
    check_training_output,
    check_uses_edge_weight,
    forward_errors,
)
from fastglt.training.tasks import NodeClassification
from helpers import MODELS, TINY, build, graph, states_equal

TASK = NodeClassification()


class OneConv(nn.Module):
    """A conv and what a subclass does with it."""

    def __init__(self):
        super().__init__()
        self.conv = GCNConv(12, 3)
        self.kept = None


class KeepsMatrix(OneConv):
    def forward(self, x, edge_index):
        if self.kept is None:
            self.kept = gcn_norm(edge_index, None, len(x))
        edges, weight = self.kept
        return self.conv.propagate(edges, x=self.conv.lin(x), edge_weight=weight)


class KeepsWeights(OneConv):
    """What it keeps does not even fit fewer edges."""

    def forward(self, x, edge_index):
        if self.kept is None:
            self.kept = torch.ones(edge_index.size(1))
        return self.conv(x, edge_index, self.kept)


class KeepsDegrees(OneConv):
    def forward(self, x, edge_index):
        if self.kept is None:
            self.kept = degree(edge_index[1], len(x)) + 1
        return self.conv(x, edge_index) / self.kept[:, None]


class NoEdges(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(12, 3)

    def forward(self, x, edge_index):
        return self.lin(x)


class Noisy(NoEdges):
    """Draws random numbers in eval mode, either from torch or from a generator of its own."""

    def __init__(self, own):
        super().__init__()
        self.conv = SAGEConv(12, 3)
        self.draws = iter(range(1, 9)) if own else None

    def __deepcopy__(self, memo):
        copied = Noisy(False)
        copied.load_state_dict(self.state_dict())
        copied.draws = self.draws
        return copied

    def forward(self, x, edge_index):
        factor = torch.rand(1) if self.draws is None else next(self.draws)
        return self.conv(x, edge_index) * factor


class ZeroAtFirst(OneConv):
    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.conv.lin.weight)

    def forward(self, x, edge_index):
        return self.conv(x, edge_index)


class IgnoresWeight(OneConv):
    def forward(self, x, edge_index, edge_weight=None):
        return self.conv(x, edge_index)


class InTraining(OneConv):
    """Gives ``change`` of its output in training mode."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, x, edge_index):
        out = self.conv(x, edge_index)
        return self.change(out) if self.training else out


class Raises(OneConv):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x, edge_index):
        raise self.error


def find(model, data=None, **settings):
    given = TINY | {"edge_sparsity": 0.3} | settings
    return fastglt.find(model, graph() if data is None else data, **given)


@pytest.mark.parametrize("make", [KeepsMatrix, KeepsWeights, KeepsDegrees])
def test_a_model_that_keeps_something_of_its_first_graph_is_refused(make):
    with pytest.raises(ModelError, match="keeps something of the graph"):
        find(make())
    with pytest.raises(ModelError, match="keeps something of the graph"):
        find(make(), edge_sparsity=0.0, weight_sparsity=0.3, inductive=True)


def test_where_no_graph_changes_a_model_may_keep_something_of_it():
    assert find(KeepsMatrix(), edge_sparsity=0.0, weight_sparsity=0.3).num_edges_kept == 540


@pytest.mark.parametrize("name", MODELS)
def test_models_that_follow_the_edges_pass_and_are_not_changed(name):
    data = graph()
    model = build(name, data)
    state, random = clone_state(model), torch.get_rng_state()
    assert check_follows_edges(model, data, TASK) is None
    check_training_output(model, data, TASK, 3)
    assert states_equal(state, model.state_dict())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("make", [lambda: Noisy(False), lambda: Noisy(True), ZeroAtFirst])
def test_random_numbers_and_zeros_are_not_mistaken_for_a_kept_graph(make):
    assert check_follows_edges(make(), graph(), TASK) is None


def test_a_model_without_edges_is_noted():
    assert check_follows_edges(NoEdges(), graph(), TASK) == NO_EDGES
    assert NO_EDGES in find(NoEdges()).metrics["notes"]
    assert NO_EDGES not in find(build("gcn", graph())).metrics["notes"]


def test_a_model_that_kept_an_earlier_graph_is_noted():
    model, data = KeepsMatrix(), graph()
    model(data.x, data.edge_index)
    assert NO_EDGES in find(model, data).metrics["notes"]


def test_a_large_graph_is_probed_in_part():
    data, seen = graph(3000, average_degree=40.0), []

    class Counts(ZeroAtFirst):
        def forward(self, x, edge_index):
            seen.append(edge_index.size(1))
            return super().forward(x, edge_index)

    assert data.num_edges > 2 * PROBED_EDGES
    assert check_follows_edges(Counts(), data, TASK) is None
    assert max(seen) < 1.05 * PROBED_EDGES
    assert min(seen) == pytest.approx(max(seen) / 2, rel=0.1)


def test_learned_edge_values_need_a_model_that_uses_them():
    with pytest.raises(ModelError, match=r"uses the edge_weight that it takes.*IgnoresWeight"):
        find(IgnoresWeight(), edge_values="learned")
    check_uses_edge_weight(build("gcn", graph()), graph(), TASK)


@pytest.mark.parametrize("error", [AttributeError("no w"), KeyError("w"), AssertionError("w < 1")])
def test_whatever_a_model_raises_is_named(error):
    with pytest.raises(ModelError, match=f"forward raised {type(error).__name__}: ") as raised:
        find(Raises(error))
    assert isinstance(raised.value.__cause__, type(error))


def test_an_error_without_words_and_one_of_ours_are_told_as_they_are():
    with pytest.raises(ModelError, match=r"raised AssertionError$"), forward_errors():
        raise AssertionError
    with pytest.raises(InputError, match=r"^mine$"), forward_errors():
        raise InputError("mine")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda out: (out, out), "got tuple"),
        (lambda out: out[:5], r"got .*\(5, 3\)"),
        (lambda out: out.missing, "raised AttributeError"),
    ],
)
def test_the_output_is_checked_in_training_mode_too(change, message):
    with pytest.raises(ModelError, match=f"in training mode the model.*{message}"):
        find(InTraining(change))
