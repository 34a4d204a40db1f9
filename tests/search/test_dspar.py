from __future__ import annotations

import pytest
import torch

import fastglt
from fastglt.errors import BudgetError
from fastglt.masks import num_removed
from fastglt.search.base import get_method
from fastglt.training.loop import clone_state
from helpers import TINY, build, graph, states_equal
from search.contexts import new_context, search_with

ONLY_EDGES = {"weight_sparsity": 0.0}


@pytest.mark.parametrize("sparsity", [0.0, 0.29, 0.9])
def test_counts_are_exact_and_nothing_is_trained(sparsity):
    context = new_context(method="dspar", edge_sparsity=sparsity, **ONLY_EDGES)
    before = clone_state(context.model)
    result = get_method("dspar").search(context)
    groups = context.groups.num_groups
    assert groups - result.edge_mask.num_kept == num_removed(groups, sparsity)
    assert result.weight_mask.num_kept == result.weight_mask.num_weights
    assert result.epochs == 0
    assert states_equal(before, result.state)


def test_weights_cannot_be_asked_for():
    with pytest.raises(BudgetError, match=r"'dspar' is for edges only.*weight_sparsity.*got 0.5"):
        fastglt.find(build("gcn", graph()), graph(), method="dspar", weight_sparsity=0.5, **TINY)


def test_the_seed_chooses_the_edges_and_low_degrees_are_favoured():
    data = graph(300, degree_exponent=2.2)
    settings = {"edge_sparsity": 0.7, **ONLY_EDGES}
    first, again, other = (
        search_with("dspar", data=data, seed=seed, **settings)[1].edge_mask for seed in (0, 0, 1)
    )
    assert torch.equal(first.keep, again.keep)
    assert not torch.equal(first.keep, other.keep)
    groups = first.groups
    degree = groups.degrees(torch.ones_like(first.keep)).float()
    product = (degree[groups.ends[0]] * degree[groups.ends[1]]).log()
    assert product[first.keep].mean() < product[~first.keep].mean()
