"""Attention over edges, against one edge at a time."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.nn import GATConv

from fastglt.training.attention import AttentionEdges, attend
from fastglt.training.known_graph import KnownGraph

EDGES = torch.tensor([[0, 1, 2, 2, 4, 4, 0], [1, 1, 1, 0, 3, 3, 2]])  # 4 sources twice of 3
SOURCES, TARGETS, HEADS, CHANNELS, SLOPE = 5, 4, 2, 3, 0.2


def inputs(scale=1.0):
    generator = torch.Generator().manual_seed(0)
    shapes = (HEADS, SOURCES, CHANNELS), (HEADS, SOURCES), (HEADS, TARGETS)
    x, source, target = (torch.randn(s, generator=generator).double() for s in shapes)
    return x.requires_grad_(), (scale * source).requires_grad_(), target.requires_grad_()


def one_by_one(x, source_logit, target_logit):
    out = torch.zeros(HEADS, TARGETS, CHANNELS, dtype=x.dtype)
    for head in range(HEADS):
        for node in range(TARGETS):
            sources = EDGES[0][EDGES[1] == node]
            logit = source_logit[head, sources] + target_logit[head, node]
            share = torch.nn.functional.leaky_relu(logit, SLOPE).softmax(0)
            out[head, node] = (share[:, None] * x[head, sources]).sum(0).detach()
    return out


def edges():
    return AttentionEdges(EDGES, (TARGETS, SOURCES), HEADS)


@pytest.mark.parametrize("scale", [1.0, 3000.0])  # the latter overflows without the peak
def test_outputs(scale):
    given = inputs(scale)
    out = attend(edges(), *given, SLOPE, 0.0)
    torch.testing.assert_close(out, one_by_one(*given))


def test_a_node_without_edges_gets_zero():
    only = AttentionEdges(EDGES[:, :1], (TARGETS, SOURCES), HEADS)
    out = attend(only, *inputs(), SLOPE, 0.0)
    assert bool((out[:, 1] != 0).all())
    assert not bool(out[:, [0, 2, 3]].any())


def test_gradients():
    def call(*tensors):
        return attend(edges(), *tensors, SLOPE, 0.0)

    assert torch.autograd.gradcheck(call, inputs())


def test_gradients_under_dropout():
    def call(*tensors):
        torch.manual_seed(3)  # the same edges are dropped each time
        return attend(edges(), *tensors, SLOPE, 0.5)

    assert not torch.equal(call(*inputs()), attend(edges(), *inputs(), SLOPE, 0.0))
    assert torch.autograd.gradcheck(call, inputs())


def test_more_edges_than_places():
    many = AttentionEdges(EDGES.repeat(1, 40), (TARGETS, SOURCES), HEADS)
    given = inputs()
    torch.testing.assert_close(
        attend(many, *given, SLOPE, 0.0), attend(edges(), *given, SLOPE, 0.0)
    )
    assert torch.autograd.gradcheck(lambda *tensors: attend(many, *tensors, SLOPE, 0.0), given)


def test_a_logit_of_zero_has_the_slope_that_it_has_in_torch():
    data = torch.tensor([[0, 1, 2], [1, 1, 1]])
    conv = GATConv(3, 2, heads=2).double()
    conv.att_src.data.zero_()
    conv.att_dst.data.zero_()
    x = torch.randn(3, 3, dtype=torch.float64)
    known = KnownGraph(Data(x=x, edge_index=data, num_nodes=3))
    with known.known_to(conv):
        out = conv(x, known.matrix)
    assert known.num_calls == 1
    weight = torch.randn_like(out)
    actual, expected = (
        torch.autograd.grad((result * weight).sum(), [conv.att_src, conv.att_dst])
        for result in (out, conv(x, data))
    )
    assert bool(expected[0].abs().max() > 1e-3)
    torch.testing.assert_close(actual, expected)
