"""``find`` in mini-batches."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.loader import NodeLoader
from torch_geometric.nn import GAT, GCN, GIN, GraphConv, GraphSAGE

import fastglt
from fastglt.errors import InputError
from fastglt.training.sampling import NeighborSampler
from helpers import PRUNING_METHODS, TINY, build, graph, states_equal
from training.test_link_prediction import _links

BUDGET = {"edge_sparsity": 0.4, "weight_sparsity": 0.6}
ALL = {"sampler": "neighbor", "fanout": (-1, -1), "batch_size": 1000}
FEW = {"sampler": "neighbor", "fanout": (3, 2), "batch_size": 16}


def _find(model, data, **settings):
    return fastglt.find(model, data, **TINY | BUDGET | settings)


def _model(kind, data):
    torch.manual_seed(0)
    return kind(data.num_features, 16, 2, 3)


@pytest.mark.parametrize(
    ("kind", "edge_score"),
    # The one edge into a node has all its attention: by unit gates GAT's are told by rounding.
    [
        *((kind, "divergence") for kind in (GCN, GraphSAGE, GIN, GAT)),
        *((kind, "unit-gate") for kind in (GCN, GraphSAGE, GIN)),
    ],
)
@pytest.mark.parametrize("teacher", ["dense", "none"])
def test_one_batch_of_everything_is_the_whole_graph(kind, teacher, edge_score):
    data = graph()
    data.x = data.x.double()  # rounding would decide between edges that do not matter
    settings = {"teacher": teacher, "edge_score": edge_score}
    whole = _find(_model(kind, data).double(), data, **settings)
    batch = _find(_model(kind, data).double(), data, **settings, **ALL)
    assert torch.equal(whole.edge_keep, batch.edge_keep)
    assert states_equal(whole.weight_masks, batch.weight_masks)
    for name, weight in whole.trained_state.items():
        torch.testing.assert_close(batch.trained_state[name], weight, atol=1e-5, rtol=1e-4)
    for name in ("val_dense", "val_ticket", "test_dense", "test_ticket"):
        assert batch.metrics[name] == whole.metrics[name]


@pytest.mark.parametrize("method", [name for name in PRUNING_METHODS if name != "wd-glt"])
@pytest.mark.parametrize("preset", ["default", "paper"])
def test_every_method(method, preset):
    data = graph()
    ticket = _find(build("gcn", data), data, method=method, preset=preset, **FEW)
    assert ticket.metrics["edge_sparsity"] == pytest.approx(0.4, abs=0.01)
    assert ticket.metrics["weight_sparsity"] == pytest.approx(0.6, abs=0.01)


def test_the_same_seed_gives_the_same_ticket():
    data = graph()
    ticket, again = (_find(build("gcn", data), data, **FEW) for _ in range(2))
    assert torch.equal(ticket.edge_keep, again.edge_keep)
    assert states_equal(ticket.trained_state, again.trained_state)


def test_a_method_that_needs_the_whole_graph_says_so():
    with pytest.raises(InputError, match="sampler must be 'none'"):
        _find(build("gcn", graph()), graph(), method="wd-glt", **FEW)


def test_metrics_are_those_of_the_whole_kept_graph():
    data = graph()
    ticket = _find(build("gcn", data), data, **FEW)
    model, kept = ticket.apply(build("gcn", data), data)
    with torch.no_grad():
        right = model.eval()(kept.x, kept.edge_index).argmax(-1) == data.y
    assert ticket.metrics["test_ticket"] == pytest.approx(
        float(right[data.test_mask].float().mean())
    )


def test_a_loader_of_ones_own():
    data = graph()
    seen = []

    def loader(part):
        seen.append(part.num_edges)
        sampler = NeighborSampler(part, [4, 4])
        return NodeLoader(part, sampler, part.train_mask, batch_size=10, shuffle=True)

    ticket = _find(build("gcn", data), data, loader=loader, teacher="none")
    assert ticket.settings["sampler"] == "given"
    assert min(seen) < data.num_edges == max(seen)


@pytest.mark.parametrize("edge_score", ["divergence", "degree"])
def test_the_plainest_loader(edge_score):
    """A list of the graph itself, whose edges, once pruned, are not contiguous."""
    data = graph()

    def loader(part):
        batch = Data(edge_index=part.edge_index, n_id=torch.arange(90))
        if edge_score == "divergence":
            batch.e_id = torch.arange(part.num_edges)
        return [batch]

    ticket = _find(build("gcn", data), data, loader=loader, edge_score=edge_score)
    assert ticket.metrics["edge_sparsity"] == pytest.approx(0.4, abs=0.01)


class Both(nn.Module):
    """Sums, then averages."""

    def __init__(self):
        super().__init__()
        self.sums, self.averages = GraphConv(12, 8), GraphConv(8, 3, aggr="mean")

    def forward(self, x, edge_index, edge_weight=None):
        hidden = self.sums(x, edge_index, edge_weight).relu()
        return self.averages(hidden, edge_index, edge_weight)


def test_a_model_that_sums_and_averages_is_told_so():
    ticket = _find(Both(), graph(), **FEW)
    assert any("some convs of the model average" in note for note in ticket.metrics["notes"])
    ticket = _find(build("sage", graph()), graph(), **FEW)
    assert not any("some convs" in note for note in ticket.metrics["notes"])


def test_clusters():
    pytest.importorskip("pymetis")
    data = graph()
    ticket = _find(build("gcn", data), data, sampler="cluster", num_clusters=6, batch_clusters=2)
    assert ticket.metrics["edge_sparsity"] == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("edge_values", ["binary", "learned"])
def test_links_and_learned_values(edge_values):
    data = _links() if edge_values == "binary" else graph()
    ticket = _find(build("gcn", data), data, edge_values=edge_values, **FEW)
    assert ticket.metrics["edge_sparsity"] == pytest.approx(0.4, abs=0.02)


def test_inductive_search():
    data = graph()
    ticket = _find(build("gcn", data), data, inductive=True, **FEW)
    assert ticket.metrics["weight_sparsity"] == pytest.approx(0.6, abs=0.01)
