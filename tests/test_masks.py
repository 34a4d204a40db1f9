from __future__ import annotations

import math
from collections import defaultdict
from decimal import Decimal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Data

from fastglt.errors import BudgetError, GraphError
from fastglt.masks import (
    SELF_LOOP,
    EdgeGroups,
    EdgeMask,
    WeightMask,
    check_sparsity,
    counting_sort,
    num_removed,
    select_top,
    stable_sort,
)


@given(st.integers(0, 10**7), st.decimals("0", "0.9999", places=4))
def test_num_removed_is_exact_decimal_arithmetic(total, sparsity):
    expected = math.floor(sparsity * total)
    assert num_removed(total, float(sparsity)) == expected


@given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True))
def test_num_removed_takes_any_float_as_the_decimal_it_prints(total, sparsity):
    expected = math.floor(Decimal(str(sparsity)) * total)
    assert num_removed(total, sparsity) == expected
    assert 0 <= num_removed(total, sparsity) <= total


@pytest.mark.parametrize("kind", [float, np.float64, np.float32])
def test_num_removed_of_29_hundredths_is_29(kind):
    removed = num_removed(100, kind(0.29))
    # float32's 0.29 lies below 0.29 and is another number.
    assert removed == (28 if float(kind(0.29)) < 0.29 else 29)


def test_the_decimal_counts_and_not_its_binary_neighbour():
    assert 0.29 * 100 < 29
    assert num_removed(100, 0.29) == 29
    assert num_removed(1000, 0.999) == 999


@pytest.mark.parametrize("bad", [-0.1, 1.0, 1.2, math.nan, math.inf, -math.inf])
def test_sparsity_out_of_range_is_refused_by_name(bad):
    with pytest.raises(BudgetError, match=r"edge_sparsity must be in \[0, 1\)"):
        check_sparsity(bad, "edge_sparsity")
    with pytest.raises(BudgetError):
        num_removed(10, bad)


tied_scores = st.lists(
    st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 1.0, math.inf]) | st.floats(allow_nan=False),
    min_size=0,
    max_size=60,
)


@given(tied_scores, st.data())
def test_select_top_equals_a_stable_sort(values, draw):
    score = torch.tensor(values, dtype=torch.float64)
    count = draw.draw(st.integers(0, len(values)))
    chosen = sorted(range(len(values)), key=lambda i: -values[i])[:count]
    expected = torch.zeros(len(values), dtype=torch.bool)
    expected[chosen] = True
    assert torch.equal(select_top(score, count), expected)


def test_select_top_breaks_ties_by_index_and_keeps_the_shape():
    mask = select_top(torch.zeros(3, 4), 5)
    assert mask.shape == (3, 4)
    assert mask.flatten().tolist() == [True] * 5 + [False] * 7


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.int64])
def test_select_top_takes_every_type_of_number(dtype):
    score = torch.tensor([3, -1, 2, 2, 5, 2], dtype=dtype)
    assert select_top(score, 3).tolist() == [True, False, True, False, True, False]


def test_select_top_does_not_change_the_scores():
    score = torch.tensor([3.0, 1.0, 2.0], requires_grad=True)
    assert select_top(score, 2).tolist() == [True, False, True]
    assert score.tolist() == [3.0, 1.0, 2.0]


def test_select_top_refuses_nan_and_bad_counts():
    with pytest.raises(ValueError, match="NaN"):
        select_top(torch.tensor([1.0, math.nan]), 1)
    with pytest.raises(ValueError, match=r"count must be in \[0, 2\] \(got 3\)"):
        select_top(torch.zeros(2), 3)
    with pytest.raises(ValueError, match="count"):
        select_top(torch.zeros(2), -1)


@st.composite
def edge_lists(draw, symmetric=None):
    """A graph of up to 7 nodes with loops and duplicates, symmetrised or not."""
    nodes = draw(st.integers(1, 7))
    node = st.integers(0, nodes - 1)
    edges = draw(st.lists(st.tuples(node, node), max_size=20))
    if symmetric if symmetric is not None else draw(st.booleans()):
        edges += [(v, u) for u, v in edges if u != v]
        edges = draw(st.permutations(edges))
    return nodes, edges


def _edge_index(edges):
    return torch.tensor(edges, dtype=torch.long).reshape(-1, 2).t().contiguous()


