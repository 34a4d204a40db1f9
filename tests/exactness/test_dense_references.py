"""Masks against references written here in plain torch on dense matrices."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch_geometric.nn import GATConv, GCNConv, GINConv, SAGEConv

from fastglt.gating import apply_weight_mask, keep_edges
from fastglt.masks import EdgeGroups, EdgeMask, select_top
from helpers import graph, isolate, with_loops


def _adjacency(edge_index, num_nodes):
    """``A[target, source]`` counts the edges, so that ``A @ x`` aggregates."""
    matrix = torch.zeros(num_nodes, num_nodes, dtype=torch.float64)
    for source, target in edge_index.t().tolist():
        matrix[target, source] += 1
    return matrix


def _gcn(conv, x, adjacency):
    # GCN gives a loop to those nodes that have none and keeps the weight of existing ones.
    loops = adjacency.diagonal()
    adjacency = adjacency - torch.diag(loops) + torch.diag(loops.clamp_min(1))
    scale = adjacency.sum(dim=1).pow(-0.5)
    return scale[:, None] * adjacency * scale[None, :] @ (x @ conv.lin.weight.t()) + conv.bias


def _sage(conv, x, adjacency):
    mean = adjacency @ x / adjacency.sum(dim=1, keepdim=True).clamp_min(1)
    return mean @ conv.lin_l.weight.t() + conv.lin_l.bias + x @ conv.lin_r.weight.t()


def _gin(conv, x, adjacency):
    hidden = (1 + conv.eps) * x + adjacency @ x
    return hidden @ conv.nn.weight.t() + conv.nn.bias


def _gat(conv, x, adjacency):
    adjacency = adjacency - torch.diag(adjacency.diagonal()) + torch.eye(len(x))
    hidden = x @ conv.lin.weight.t()
    source = (hidden * conv.att_src.view(-1)).sum(dim=1)
    target = (hidden * conv.att_dst.view(-1)).sum(dim=1)
    logits = F.leaky_relu(target[:, None] + source[None, :], 0.2)
    weight = adjacency * logits.exp()
    return weight / weight.sum(dim=1, keepdim=True) @ hidden + conv.bias


CONVS = {
    "gcn": (lambda: GCNConv(12, 5), _gcn),
    "sage": (lambda: SAGEConv(12, 5, aggr="mean"), _sage),
    "gin": (lambda: GINConv(torch.nn.Linear(12, 5), eps=0.3), _gin),
    "gat": (lambda: GATConv(12, 5), _gat),
}


def _graph(loops):
    data = isolate(graph(40), 7)
    if loops:
        data = with_loops(data, torch.tensor([0, 7, 11]))
    data.x = data.x.double()
    return data


def _mask(data, sparsity, seed=0):
    groups = EdgeGroups.from_edge_index(data.edge_index, data.num_nodes)
    score = torch.rand(groups.num_groups, generator=torch.Generator().manual_seed(seed))
    return EdgeMask(groups, select_top(score, int((1 - sparsity) * groups.num_groups))).edges


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 1.0])
def test_dropped_edges_are_exactly_absent(name, loops, sparsity):
    data = _graph(loops)
    keep = _mask(data, sparsity)
    make, reference = CONVS[name]
    conv = make().double().eval()
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(0))
    small = keep_edges(data, keep)
    found = conv(small.x, small.edge_index)
    # Deleted by hand, edge by edge, without any code of the library.
    dropped = {position for position, kept in enumerate(keep.tolist()) if not kept}
    left = [e for i, e in enumerate(data.edge_index.t().tolist()) if i not in dropped]
    edge_index = torch.tensor(left, dtype=torch.long).reshape(-1, 2).t()
    expected = reference(conv, data.x, _adjacency(edge_index, data.num_nodes))
    assert found.shape == (data.num_nodes, 5)
    assert torch.isfinite(found).all()
    assert torch.allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("loops", [False, True])
def test_edges_that_stay_are_those_that_matter(name, loops):
    data = _graph(loops)
    conv = CONVS[name][0]().double().eval()
    small = keep_edges(data, _mask(data, 0.5))
    whole = conv(data.x, data.edge_index)
    assert (conv(small.x, small.edge_index) - whole).abs().max() > 1e-3


@pytest.mark.parametrize("name", CONVS)
def test_masked_weights_are_zeros_of_the_matrix(name):
    data = _graph(False)
    make, reference = CONVS[name]
    conv = make().double().eval()
    state = conv.state_dict()
    masks = {
        key: torch.rand(state[key].shape, generator=torch.Generator().manual_seed(1)) > 0.8
        for key in state
        if key.endswith("weight")
    }
    conv.load_state_dict(apply_weight_mask(state, masks))
    other = make().double().eval()
    other.load_state_dict({k: v * masks[k] if k in masks else v for k, v in state.items()})
    adjacency = _adjacency(data.edge_index, data.num_nodes)
    expected = reference(other, data.x, adjacency)
    assert torch.allclose(conv(data.x, data.edge_index), expected, rtol=0, atol=1e-10)
    assert all(torch.count_nonzero(conv.state_dict()[key][~masks[key]]) == 0 for key in masks)
