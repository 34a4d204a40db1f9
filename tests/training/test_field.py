"""The receptive field of some nodes, against following the edges one by one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastglt.training.field import Field


@given(
    edges=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=20),
    wanted=st.sets(st.integers(0, 8)),
    num_convs=st.integers(0, 4),
)
def test_every_conv_reads_what_the_next_one_needs(edges, wanted, num_convs):
    edge_index = torch.tensor(edges, dtype=torch.int64).view(-1, 2).t()
    mask = torch.zeros(9, dtype=torch.bool)
    mask[list(wanted)] = True
    field = Field.of(edge_index, mask, num_convs)
    order = field.order.tolist()
    assert len(set(order)) == len(order) == field.sizes[0]
    assert len(field.sizes) == num_convs + 1
    needed = set(wanted)
    for size in reversed(field.sizes):
        assert set(order[:size]) == needed
        needed |= {source for source, target in edges if target in needed}
    assert order[: field.sizes[-1]] == sorted(wanted)
    assert [field.rank[node] for node in order] == list(range(len(order)))
    assert all(field.rank[node] >= len(order) for node in set(range(9)) - set(order))


@pytest.mark.parametrize("call", [0, 1])
def test_a_block_has_all_edges_into_what_a_conv_computes(call):
    edge_index = torch.tensor([[1, 2, 3, 4, 0, 1], [0, 1, 2, 3, 4, 1]])
    field = Field.of(edge_index, torch.tensor([True, False, False, False, False]), num_convs=2)
    assert field.sizes == (3, 2, 1)
    position, edges = field.block(edge_index, call)
    computed = set(field.order[: field.sizes[call + 1]].tolist())
    expected = [i for i, target in enumerate(edge_index[1].tolist()) if target in computed]
    assert position.tolist() == expected
    assert torch.equal(field.order[edges], edge_index[:, position])
    assert int(edges[0].max()) < field.sizes[call]
