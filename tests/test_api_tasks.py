"""``find`` on every task, in every form that a graph may come in."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData
from torch_geometric.nn import GATConv, GCNConv, GINEConv, SAGEConv, SuperGATConv, global_add_pool
from torch_geometric.transforms import ToSparseTensor

import fastglt
from fastglt.errors import BudgetError, GraphError, InputError, ModelError
from helpers import TINY, build, graph, states_equal
from training.test_graph_classification import Molecules, molecules
from training.test_link_prediction import Bilinear, _links
from training.test_tasks import Regression

BUDGET = {"edge_sparsity": 0.4, "weight_sparsity": 0.6}


def _find(model, data, **settings):
    return fastglt.find(model, data, **TINY | BUDGET | settings)


def _same_ticket(first, second):
    assert torch.equal(first.edge_keep, second.edge_keep)
    assert states_equal(first.weight_masks, second.weight_masks)
    assert states_equal(first.trained_state, second.trained_state)


def _measured_again(ticket, model, data, task, split="val"):
    applied, pruned = ticket.apply(model, data)
    with torch.no_grad():
        out = task.forward(applied.eval(), task.prepare(pruned))
    return task.metric(out, pruned, split)


@pytest.mark.parametrize("method", ["fastglt", "one-shot", "random"])
@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("metric", ["roc_auc", "average_precision", "hits@20"])
def test_links(method, preset, metric):
    data, task = _links(), fastglt.LinkPrediction(metric)
    before = data.clone()
    ticket = _find(build("gcn", data), data, task=task, method=method, preset=preset)
    assert ticket.metrics["metric"] == metric
    assert ticket.settings["task"] == {"name": "link-prediction", "metric": metric}
    for split in ("val", "test"):
        again = _measured_again(ticket, build("gcn", data), data, task, split)
        assert again == pytest.approx(ticket.metrics[f"{split}_ticket"])
    assert set(data.keys()) == set(before.keys())
    pairs = data.edge_index.size(1) // 2
    assert int((~ticket.edge_keep).sum()) == 2 * int(0.4 * pairs)
    _same_ticket(ticket, _find(build("gcn", data), data, task=task, method=method, preset=preset))


@pytest.mark.parametrize("edge_score", ["influence", "divergence", "unit-gate"])
def test_links_with_a_decoder_of_the_models_own(edge_score):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = GCNConv(12, 8)
            self.decoder = Bilinear(8)

        def forward(self, x, edge_index):
            return self.conv(x, edge_index)

        def decode(self, z, edge_label_index):
            return self.decoder.decode(z, edge_label_index)

    data = _links()
    ticket = _find(Net(), data, edge_score=edge_score)
    assert set(ticket.weight_masks) == {"conv.lin.weight", "decoder.lin.weight"}
    again = _measured_again(ticket, Net(), data, fastglt.LinkPrediction())
    assert again == pytest.approx(ticket.metrics["val_ticket"])


def test_what_a_ticket_says_of_its_task_finds_it_again():
    data, task = _links(), fastglt.LinkPrediction(batch_size=9, keep_positives=True)
    ticket = _find(build("gcn", data), data, task=task)
    assert ticket.settings["task"]["batch_size"] == 9
    _same_ticket(ticket, _find(build("gcn", data), data, task=ticket.settings["task"]))


def test_links_are_learned():
    data = _links()
    settings = {"dense_epochs": 30, "retrain_epochs": 30, "weight_sparsity": 0.0}
    ticket = fastglt.find(
        build("gcn", data), data, **TINY | settings | {"edge_sparsity": 0.2, "patience": 0}
    )
    assert ticket.metrics["test_dense"] > 0.6
    assert ticket.metrics["test_ticket"] > 0.6


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_several_labels(preset):
    data = graph()
    data.y = torch.stack([data.y == 0, data.y == 1, data.x[:, 0] > 0], dim=1).float()
    ticket = _find(build("gcn", data), data, preset=preset)
    assert ticket.metrics["metric"] == "roc_auc"
    again = _measured_again(
        ticket, build("gcn", data), data, fastglt.MultiLabelNodeClassification(), "test"
    )
    assert again == pytest.approx(ticket.metrics["test_ticket"])


@pytest.mark.parametrize("labels", [None, 3])
def test_many_graphs_give_weights_only_tickets(labels):
    data = molecules(labels=labels)
    outputs = labels or 2
    ticket = _find(Molecules(outputs), data, edge_sparsity=0.0)
    assert ticket.edge_keep.all()
    assert ticket.metrics["metric"] == ("roc_auc" if labels else "accuracy")
    model = ticket.apply_weights(Molecules(outputs)).eval()
    task = fastglt.GraphClassification(ticket.metrics["metric"])
    with torch.no_grad():
        assert task.metric(task.forward(model, data), data, "val") == pytest.approx(
            ticket.metrics["val_ticket"]
        )


def test_edges_of_many_graphs_cannot_be_pruned():
    with pytest.raises(BudgetError, match="weights-only"):
        _find(Molecules(), molecules())


def test_edge_values_of_many_graphs_cannot_be_learned():
    with pytest.raises(InputError, match="edge_values must be 'binary' for a batch"):
        _find(Molecules(), molecules(), edge_sparsity=0.0, edge_values="learned")


def test_features_of_many_graphs_stay_dense_although_next_to_all_are_0():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = GCNConv(3, 8), nn.Linear(8, 2)

        def forward(self, x, edge_index, batch):
            return self.head(global_add_pool(self.conv(x, edge_index), batch))

    data = molecules()
    data.x = torch.where(torch.arange(data.num_nodes)[:, None] % 30 == 0, data.x, 0.0)
    ticket = _find(Pooled(), data, edge_sparsity=0.0)
    assert ticket.metrics["sparse_inputs"] == []


def test_a_task_of_ones_own():
    data = graph()
    ticket = _find(build("gcn", data), data, task=Regression())
    assert ticket.metrics["metric"] == "negative_mae"
    assert ticket.settings["task"]["name"] == "custom"
    # Its call reads edge_index.
    assert ticket.metrics["sparse_inputs"] == []
    again = _measured_again(ticket, build("gcn", data), data, Regression(), "test")
    assert again == pytest.approx(ticket.metrics["test_ticket"], rel=1e-5)


@pytest.mark.parametrize("model", ["gcn", "gat", "plain"])
def test_every_form_of_the_graph_gives_the_same_ticket(model):
    data = graph()
    adjacency = ToSparseTensor(layout=torch.sparse_csr)(data)
    order = torch.argsort(data.edge_index[1] * 90 + data.edge_index[0])
    data.edge_index = data.edge_index[:, order]
    plain = _find(build(model, data), data)
    boxed = data.clone()
    boxed.edge_index = EdgeIndex(data.edge_index, sparse_size=(90, 90), sort_order="col")
    for form in (boxed, adjacency):
        ticket = _find(build(model, data), form)
        _same_ticket(plain, ticket)
        applied, pruned = ticket.apply(build(model, data), form)
        edges = pruned.get("edge_index") if form is boxed else pruned.adj_t
        assert type(edges) is type(form.get("edge_index") if form is boxed else form.adj_t)
        out = applied.eval()(pruned.x, edges)
        mask = data.test_mask
        share = float((out[mask].argmax(1) == data.y[mask]).float().mean())
        assert share == pytest.approx(ticket.metrics["test_ticket"], abs=1e-6)


class Attributed(nn.Module):
    """Convs that see edge attributes."""

    def __init__(self, conv):
        super().__init__()
        if conv == "gine":
            self.conv = GINEConv(nn.Linear(12, 8), edge_dim=2)
        else:
            self.conv = GATConv(12, 8, edge_dim=2)
        self.head = SAGEConv(8, 3)

    def forward(self, x, edge_index, edge_attr):
        return self.head(self.conv(x, edge_index, edge_attr=edge_attr).relu(), edge_index)


@pytest.mark.parametrize("conv", ["gine", "gat"])
@pytest.mark.parametrize("edge_score", ["influence", "divergence", "unit-gate"])
def test_edge_attributes_travel_with_their_edges(conv, edge_score):
    data = graph()
    low, high = data.edge_index.min(dim=0).values, data.edge_index.max(dim=0).values
    data.edge_attr = torch.stack([(low * 7 + high) % 5, low + high], dim=1).float() / 10
    task = _AttributedTask()
    plain = {"edge_score": edge_score, "teacher_propagation": 0.0}
    ticket = _find(Attributed(conv), data, task=task, **plain)
    again = _measured_again(ticket, Attributed(conv), data, task, "test")
    assert again == pytest.approx(ticket.metrics["test_ticket"])
    assert ticket.metrics["notes"] == []


class _AttributedTask(fastglt.NodeClassification):
    def call(self, model, data):
        return model(data.x, data.edge_index, data.edge_attr)


def test_directions_that_disagree_make_the_graph_directed_with_a_note():
    data = graph()
    data.edge_attr = torch.arange(data.num_edges, dtype=torch.float32)[:, None].repeat(1, 2)
    with pytest.warns(UserWarning, match="edge_attr") as caught:
        ticket = fastglt.find(Attributed("gine"), data, task=_AttributedTask(), **TINY | BUDGET)
    assert caught[0].filename == __file__
    assert "edge_attr" in ticket.metrics["notes"][0]
    assert int((~ticket.edge_keep).sum()) == int(0.4 * data.num_edges)


def test_learned_edge_values_are_trained_kept_and_used():
    data = graph()
    ticket = _find(build("gcn", data), data, edge_values="learned")
    weight = ticket.edge_weight
    assert weight.shape == (ticket.num_edges_kept,)
    assert (weight > 0).all()
    assert not torch.allclose(weight, torch.ones_like(weight))
    applied, pruned = ticket.apply(build("gcn", data), data)
    assert torch.equal(pruned.edge_weight, weight)
    task = fastglt.NodeClassification()
    with torch.no_grad():
        out = task.forward(applied.eval(), pruned)
    assert task.metric(out, pruned, "test") == pytest.approx(ticket.metrics["test_ticket"])
    assert _find(build("gcn", data), data).edge_weight is None


def test_learned_edge_values_in_link_prediction_follow_their_edges():
    data, task = _links(), fastglt.LinkPrediction()
    ticket = _find(build("gcn", data), data, task=task, edge_values="learned")
    again = _measured_again(ticket, build("gcn", data), data, task, "test")
    assert again == pytest.approx(ticket.metrics["test_ticket"], rel=1e-5)


def test_learned_edge_values_need_a_model_that_takes_them():
    with pytest.raises(ModelError, match=r"edge_values='learned'.*edge_weight"):
        _find(build("gin", graph()), graph(), edge_values="learned")


def test_patterns_choose_what_is_pruned():
    data = graph()
    ticket = _find(build("gat", data), data, include=("*.att_src",), exclude=("convs.1.*",))
    assert set(ticket.weight_masks) == {"convs.0.lin.weight", "convs.0.att_src"}
    for name, mask in ticket.weight_masks.items():
        assert torch.count_nonzero(ticket.trained_state[name][~mask]) == 0


def test_lazy_models_are_initialised_in_a_copy_and_by_the_seed():
    data, model = graph(), SAGEConv((-1, -1), 3)
    first, second = (_find(model, data, task=None) for _ in range(2))
    assert nn.parameter.is_lazy(model.lin_l.weight)
    _same_ticket(first, second)
    other = _find(model, data, seed=1)
    assert not states_equal(first.init_state, other.init_state)


def test_convs_that_keep_tensors_of_a_training_step_can_be_searched():
    data, model = graph(), SuperGATConv(12, 3)
    ticket = _find(model, data)
    assert _measured_again(ticket, model, data, fastglt.NodeClassification()) == pytest.approx(
        ticket.metrics["val_ticket"]
    )


class Tied(nn.Module):
    """Two layers that share one weight matrix."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(12, 12, bias=False), nn.Linear(12, 12, bias=False)
        self.second.weight = self.first.weight
        self.head = SAGEConv(12, 3)

    def forward(self, x, edge_index):
        return self.head(self.second(self.first(x).relu()).relu(), edge_index)


