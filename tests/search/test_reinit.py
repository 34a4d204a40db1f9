from __future__ import annotations

import pytest
import torch
from torch import nn

import fastglt
from fastglt.errors import InputError, ModelError
from fastglt.gating import prunable_weights
from fastglt.search.reinit import fresh_state
from fastglt.training.loop import clone_state
from helpers import TINY, build, graph, states_equal

BUDGET = {"edge_sparsity": 0.29, "weight_sparsity": 0.8}


def _find(method, model="gcn", **settings):
    data = graph()
    model = build(model, data) if isinstance(model, str) else model
    return fastglt.find(model, data, method=method, **TINY | BUDGET | settings)


def test_masks_are_those_of_fastglt_and_the_initial_weights_are_not():
    fresh, ticket = _find("reinit"), _find("fastglt")
    assert torch.equal(fresh.edge_keep, ticket.edge_keep)
    assert states_equal(fresh.weight_masks, ticket.weight_masks)
    assert fresh.history == ticket.history
    for name in ticket.weight_masks:
        assert not torch.equal(fresh.init_state[name], ticket.init_state[name])
    assert ticket.is_lottery_ticket
    assert not fresh.is_lottery_ticket


@pytest.mark.parametrize("name", ["gcn", "sage", "gin", "gat", "weighted", "plain"])
def test_all_weights_are_drawn_anew_by_the_seed_and_the_model_is_left_alone(name):
    model = build(name, graph())
    before, state = clone_state(model), torch.get_rng_state()
    first, again, other = (fresh_state(model, seed) for seed in (1, 1, 2))
    assert states_equal(before, clone_state(model))
    assert torch.equal(state, torch.get_rng_state())
    assert states_equal(first, again)
    for weight in prunable_weights(model):
        assert not torch.equal(first[weight], before[weight])
        assert not torch.equal(first[weight], other[weight])


class Bare(nn.Module):
    """Holds a parameter that it cannot draw anew."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.lin = nn.Linear(12, 3)


class Still(Bare):
    """Says that it can, and does not."""

    def reset_parameters(self):
        pass


def test_a_module_that_cannot_be_drawn_anew_is_named():
    with pytest.raises(ModelError, match=r"Bare '1' has no reset_parameters"):
        fresh_state(nn.Sequential(nn.Linear(12, 12), Bare()), 0)
    with pytest.raises(ModelError, match=r"leaves '0.lin.weight' as it was"):
        fresh_state(nn.Sequential(Still()), 0)


def test_fresh_weights_cannot_be_fine_tuned():
    with pytest.raises(InputError, match='use recover="rewind"'):
        _find("reinit", recover="finetune")
