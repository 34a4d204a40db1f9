"""``inductive=True``: nothing about validation and test nodes reaches teacher and search."""

from __future__ import annotations

import copy

import pytest
import torch

import fastglt
from fastglt.api import edge_rules
from fastglt.api.edge_rules import learned_rule
from fastglt.api.views import inductive
from fastglt.errors import InputError
from fastglt.masks import EdgeGroups, EdgeMask, num_removed
from fastglt.ticket.edge_rule import PROPERTIES, kept_by_rule
from fastglt.training.tasks import NodeClassification
from helpers import TINY, build, graph, with_loops
from training.test_link_prediction import _links
from training.test_tasks import Regression

BUDGET = {"edge_sparsity": 0.4, "weight_sparsity": 0.6}


def _find(data, model="gcn", **settings):
    return fastglt.find(build(model, data), data, **TINY | BUDGET | {"inductive": True} | settings)


def _hidden(data):
    return data.val_mask | data.test_mask


def _visible_edges(data):
    hidden = _hidden(data)
    return ~(hidden[data.edge_index[0]] | hidden[data.edge_index[1]])


def _other_features(data):
    data.x[_hidden(data)] = torch.rand(int(_hidden(data).sum()), data.num_features) - 0.5


def _other_labels(data):
    data.y[_hidden(data)] = (data.y[_hidden(data)] + 1) % 3


def _other_edges(data):
    """Hidden nodes lose their edges and get new ones, also to visible nodes."""
    keep = _visible_edges(data)
    nodes = _hidden(data).nonzero().view(-1)[:10]
    others = torch.arange(10)
    one_way = torch.stack([nodes, others])[:, nodes != others]
    data.edge_index = torch.cat([data.edge_index[:, keep], one_way, one_way.flip(0)], dim=1)


@pytest.mark.parametrize("model", ["gcn", "plain", "gat"])
@pytest.mark.parametrize("change", [_other_features, _other_labels, _other_edges])
@pytest.mark.parametrize("edge_score", ["influence", "divergence", "unit-gate"])
def test_masks_do_not_change_with_anything_about_hidden_nodes(model, change, edge_score):
    data = graph()
    changed = copy.deepcopy(data)
    change(changed)
    first, second = (_find(d, model, edge_score=edge_score) for d in (data, changed))
    keeps = [
        ticket.edge_keep[_visible_edges(d)] for ticket, d in ((first, data), (second, changed))
    ]
    assert torch.equal(*keeps)
    assert not keeps[0].all()
    for name, mask in first.weight_masks.items():
        assert torch.equal(mask, second.weight_masks[name])
    assert first.history == second.history


def test_the_same_change_does_change_a_transductive_search():
    data = graph()
    changed = copy.deepcopy(data)
    _other_features(changed)
    first, second = (_find(d, inductive=False) for d in (data, changed))
    assert not torch.equal(first.edge_keep, second.edge_keep)


def test_a_visible_node_does_change_the_masks():
    data = graph()
    changed = copy.deepcopy(data)
    visible = (~_hidden(data)).nonzero().view(-1)
    changed.x[visible] = changed.x[visible].flip(0)
    first, second = _find(data), _find(changed)
    assert not torch.equal(first.edge_keep, second.edge_keep)


def test_sparsity_is_that_of_the_visible_edges_and_all_others_are_kept():
    data = with_loops(graph(), torch.arange(0, 90, 9))
    ticket = _find(data)
    visible = _visible_edges(data)
    assert ticket.edge_keep[~visible].all()
    loops = data.edge_index[0] == data.edge_index[1]
    pairs = int((visible & ~loops).sum()) // 2
    assert int((~ticket.edge_keep).sum()) // 2 == int(0.4 * pairs)
    assert ticket.edge_sparsity == pytest.approx(int(0.4 * pairs) / pairs)


def test_the_holdout_is_taken_from_the_training_nodes_of_every_class():
    data = graph(300, train_fraction=0.2)
    views = inductive(data, 0.2, seed=0)
    search, train = views.search, views.train
    assert int(search.val_mask.sum()) == round(0.2 * int(train.train_mask.sum()))
    assert torch.equal(search.val_mask | search.train_mask, train.train_mask)
    assert not (search.val_mask & search.train_mask).any()
    held = torch.bincount(search.y[search.val_mask], minlength=3)
    assert ((held - 0.2 * torch.bincount(train.y[train.train_mask])).abs() <= 1).all()
    assert not torch.equal(search.val_mask, inductive(data, 0.2, seed=1).search.val_mask)
    assert search.num_nodes == int((~_hidden(data)).sum())
    assert torch.equal(views.edges, _visible_edges(data).nonzero().view(-1))


