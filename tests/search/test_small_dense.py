from __future__ import annotations

import pytest
import torch
from torch_geometric.nn import GCN

import fastglt
from fastglt.api.macs import macs_on
from fastglt.cost import num_parameters
from fastglt.errors import InputError
from fastglt.gating import prunable_weights
from fastglt.masks import num_removed
from fastglt.training.tasks import NodeClassification
from helpers import TINY, build, graph
from search.contexts import search_with


def _narrow(width):
    return GCN(12, width, 2, 3, dropout=0.5)


def _num_weights(model):
    return sum(weight.numel() for weight in prunable_weights(model).values())


def _search(**settings):
    return search_with("small-dense", narrow=_narrow, **settings)


@pytest.mark.parametrize("sparsity", [0.0, 0.03, 0.5, 0.8, 0.9])
def test_the_model_is_the_widest_within_the_budget(sparsity):
    context, result = _search(weight_sparsity=sparsity)
    total = _num_weights(context.model)
    budget = total - num_removed(total, sparsity)
    widths = [width for width in range(1, 40) if _num_weights(_narrow(width)) <= budget]
    assert result.metrics == {"width": max(widths)}
    assert _num_weights(result.model) <= budget
    assert result.edge_mask.keep.all()
    assert result.weight_mask.num_kept == _num_weights(result.model)
    assert not any("narrowest" in note for note in result.notes)


def test_a_note_says_where_even_the_narrowest_is_too_large():
    _, result = _search(weight_sparsity=0.99)
    assert result.metrics["width"] == 1
    assert "the narrowest model has 15 prunable weights, more than the 3" in result.notes[0]


def test_the_weights_follow_from_the_seed():
    first, again, other = (_search(seed=seed)[1].state for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["convs.0.lin.weight"], other["convs.0.lin.weight"])


def test_what_narrow_has_to_be_is_said():
    with pytest.raises(InputError, match="narrow=lambda width"):
        search_with("small-dense")
    with pytest.raises(InputError, match=r"narrow\(1\) must return a torch.nn.Module \(got int"):
        search_with("small-dense", narrow=lambda width: width)
    with pytest.raises(InputError, match=r"narrow\(2\) must have more .* than narrow\(1\)"):
        search_with("small-dense", narrow=lambda width: _narrow(2))
    with pytest.raises(InputError, match='use recover="rewind"'):
        _search(recover="finetune")


def test_lazy_models_are_initialised():
    _, plain = _search()
    _, lazy = search_with("small-dense", narrow=lambda width: GCN(-1, width, 2, 3))
    assert lazy.metrics == plain.metrics


@pytest.mark.parametrize("inductive", [False, True])
def test_the_ticket_is_of_the_narrow_model_and_the_dense_figures_of_the_wide_one(inductive):
    data = graph()
    wide = build("gcn", data)
    ticket = fastglt.find(
        wide,
        data,
        method="small-dense",
        narrow=_narrow,
        edge_sparsity=0.3,
        weight_sparsity=0.8,
        inductive=inductive,
        **TINY,
    )
    metrics, task = ticket.metrics, NodeClassification()
    small = _narrow(metrics["width"])
    assert metrics["params_dense"] == num_parameters(wide)
    assert metrics["params_ticket"] == num_parameters(small)
    assert metrics["macs_dense"] == macs_on(wide, task, data)
    assert metrics["macs_ticket"] == macs_on(small, task, data)
    assert ticket.edge_keep.all()
    assert "small-dense keeps all edges" in metrics["notes"]
    small.load_state_dict(ticket.init_state)
    applied, pruned = ticket.apply(small, data)
    right = applied.eval()(pruned.x, pruned.edge_index).argmax(dim=1) == data.y
    for split in ("val", "test"):
        accuracy = float(right[data[f"{split}_mask"]].float().mean())
        assert metrics[f"{split}_ticket"] == pytest.approx(accuracy)