def _oracle_partition(edges):
    """Sets of edge positions that stand or fall together."""
    counts = defaultdict(int)
    for edge in edges:
        counts[edge] += 1
    undirected = all(counts[(v, u)] == counts[(u, v)] for u, v in edges)
    groups = defaultdict(set)
    for position, (u, v) in enumerate(edges):
        if u != v:
            groups[(min(u, v), max(u, v)) if undirected else position].add(position)
    return undirected, {frozenset(group) for group in groups.values()}


@given(edge_lists())
def test_groups_equal_a_slow_oracle(case):
    nodes, edges = case
    groups = EdgeGroups.from_edge_index(_edge_index(edges), nodes)
    undirected, expected = _oracle_partition(edges)
    assert groups.undirected == undirected
    found = {
        frozenset((groups.index == group).nonzero().view(-1).tolist())
        for group in range(groups.num_groups)
    }
    assert found == expected
    assert groups.num_groups == len(expected)
    assert groups.num_edges == len(edges)
    for (u, v), group in zip(edges, groups.index.tolist(), strict=True):
        assert (group == SELF_LOOP) == (u == v)
        if u != v:
            assert set(groups.ends[:, group].tolist()) == {u, v}


@given(edge_lists(), st.data())
def test_masks_keep_loops_and_pairs_together(case, draw):
    nodes, edges = case
    groups = EdgeGroups.from_edge_index(_edge_index(edges), nodes)
    flags = draw.draw(
        st.lists(st.booleans(), min_size=groups.num_groups, max_size=groups.num_groups)
    )
    mask = EdgeMask(groups, torch.tensor(flags, dtype=torch.bool))
    kept = mask.edges
    assert kept.dtype == torch.bool
    assert kept.shape == (len(edges),)
    by_pair = {}
    for (u, v), keep in zip(edges, kept.tolist(), strict=True):
        if u == v:
            assert keep
        elif groups.undirected:
            assert by_pair.setdefault((min(u, v), max(u, v)), keep) == keep
    assert mask.num_kept == sum(flags)


@given(edge_lists(), st.data())
def test_degrees_equal_a_count(case, draw):
    nodes, edges = case
    groups = EdgeGroups.from_edge_index(_edge_index(edges), nodes)
    keep = torch.tensor(
        [draw.draw(st.booleans()) for _ in range(groups.num_groups)], dtype=torch.bool
    )
    expected = [0] * nodes
    for group in keep.nonzero().view(-1).tolist():
        for node in groups.ends[:, group].tolist():
            expected[node] += 1
    assert groups.degrees(keep).tolist() == expected


def _directed_copies(edges, attributes):
    """For each ordered pair of nodes, the multiset of the attributes of its edges."""
    found = defaultdict(list)
    for edge, row in zip(edges, attributes, strict=True):
        found[edge].append(row)
    return {edge: sorted(rows) for edge, rows in found.items()}


@st.composite
def attributed_graphs(draw):
    """Symmetric edges with rows of weight and two attributes that often agree by direction."""
    nodes = draw(st.integers(2, 4))
    node = st.integers(0, nodes - 1)
    row = st.tuples(*[st.sampled_from([-1.0, 0.0, 2.0])] * 3)
    one_way = draw(st.lists(st.tuples(node, node, row), max_size=8))
    edges = [((u, v), r) for u, v, r in one_way]
    reverse = draw(st.permutations([((v, u), r) for (u, v), r in edges if u != v]))
    if reverse and draw(st.booleans()):
        reverse = [(reverse[0][0], draw(row)), *reverse[1:]]
    return nodes, draw(st.permutations(edges + list(reverse)))


@given(attributed_graphs())
def test_a_graph_is_undirected_if_both_directions_carry_the_same_attributes(case):
    nodes, rows = case
    edges = [edge for edge, _ in rows]
    edge_index = _edge_index(edges)
    table = torch.tensor([row for _, row in rows]).reshape(-1, 3)
    groups = EdgeGroups.from_edge_index(edge_index, nodes, table[:, 0], table[:, 1:])
    copies = _directed_copies(edges, [row for _, row in rows])
    agrees = all(copies.get((v, u)) == copies[(u, v)] for u, v in copies)
    bare = EdgeGroups.from_edge_index(edge_index, nodes)
    assert groups.undirected == agrees
    assert (groups.note is None) == (agrees or not bare.undirected)
    if agrees:
        assert torch.equal(groups.index, bare.index)
        assert torch.equal(groups.ends, bare.ends)
    else:
        assert torch.equal(groups.ends, edge_index[:, edge_index[0] != edge_index[1]])


