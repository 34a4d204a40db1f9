from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.nn import GCN, SAGEConv
from torch_geometric.nn.dense.linear import Linear

from fastglt.cost import count_macs, num_parameters
from fastglt.gating import keep_edges, prunable_weights
from fastglt.masks import WeightMask
from fastglt.training.loop import clone_state
from fastglt.training.task import NodeClassification
from helpers import build, graph, states_equal, tensors_of, with_loops

TASK = NodeClassification(3)


def _macs(model, data, mask=None):
    return count_macs(model, lambda module: TASK.forward(module, data), mask)


def test_parameters_are_counted_without_the_pruned_ones():
    model = nn.Linear(4, 3)
    assert num_parameters(model) == 15
    keep = torch.zeros(3, 4, dtype=torch.bool)
    keep[0] = True
    assert num_parameters(model, {"weight": keep}) == 15 - 8


def test_gcn_macs_equal_the_formula_with_its_own_loops():
    data = graph(30)
    model = GCN(12, 16, 2, 3)
    messages = data.num_edges + data.num_nodes
    assert _macs(model, data) == 30 * (12 * 16 + 16 * 3) + messages * (16 + 3)
    looped = with_loops(data, torch.tensor([4, 5]))
    assert _macs(model, looped) == _macs(model, data)


def test_sage_macs_equal_the_formula():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = SAGEConv(12, 3)

        def forward(self, x, edge_index):
            return self.conv(x, edge_index)

    data = graph(30)
    assert _macs(Net(), data) == 30 * 2 * 12 * 3 + data.num_edges * 12


def test_a_mask_scales_the_linear_part_and_edges_the_rest():
    data = graph(30)
    model = GCN(12, 16, 1, 3)
    mask = WeightMask.full(prunable_weights(model))
    assert _macs(model, data, mask) == _macs(model, data)
    (name,) = mask
    mask[name].zero_()
    mask[name].view(-1)[:5] = True
    assert _macs(model, data, mask) == 30 * 5 + (data.num_edges + 30) * 3
    keep = torch.zeros(data.num_edges, dtype=torch.bool)
    keep[:8] = True
    assert _macs(model, keep_edges(data, keep), mask) == 30 * 5 + (8 + 30) * 3


@pytest.mark.parametrize("name", ["gcn", "sage", "gin", "gat", "weighted", "plain"])
def test_counting_changes_neither_model_nor_graph(name):
    data = graph(30)
    model = build(name, data).train()
    before, graph_before = clone_state(model), tensors_of(data)
    first = _macs(model, data)
    assert first > 0
    assert _macs(model, data) == first
    assert model.training
    assert states_equal(before, model.state_dict())
    assert states_equal(graph_before, tensors_of(data))
    assert not any(module._forward_hooks for module in model.modules())


def test_a_bare_linear_model_is_counted():
    class Bare(Linear):
        def forward(self, x, edge_index):
            return super().forward(x)

    data = graph(30)
    model = Bare(12, 3)
    keep = torch.ones(3, 12, dtype=torch.bool)
    keep[0] = False
    assert _macs(model, data, {"weight": keep}) == 30 * 24