def test_the_ticket_applies_to_the_whole_graph_and_measures_what_it_says():
    data = graph()
    ticket = _find(data)
    model, pruned = ticket.apply(build("gcn", data), data)
    out = model.eval()(pruned.x, pruned.edge_index)
    for split in ("val", "test"):
        mask = data[f"{split}_mask"]
        share = float((out[mask].argmax(1) == data.y[mask]).float().mean())
        assert ticket.metrics[f"{split}_ticket"] == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize("rule", ["learned", "degree", "random"])
def test_unseen_edges_go_by_the_rule_that_the_seen_ones_give(rule):
    data = graph(300, degree_exponent=2.2)
    changed = copy.deepcopy(data)
    _other_labels(changed)
    ticket, other = (_find(d, edge_rule=rule) for d in (data, changed))
    assert ticket.edge_rule["name"] == "ranked"
    assert ticket.edge_rule == other.edge_rule
    unseen = ~_visible_edges(data)
    kept = kept_by_rule(ticket.edge_rule, data, unseen)
    assert torch.equal(ticket.edge_keep[unseen], kept[unseen])
    removed = num_removed(int(unseen.sum()) // 2, ticket.settings["edge_sparsity"])
    assert int((~kept).sum()) == 2 * removed > 0


def test_a_learned_rule_does_no_worse_than_degree_where_it_was_learned(monkeypatch):
    seen = []
    guidance = NodeClassification.guidance
    data = graph(300, degree_exponent=2.2)

    def watched(self, out, target, temperature):
        assert 0 < len(out) == len(target) < data.num_nodes / 2  # unseen nodes alone
        seen.append(guidance(self, out, target, temperature))
        return seen[-1]

    monkeypatch.setattr(NodeClassification, "guidance", watched)
    model = build("gcn", data)
    groups = EdgeGroups.of(data)
    given = model, NodeClassification(), data, data, EdgeMask.full(groups), 0.5, None, 0
    rule = learned_rule(*given)
    losses = [float(a + b) for a, b in zip(seen[::2], seen[1::2], strict=True)]
    assert len(losses) == 1 + sum(map(len, edge_rules.STEPS.values()))
    assert min(losses) < losses[0]
    assert rule["weights"] != {"degree": 1.0, **dict.fromkeys(PROPERTIES[1:], 0.0)}
    assert learned_rule(*given) == rule


def test_a_rule_is_learned_without_features_too():
    data = graph(300, degree_exponent=2.2)
    plain = copy.copy(data)
    plain.x, plain.num_nodes = None, data.num_nodes
    groups = EdgeGroups.of(data)
    rule = learned_rule(
        build("gcn", data), NodeClassification(), data, plain, EdgeMask.full(groups), 0.5, None, 0
    )
    assert rule["weights"]["similarity"] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"holdout": 0.001}, "holdout"),
        ({"recover": "finetune"}, "trained model"),
        ({"edge_values": "learned"}, "edge_values"),
    ],
)
def test_what_cannot_be_inductive_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        _find(graph(), **settings)


@pytest.mark.parametrize("key", ["x", "y", "train_mask", "val_mask"])
def test_a_graph_without_what_tells_nodes_apart_cannot_be_inductive(key):
    data = graph()
    model, num_nodes = build("gcn", data), data.num_nodes
    del data[key]
    data.num_nodes = num_nodes
    with pytest.raises(InputError, match=rf"inductive must be False.*data\.{key}"):
        fastglt.find(model, data, task=Regression(), inductive=True, **TINY | BUDGET)


@pytest.mark.parametrize(("teacher", "phases"), [("dense", ["teacher"] * 2), ("none", [])])
def test_the_teachers_own_training_is_announced_and_counted(teacher, phases):
    heard = []

    class Listener(fastglt.Callback):
        def on_phase_start(self, phase, total):
            heard.append(phase)

    ticket = _find(graph(), teacher=teacher, callback=Listener())
    assert heard == ["dense", *phases, "pretrain", "denoise", "retrain"]
    # Once without the holdout, and once with it for as long as was best.
    epochs, most = ticket.metrics["epochs"]["teacher"], TINY["dense_epochs"]
    assert epochs == 0 if teacher == "none" else most < epochs <= 2 * most


def test_a_rule_is_learned_for_node_tasks_only():
    data = _links()
    with pytest.raises(InputError, match="edge_rule must be 'keep', 'degree' or 'random'"):
        fastglt.find(
            build("gcn", data), data, **TINY, edge_sparsity=0.3, edge_rule="learned",
            task="link-prediction",
        )  # fmt: skip