def test_opposite_edges_of_different_type_are_no_pair():
    edge_index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    data = Data(edge_index=edge_index, edge_type=torch.tensor([5, 5, 2, 3]), num_nodes=3)
    groups = EdgeGroups.of(data)
    assert not groups.undirected
    assert groups.note.startswith("treated as directed: edge_type differs")
    data.edge_type[3] = 2
    assert EdgeGroups.of(data).undirected


@pytest.mark.parametrize("edge_type", ["cites", torch.tensor(1), torch.tensor([1, 2])])
def test_a_type_that_is_not_one_an_edge_does_not_count(edge_type):
    edge_index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    assert EdgeGroups.of(Data(edge_index=edge_index, edge_type=edge_type, num_nodes=3)).undirected


def test_the_note_names_the_attribute_and_the_pair_that_disagree():
    edge_index = torch.tensor([[0, 1, 1, 2, 2], [1, 0, 2, 1, 2]])
    weight = torch.tensor([1.0, 1.0, 2.0, 2.0, 9.0])
    attr = torch.tensor([[1, 2], [1, 2], [3, 4], [3, 5], [0, 0]])
    groups = EdgeGroups.from_edge_index(edge_index, 3, weight, attr)
    assert not groups.undirected
    assert groups.note == (
        "treated as directed: edge_attr differs between the edges 1 -> 2 and 2 -> 1 "
        "(columns 2 and 3 of edge_index)"
    )
    assert EdgeGroups.from_edge_index(edge_index, 3, weight).note is None


def test_duplicates_are_compared_as_multisets_of_whole_rows():
    edge_index = torch.tensor([[0, 0, 1, 1], [1, 1, 0, 0]])
    weight = torch.tensor([1.0, 2.0, 2.0, 1.0])
    same = EdgeGroups.from_edge_index(edge_index, 2, weight, torch.tensor([5, 6, 6, 5]))
    crossed = EdgeGroups.from_edge_index(edge_index, 2, weight, torch.tensor([5, 6, 5, 6]))
    assert (same.undirected, same.num_groups) == (True, 1)
    assert (crossed.undirected, crossed.num_groups) == (False, 4)


def test_attributes_that_are_missing_in_both_directions_agree():
    edge_index = torch.tensor([[0, 1], [1, 0]])
    attr = torch.tensor([[math.nan, 1.0], [math.nan, 1.0]])
    assert EdgeGroups.from_edge_index(edge_index, 2, edge_attr=attr).undirected
    attr[0, 0] = 0.0
    assert not EdgeGroups.from_edge_index(edge_index, 2, edge_attr=attr).undirected


@pytest.mark.parametrize("shape", [(3,), (4, 2), (2, 3, 2), (2, 0)])
def test_attributes_of_any_shape_with_one_row_an_edge_are_taken(shape):
    edge_index = torch.tensor([[0, 1], [1, 0]])
    if shape[0] == 2:
        assert EdgeGroups.from_edge_index(edge_index, 2, edge_attr=torch.ones(shape)).undirected
        return
    with pytest.raises(GraphError, match="edge_attr must have one row an edge, 2 in all"):
        EdgeGroups.from_edge_index(edge_index, 2, edge_attr=torch.ones(shape))


@given(st.lists(st.integers(0, 20), max_size=40), st.sampled_from([21, 2**60]))
def test_keys_are_sorted_stably_whether_they_can_be_packed_or_not(keys, bound):
    found, position = stable_sort(torch.tensor(keys, dtype=torch.long), bound)
    assert found.tolist() == sorted(keys)
    assert position.tolist() == sorted(range(len(keys)), key=lambda i: keys[i])


def test_the_largest_keys_that_can_be_packed_are_sorted_right():
    bound = 2**61
    keys = torch.tensor([bound - 1, 0, bound - 1, bound - 2])
    found, position = stable_sort(keys, bound)
    assert found.tolist() == [0, bound - 2, bound - 1, bound - 1]
    assert position.tolist() == [1, 3, 0, 2]


