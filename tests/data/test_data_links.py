"""Link splits: pairs together, no leak into the messages, negatives that are none, by seed only."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data
from torch_geometric.edge_index import EdgeIndex
from torch_geometric.transforms import RandomLinkSplit
from torch_geometric.utils import is_undirected, to_undirected

from fastglt.data import csbm, from_link_splits, random_link_split
from fastglt.data.links import LINK_KEYS, remove_evaluation_edges
from fastglt.data.validate import validate
from fastglt.errors import GraphError, InputError


def as_set(pairs):
    return set(map(tuple, pairs.t().tolist()))


def weighted(data):
    """Weights and attributes that tell which edge they belong to, alike in both directions."""
    low, high = data.edge_index.min(dim=0).values, data.edge_index.max(dim=0).values
    data.edge_weight = (low * 1000 + high).float()
    data.edge_attr = torch.stack([low, high], dim=1).float()
    return data


def undirected_graph(num_nodes=40, seed=0):
    """Both directions, five self-loops, and some edges twice."""
    edge_index = csbm(num_nodes, average_degree=4, seed=seed).edge_index
    loops = torch.arange(5).repeat(2, 1)
    twice = edge_index[:, edge_index.sum(dim=0) % 7 == 0]
    return weighted(
        Data(x=torch.ones(num_nodes, 2), edge_index=torch.cat([edge_index, loops, twice], dim=1))
    )


def directed_graph(num_nodes=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(num_nodes, (2, 150), generator=generator)
    return weighted(Data(x=torch.ones(num_nodes, 2), edge_index=edge_index))


@settings(deadline=None, max_examples=25)
@given(
    directed=st.booleans(),
    graph=st.integers(0, 20),
    seed=st.integers(0, 99),
    val=st.floats(0.1, 0.4),
)
def test_positives_and_messages_partition_the_edges(directed, graph, seed, val):
    data = (directed_graph if directed else undirected_graph)(seed=graph)
    before = {key: value.clone() for key, value in data.to_dict().items()}
    result = random_link_split(data, val=val, test=0.2, seed=seed)
    assert all(torch.equal(data[key], value) for key, value in before.items())
    assert validate(result, "link-prediction") == 0

    def edges(pairs):
        proper = pairs[:, pairs[0] != pairs[1]]
        return as_set(proper if directed else proper.sort(dim=0).values)

    whole = edges(data.edge_index)
    parts = [edges(result[f"{part}_pos_edge_label_index"]) for part in ("train", "val", "test")]
    assert set.union(*parts) == whole
    assert sum(map(len, parts)) == len(whole)
    assert edges(result.edge_index) == parts[0]
    for part in ("val", "test"):
        negatives = result[f"{part}_neg_edge_label_index"]
        assert not edges(negatives) & whole
        assert len(edges(negatives)) == negatives.size(1)
        assert negatives.size(1) == result[f"{part}_pos_edge_label_index"].size(1)
    assert not as_set(result.val_neg_edge_label_index) & as_set(result.test_neg_edge_label_index)


@pytest.mark.parametrize("graph", [undirected_graph, directed_graph])
def test_weights_attributes_repetitions_and_loops_stay_with_their_edges(graph):
    data = graph()
    result = random_link_split(data, val=0.2, test=0.2)
    low, high = result.edge_index.min(dim=0).values, result.edge_index.max(dim=0).values
    assert torch.equal(result.edge_weight, (low * 1000 + high).float())
    assert torch.equal(result.edge_attr, torch.stack([low, high], dim=1).float())
    loops = lambda edges: as_set(edges[:, edges[0] == edges[1]])  # noqa: E731
    assert loops(result.edge_index) == loops(data.edge_index)
    assert is_undirected(result.edge_index) == is_undirected(data.edge_index)
    kept = as_set(result.edge_index)
    repeated = sum(edge in kept for edge in map(tuple, data.edge_index.t().tolist()))
    assert result.num_edges == repeated


def test_the_split_depends_on_the_seed_only():
    data = undirected_graph()
    torch.manual_seed(1)
    first = random_link_split(data, val=0.1, test=0.2, seed=4)
    torch.manual_seed(2)
    again = random_link_split(data, val=0.1, test=0.2, seed=4)
    other = random_link_split(data, val=0.1, test=0.2, seed=5)
    for key in (*LINK_KEYS, "edge_index"):
        assert torch.equal(first[key], again[key])
    assert not torch.equal(first.edge_index, other.edge_index)
    assert not torch.equal(first.val_neg_edge_label_index, other.val_neg_edge_label_index)


def test_shares_are_exact_and_negatives_can_be_more():
    pairs = torch.combinations(torch.arange(25))[:100].t()
    data = Data(edge_index=to_undirected(pairs), num_nodes=60)
    result = random_link_split(data, val=0.29, test=0.07, negatives=3)
    assert result.val_pos_edge_label_index.size(1) == 29
    assert result.test_neg_edge_label_index.size(1) == 21
    assert result.num_nodes == 60


def test_other_forms_of_the_edges_are_split_alike():
    data = csbm(60, average_degree=6)
    formed = data.clone()
    formed.edge_index = EdgeIndex(data.edge_index, sparse_size=(60, 60))
    first, second = random_link_split(data), random_link_split(formed)
    assert torch.equal(first.edge_index, second.edge_index)
    with pytest.raises(GraphError, match="edge_index is missing"):
        random_link_split(Data(num_nodes=3))


def test_labels_of_nodes_are_left_out():
    result = random_link_split(csbm(60, average_degree=6))
    assert not {"y", "train_mask", "val_mask", "test_mask"} & set(result.keys())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val": 0}, r"val must be a share in \(0, 1\) \(got 0\)"),
        ({"test": 1.0}, r"test must be a share"),
        ({"val": 0.5, "test": 0.5}, r"val \+ test must be below 1 \(got 0.5 \+ 0.5\)"),
        ({"seed": -1}, "seed must be an integer"),
        ({"negatives": 0}, "negatives must be finite and above 0"),
        ({"val": 0.001}, "must have enough edges"),
        ({"negatives": 99.0}, "pairs of nodes without an edge"),
    ],
)
def test_impossible_splits_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        random_link_split(undirected_graph(), **{"val": 0.1, "test": 0.1, **change})


@pytest.mark.parametrize("split_labels", [True, False])
@pytest.mark.parametrize("add_negative_train_samples", [True, False])
def test_the_three_graphs_of_pyg_become_one(split_labels, add_negative_train_samples):
    data = csbm(60, average_degree=6)
    torch.manual_seed(0)
    train, val, test = RandomLinkSplit(
        num_val=0.1,
        num_test=0.2,
        is_undirected=True,
        split_labels=split_labels,
        add_negative_train_samples=add_negative_train_samples,
    )(data)
    result = from_link_splits(train, val, test)
    assert validate(result, "link-prediction") == 0
    assert torch.equal(result.edge_index, train.edge_index)
    keys = {key for key in result.keys() if "edge_label" in key}  # noqa: SIM118
    assert keys == set(LINK_KEYS)
    for part, name in ((val, "val"), (test, "test")):
        if split_labels:
            expected = part.pos_edge_label_index, part.neg_edge_label_index
        else:
            positive = part.edge_label == 1
            expected = part.edge_label_index[:, positive], part.edge_label_index[:, ~positive]
        assert torch.equal(result[f"{name}_pos_edge_label_index"], expected[0])
        assert torch.equal(result[f"{name}_neg_edge_label_index"], expected[1])
    assert result.train_pos_edge_label_index.size(1) == train.num_edges // 2


def test_graphs_of_pyg_without_labels_or_negatives_are_refused():
    data = csbm(60, average_degree=6)
    with pytest.raises(GraphError, match="train_data must have edge_label_index"):
        from_link_splits(data, data, data)
    bare = RandomLinkSplit(neg_sampling_ratio=0.0, is_undirected=True)(data)
    with pytest.raises(GraphError, match="val_data must have negatives"):
        from_link_splits(*bare)


def test_evaluation_edges_are_removed_in_both_directions():
    data = undirected_graph()
    split = random_link_split(data, val=0.2, test=0.2)
    leaky = split.clone()
    leaky.edge_index, leaky.edge_weight = data.edge_index, data.edge_weight
    leaky.edge_attr = data.edge_attr
    with pytest.raises(GraphError, match=r"val_pos_edge_label_index must not be among"):
        validate(leaky, "link-prediction")
    clean = remove_evaluation_edges(leaky)
    assert as_set(clean.edge_index) == as_set(split.edge_index)
    assert torch.equal(clean.edge_weight, split.edge_weight)
