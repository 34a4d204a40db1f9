from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastglt.errors import GraphError
from fastglt.training.tasks.negatives import NonEdges, pair_keys


def test_both_directions_have_one_key_and_other_pairs_another():
    index = torch.cartesian_prod(torch.arange(7), torch.arange(7)).t()
    keys = pair_keys(index, 7)
    assert torch.equal(keys, pair_keys(index.flip(0), 7))
    assert len(keys.unique()) == 7 * 8 // 2


@given(st.integers(3, 12), st.integers(0, 2**16), st.integers(0, 40))
@settings(deadline=None)
def test_negatives_are_neither_linked_nor_loops(num_nodes, seed, count):
    generator = torch.Generator().manual_seed(seed)
    links = torch.randint(num_nodes, (2, num_nodes // 2), generator=generator)
    keys = pair_keys(links, num_nodes)
    drawn = NonEdges(keys.sort().values, num_nodes).draw(count, generator)
    assert drawn.shape == (2, count)
    assert (drawn[0] != drawn[1]).all()
    assert not torch.isin(pair_keys(drawn, num_nodes), keys).any()


def test_every_unlinked_pair_is_drawn_about_as_often():
    links = torch.tensor([[0, 1], [1, 2]])
    generator = torch.Generator().manual_seed(0)
    drawn = NonEdges(pair_keys(links, 4).sort().values, 4).draw(8000, generator)
    _, counts = pair_keys(drawn, 4).unique(return_counts=True)
    assert len(counts) == 4  # of 6 pairs, 2 are linked
    assert counts.min() > 1800


def test_the_seed_decides():
    keys = torch.tensor([1])
    draws = [NonEdges(keys, 50).draw(20, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_complete_graph_has_none():
    keys = pair_keys(torch.combinations(torch.arange(5)).t(), 5).sort().values
    with pytest.raises(GraphError, match="too few unlinked pairs"):
        NonEdges(keys, 5).draw(3, torch.Generator())