@given(st.lists(st.integers(0, 20), max_size=40), st.sampled_from([21, 30]))
def test_counting_sorts_stably_and_tells_where_keys_start(keys, bound):
    values = torch.arange(len(keys)) * 7
    starts, position, ordered = counting_sort(torch.tensor(keys, dtype=torch.long), bound, values)
    assert position.tolist() == sorted(range(len(keys)), key=lambda i: keys[i])
    assert ordered.tolist() == [7 * place for place in position.tolist()]
    assert starts.tolist() == [sum(key < start for key in keys) for start in range(bound + 1)]
    assert {part.dtype for part in (starts, position, ordered)} == {torch.int32}


def test_groups_take_4_bytes_a_number_and_pair_the_highest_nodes_there_can_be():
    top = 2**31 - 1
    edge_index = torch.tensor([[top - 1, top - 2, 0, 5], [top - 2, top - 1, 5, 0]])
    groups = EdgeGroups.from_edge_index(edge_index, top)
    assert (groups.index.dtype, groups.ends.dtype) == (torch.int32, torch.int32)
    assert groups.index.tolist() == [1, 1, 0, 0]
    with pytest.raises(GraphError, match=r"num_nodes must be less than 2\*\*31 \(got 2147483648\)"):
        EdgeGroups.from_edge_index(edge_index, top + 1)


def test_gradients_flow_from_edges_to_groups():
    groups = EdgeGroups.from_edge_index(torch.tensor([[0, 1, 1, 0, 2], [1, 0, 1, 2, 0]]), 3)
    values = torch.tensor([5.0, 7.0], requires_grad=True)
    groups.to_edges(values, 1.0).dot(torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])).backward()
    assert values.grad.tolist() == [3.0, 24.0]


def test_weights_that_differ_by_direction_make_a_graph_directed():
    edge_index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    same = EdgeGroups.from_edge_index(edge_index, 3, torch.tensor([1.0, 1.0, 2.0, 2.0]))
    other = EdgeGroups.from_edge_index(edge_index, 3, torch.tensor([1.0, 1.0, 2.0, 3.0]))
    assert (same.undirected, same.num_groups) == (True, 2)
    assert (other.undirected, other.num_groups) == (False, 4)


@pytest.mark.parametrize("edges", [[], [(0, 0), (2, 2), (2, 2)]])
def test_a_graph_without_prunable_edges_has_no_groups(edges):
    groups = EdgeGroups.from_edge_index(_edge_index(edges), 3)
    mask = EdgeMask.full(groups)
    assert groups.num_groups == 0
    assert mask.edges.tolist() == [True] * len(edges)
    assert mask.sparsity == 0.0
    assert groups.degrees(mask.keep).tolist() == [0, 0, 0]


def test_to_edges_spreads_values_and_marks_loops():
    groups = EdgeGroups.from_edge_index(torch.tensor([[0, 1, 1, 0, 2], [1, 0, 1, 2, 0]]), 3)
    spread = groups.to_edges(torch.tensor([5.0, 7.0]), -2.0)
    assert spread.tolist() == [5.0, 5.0, -2.0, 7.0, 7.0]


def test_weight_mask_counts():
    mask = WeightMask({"a": torch.tensor([[True, False]]), "b": torch.tensor([True, True])})
    assert (mask.num_weights, mask.num_kept, len(mask)) == (4, 3, 2)
    assert mask.sparsity == 0.25
    assert list(mask) == ["a", "b"]
    full = WeightMask.full({"a": torch.zeros(2, 3)})
    assert (full.num_kept, full.sparsity) == (6, 0.0)
    assert WeightMask({}).sparsity == 0.0


def test_edges_that_cannot_be_pairs_are_not_sorted(monkeypatch):
    monkeypatch.setattr("fastglt.masks.groups.Pairing", None)
    groups = EdgeGroups.from_edge_index(torch.tensor([[0, 0, 1, 2], [1, 2, 2, 2]]), 3)
    assert not groups.undirected
    assert groups.index.tolist() == [0, 1, 2, SELF_LOOP]
    assert groups.ends.tolist() == [[0, 0, 1], [1, 2, 2]]
