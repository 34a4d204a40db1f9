from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from conv_matrix import call, cases
from fastglt.errors import GraphError
from fastglt.gating import keep_edges, loops_last, reorder_edges
from helpers import graph, states_equal, tensors_of


def test_keep_edges_filters_what_belongs_to_edges_and_keeps_all_nodes():
    data = graph(30)
    data.edge_attr = torch.arange(data.num_edges).view(-1, 1)
    data.edge_weight = torch.rand(data.num_edges)
    before = tensors_of(data)
    keep = torch.zeros(data.num_edges, dtype=torch.bool)
    keep[[5, 2, 9]] = True
    small = keep_edges(data, keep)
    assert small.num_nodes == 30
    assert small.edge_attr.flatten().tolist() == [2, 5, 9]
    assert torch.equal(small.edge_index, data.edge_index[:, keep])
    assert torch.equal(small.edge_weight, data.edge_weight[keep])
    assert small.x is data.x
    assert states_equal(before, tensors_of(data))


def test_keep_edges_of_a_graph_that_only_knows_its_edges_keeps_its_nodes():
    data = Data(edge_index=torch.tensor([[0, 1], [1, 3]]), num_nodes=5)
    assert keep_edges(data, torch.tensor([True, False])).num_nodes == 5


def _decorated(num_nodes=30):
    """A graph with everything that may belong to edges."""
    data = graph(num_nodes)
    data.edge_attr = torch.arange(2 * data.num_edges).view(-1, 2)
    data.edge_weight = torch.rand(data.num_edges)
    data.edge_time = np.arange(data.num_edges)
    data.train_pos_edge_label_index = data.edge_index.clone()
    data.edge_label = torch.arange(data.num_edges)
    return data


def test_arrays_travel_with_their_edges_and_supervision_stays_whole():
    data = _decorated()
    keep = torch.arange(data.num_edges) % 3 == 0
    small = keep_edges(data, keep)
    assert small.edge_time.tolist() == list(range(0, data.num_edges, 3))
    assert torch.equal(small.edge_label, data.edge_label)
    assert torch.equal(small.train_pos_edge_label_index, data.train_pos_edge_label_index)


def test_reordering_moves_everything_edge_level_and_nothing_else():
    data = _decorated()
    order = torch.randperm(data.num_edges, generator=torch.Generator().manual_seed(0))
    moved = reorder_edges(data, order)
    assert torch.equal(moved.edge_index, data.edge_index[:, order])
    assert torch.equal(moved.edge_attr, data.edge_attr[order])
    assert torch.equal(moved.edge_weight, data.edge_weight[order])
    assert moved.edge_time.tolist() == order.tolist()
    assert torch.equal(moved.edge_label, data.edge_label)
    assert torch.equal(moved.train_pos_edge_label_index, data.train_pos_edge_label_index)
    assert moved.x is data.x
    assert moved.num_nodes == 30
    assert data.edge_time.tolist() == list(range(data.num_edges))


@pytest.mark.parametrize("case", [c for c in cases(valued=True) if "all-loops" in c.id])
def test_reordered_edges_are_the_same_graph_to_a_model(case):
    data, net = case.graph(), case.net()
    moved = reorder_edges(data, loops_last(data.edge_index))
    assert not torch.equal(moved.edge_index, data.edge_index)
    assert torch.allclose(call(net, moved), call(net, data), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["adj", "adj_t"])
def test_an_adjacency_beside_the_edges_is_refused(name):
    data = graph(30)
    data[name] = torch.eye(30).to_sparse_csr()
    with pytest.raises(GraphError, match=rf"data.{name} must not stand beside edge_index"):
        keep_edges(data, torch.ones(data.num_edges, dtype=torch.bool))


def test_as_many_edges_as_nodes_confuse_nothing():
    data = graph(30)
    data.edge_index = data.edge_index[:, :30]
    data.edge_weight = torch.arange(30.0)
    small = keep_edges(data, torch.arange(30) < 4)
    assert small.edge_index.shape == (2, 4)
    assert small.edge_weight.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert small.x is data.x
    assert small.y is data.y
    assert small.train_mask is data.train_mask
