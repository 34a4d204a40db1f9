"""Every way a graph can be malformed is refused with its key, position and value."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from fastglt.data import csbm
from fastglt.data.validate import validate
from fastglt.errors import GraphError

N, C = 40, 4


@pytest.fixture
def data():
    return csbm(N, average_degree=4, num_classes=C, num_features=6)


def test_a_sound_graph_passes_unchanged(data):
    data.edge_weight = torch.ones(data.num_edges)
    before = copy.deepcopy(data)
    assert validate(data) == C
    assert data.to_dict().keys() == before.to_dict().keys()
    assert all(torch.equal(data[key], before[key]) for key in before.to_dict())


def test_sparse_features_pass_and_are_checked(data):
    data.x = data.x.to_sparse_csr()
    assert validate(data) == C
    data.x.values()[13] = float("nan")
    with pytest.raises(GraphError, match=r"got nan at row 2, column 1\)"):
        validate(data)
    data.x = csbm(N).x.to_sparse_coo()
    with pytest.raises(GraphError, match="must be dense or sparse CSR"):
        validate(data)


def replaced(tensor, index, value):
    tensor = tensor.clone()
    tensor[index] = value
    return tensor


def edges(data, dtype=torch.long):
    return data.edge_index.to(dtype)


CASES = [
    ("edge_index", lambda d: None, "data.edge_index is missing"),
    ("edge_index", lambda d: [[0], [1]], r"must be a torch.Tensor \(got list\)"),
    ("edge_index", lambda d: edges(d, torch.int32), r"must be torch.int64 \(got torch.int32\)"),
    ("edge_index", lambda d: edges(d).t(), r"shape \[2, num_edges\] \(got \[160, 2\]\)"),
    ("edge_index", lambda d: edges(d)[0], r"shape \[2, num_edges\] \(got \[160\]\)"),
    (
        "edge_index",
        lambda d: replaced(edges(d), (1, 5), N),
        r"in \[0, 39\] for 40 nodes \(got 40 at row 1, column 5\)",
    ),
    ("edge_index", lambda d: replaced(edges(d), (0, 9), -1), r"got -1 at row 0, column 9"),
    ("x", lambda d: None, "data.x is missing"),
    ("x", lambda d: d.x[:, 0], r"shape \[num_nodes, num_features\] \(got \[40\]\)"),
    ("x", lambda d: d.x.long(), r"must be floating point \(got torch.int64\)"),
    ("x", lambda d: d.x[:0], "at least one row"),
    ("x", lambda d: replaced(d.x, (3, 2), float("nan")), "got nan at row 3, column 2"),
    ("x", lambda d: replaced(d.x, (8, 0), float("-inf")), "got -inf at row 8, column 0"),
    ("num_nodes", lambda d: N + 1, r"must have num_nodes = 41 rows \(got 40\)"),
    ("y", lambda d: None, "data.y is missing"),
    ("y", lambda d: d.y.float(), r"data.y must be torch.int64 \(got torch.float32\)"),
    ("y", lambda d: d.y[1:], r"data.y must have shape \[40\] \(got \[39\]\)"),
    ("y", lambda d: d.y.unsqueeze(1), r"squeeze\(-1\)"),
    (
        "y",
        lambda d: replaced(d.y, 7, -1),
        r"in \[0, num_classes\) .*\(got -1 at node 7\); .* unlabelled and belongs in no mask",
    ),
    ("train_mask", lambda d: None, "data.train_mask is missing"),
    ("val_mask", lambda d: d.val_mask.long(), r"must be torch.bool \(got torch.int64\)"),
    ("val_mask", lambda d: d.val_mask[1:], r"must have shape \[40\] \(got \[39\]\)"),
    ("val_mask", lambda d: d.val_mask.repeat(3, 1).t(), r"choose one split"),
    ("train_mask", lambda d: torch.zeros(N, dtype=torch.bool), "train_mask must hold at least"),
    ("val_mask", lambda d: torch.zeros(N, dtype=torch.bool), "val_mask must hold at least"),
    ("val_mask", lambda d: d.train_mask, "train_mask and data.val_mask must not overlap"),
    ("test_mask", lambda d: d.val_mask, "val_mask and data.test_mask must not overlap"),
    ("edge_weight", lambda d: torch.ones(159), r"must have shape \[160\] \(got \[159\]\)"),
    ("edge_weight", lambda d: torch.ones(160, 1), r"must have shape \[160\]"),
    ("edge_weight", lambda d: torch.ones(160).long(), "must be floating point"),
    (
        "edge_weight",
        lambda d: replaced(torch.ones(160), 11, float("inf")),
        "got inf at edge 11",
    ),
    ("adj_t", lambda d: torch.eye(N).to_sparse_csr(), "edges once .got edge_index and adj_t"),
]


@pytest.mark.parametrize(("key", "change", "message"), CASES)
def test_malformed_graphs_are_refused(key, change, message, data):
    data[key] = change(data)
    with pytest.raises(GraphError, match=message):
        validate(data)


@pytest.mark.parametrize(("graph", "message"), [(HeteroData(), "HeteroData"), ({}, "got dict")])
def test_other_kinds_of_graph_are_refused(graph, message):
    with pytest.raises(GraphError, match=message):
        validate(graph)


def test_overlap_names_the_first_node_and_the_number(data):
    data.val_mask = data.val_mask.clone()
    both = data.train_mask.nonzero().flatten()[2:4]
    data.val_mask[both] = True
    with pytest.raises(GraphError, match=rf"got node {int(both[0])} in both, 2 in all"):
        validate(data)


def test_labels_outside_all_masks_are_not_looked_at(data):
    data.test_mask = torch.zeros(N, dtype=torch.bool)
    data.y[~(data.train_mask | data.val_mask)] = -1
    assert validate(data) == C


@settings(deadline=None)
@given(row=st.integers(0, N - 1), column=st.integers(0, 5), sparse=st.booleans())
def test_the_position_of_a_bad_feature_is_exact(row, column, sparse):
    data = csbm(N, average_degree=4, num_classes=C, num_features=6)
    data.x[row, column] = float("inf")
    if sparse:
        data.x = data.x.to_sparse_csr()
    with pytest.raises(GraphError, match=rf"got inf at row {row}, column {column}\)"):
        validate(data)


@settings(deadline=None)
@given(
    row=st.integers(0, 1),
    column=st.integers(0, 159),
    value=st.integers(N, 2**62) | st.integers(-(2**62), -1),
)
def test_the_position_of_a_bad_edge_is_exact(row, column, value):
    data = csbm(N, average_degree=4, num_classes=C, num_features=6)
    data.edge_index[row, column] = value
    with pytest.raises(GraphError, match=rf"got {value} at row {row}, column {column}\)"):
        validate(data)
