"""What holds of every method: inductive search, other models, links, double precision."""

from __future__ import annotations

import copy

import pytest
import torch
from torch_geometric.nn import GCN

import fastglt
from fastglt.masks import EdgeGroups, num_removed
from fastglt.search import METHODS
from fastglt.training.tasks import LinkPrediction
from helpers import PRUNING_METHODS, TINY, build, graph
from search.contexts import search_with
from training.test_link_prediction import _links


def _find(data, method, model="gcn", dtype=torch.float32, **settings):
    given = {"edge_sparsity": 0.4}
    if METHODS[method].prunes_weights:
        given["weight_sparsity"] = 0.6
    if method == "small-dense":
        given["narrow"] = lambda width: GCN(data.num_features, width, 2, 3).to(dtype)
    model = build(model, data).to(dtype)
    return fastglt.find(model, data, method=method, **TINY | given | settings)


def _with_other_hidden_nodes(data):
    """Validation and test nodes get other features and labels and lose all edges but a few."""
    changed = copy.deepcopy(data)
    hidden = data.val_mask | data.test_mask
    changed.x[hidden] = torch.rand(int(hidden.sum()), data.num_features) - 0.5
    changed.y[hidden] = (data.y[hidden] + 1) % 3
    visible = ~hidden[data.edge_index].any(dim=0)
    ends = torch.stack([hidden.nonzero().view(-1)[:10], (~hidden).nonzero().view(-1)[:10]])
    edges = [data.edge_index[:, visible], ends, ends.flip(0)]
    changed.edge_index = torch.cat(edges, dim=1)
    return changed


def _visible(data):
    hidden = data.val_mask | data.test_mask
    return ~hidden[data.edge_index].any(dim=0)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_about_hidden_nodes_reaches_an_inductive_search(method):
    data = graph()
    changed = _with_other_hidden_nodes(data)
    first, second = (_find(d, method, inductive=True) for d in (data, changed))
    assert torch.equal(first.edge_keep[_visible(data)], second.edge_keep[_visible(changed)])
    assert first.edge_keep[~_visible(data)].all()
    assert first.weight_masks.keys() == second.weight_masks.keys()
    for name, mask in first.weight_masks.items():
        assert torch.equal(mask, second.weight_masks[name])
    assert first.metrics["epochs"]["search"] == second.metrics["epochs"]["search"]
    if method in PRUNING_METHODS:
        assert not first.edge_keep.all()


@pytest.mark.parametrize("method", ["ugs", "teddy", "early-bird", "dropedge", "dspar"])
def test_links_are_searched_in_batches(method):
    task = LinkPrediction(batch_size=50)
    data = task.prepare(_links())
    assert task.num_batches(data) == 3
    settings = {} if METHODS[method].prunes_weights else {"weight_sparsity": 0.0}
    context, result = search_with(method, data=data, objective=task, mask_epochs=2, **settings)
    groups = context.groups.num_groups
    if method != "dropedge":
        assert groups - result.edge_mask.num_kept == num_removed(groups, 0.29)
    expected = {"ugs": 4, "teddy": 2, "early-bird": 4}
    assert result.epochs == expected.get(method, 0)
    ticket = fastglt.find(
        build("gcn", data),
        _links(),
        task=LinkPrediction(batch_size=50),
        method=method,
        edge_sparsity=0.29,
        **TINY,
    )
    assert 0 <= ticket.metrics["val_ticket"] <= 1


@pytest.mark.parametrize("method", ["ugs", "wd-glt", "early-bird"])
@pytest.mark.parametrize("model", ["gin", "gat", "plain"])
def test_models_without_edge_weights_have_gates_too(method, model):
    settings = {"mask_epochs": 8, "patience": 0, "weight_sparsity": 0.0}
    context, result = search_with(method, model=model, **settings)
    groups = context.groups.num_groups
    assert groups - result.edge_mask.num_kept == num_removed(groups, 0.29)
    # Ties would be broken by index: what is kept is not what comes first.
    first = torch.arange(groups) < result.edge_mask.num_kept
    assert not torch.equal(result.edge_mask.keep, first)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", ["gcn", "gat"])
def test_double_precision_works(method, model):
    data = graph()
    data.x = data.x.double()
    ticket = _find(data, method, model, torch.float64)
    assert all(value.dtype == torch.float64 for value in ticket.trained_state.values())


@pytest.mark.parametrize("method", METHODS)
def test_a_directed_graph_works(method):
    data = graph()
    data.edge_index = data.edge_index[:, data.edge_index[0] < data.edge_index[1]]
    ticket = _find(data, method)
    total = EdgeGroups.of(data).num_groups
    removed = num_removed(total, 0.4) if method in (*PRUNING_METHODS, "dspar") else 0
    assert int((~ticket.edge_keep).sum()) == removed


@pytest.mark.parametrize("method", ["ugs", "wd-glt", "early-bird", "teddy", "dspar"])
def test_fine_tuning_goes_on_from_the_searched_weights(method):
    ticket = _find(graph(), method, recover="finetune")
    assert not ticket.is_lottery_ticket
    for name, keep in ticket.weight_masks.items():
        assert torch.count_nonzero(ticket.trained_state[name][~keep]) == 0