def test_shared_weights_get_one_mask_and_stay_shared():
    data = graph()
    ticket = _find(Tied(), data)
    assert "second.weight" not in ticket.weight_masks
    kept = ticket.weight_masks["first.weight"]
    for name in ("first.weight", "second.weight"):
        assert torch.count_nonzero(ticket.trained_state[name][~kept]) == 0
    applied, _ = ticket.apply(Tied(), data)
    assert applied.first.weight is applied.second.weight


def test_a_learned_embedding_takes_the_place_of_features():
    class Embedded(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(90, 12)
            self.conv = GCNConv(12, 8)

        def forward(self, x, edge_index):
            assert x is None
            return self.conv(self.embedding.weight, edge_index)

    data = _links()
    del data.x
    data.num_nodes = 90
    ticket = _find(Embedded(), data)
    assert set(ticket.weight_masks) == {"conv.lin.weight"}
    assert "embedding.weight" in ticket.trained_state
    again = _measured_again(ticket, Embedded(), data, fastglt.LinkPrediction())
    assert again == pytest.approx(ticket.metrics["val_ticket"])


def test_graphs_of_several_types_are_refused():
    with pytest.raises(GraphError, match="HeteroData"):
        _find(build("gcn", graph()), HeteroData())


def test_no_warning_on_an_ordinary_graph():
    data = graph()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _find(build("gcn", data), data)
