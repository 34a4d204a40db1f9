"""Gate gradients against finite differences, for every conv on every kind of graph."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

import pytest
import torch
from torch_geometric.nn import GATConv, GATv2Conv, MessagePassing

from conv_matrix import CONVS, NUM_NODES, call, cases, edge_values
from fastglt import scores
from fastglt.gating import (
    edge_gradient,
    keep_edges,
    loops_last,
    message_gate,
    reorder_edges,
    takes_edge_weight,
    unit_gates,
)
from fastglt.masks import EdgeGroups, EdgeMask

STEP = 1e-6
WEIGHTED = [case for case in cases() if CONVS[case.values[0].conv].keyword == "edge_weight"]


def _groups(data):
    return EdgeGroups.from_edge_index(data.edge_index, data.num_nodes, **edge_values(data))


def _some_kept(groups):
    keep = torch.ones(groups.num_groups, dtype=torch.bool)
    keep[1::3] = False
    return keep


def _target(out):
    return (out * torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view(out.shape)).sum()


def _edges_of(groups, group):
    return (groups.index == group).nonzero().view(-1).tolist()


def _with_weight(model, data, weight):
    changed = data.clone()
    changed.edge_weight = weight
    return call(model, changed)


def _gated_loss(model, data):
    """The loss as a function of the gates, with the library's own gates."""

    def loss(edge_index, gate):
        assert edge_index is data.edge_index
        if takes_edge_weight(model):
            return _target(_with_weight(model, data, data.get("edge_weight", 1.0) * gate))
        order = loops_last(edge_index)
        moved = reorder_edges(data, order)
        with message_gate(model, moved.edge_index, gate[order]):
            return _target(call(model, moved))

    return loss


@contextmanager
def _messages_times(model, factor):
    """Multiply each finished message by ``factor[source, target]``, loops by 1.

    Where the messages of a node are shares of 1, they are shared out anew. Written with PyG's
    hooks: one sees the edges that the conv really uses, the other the messages.
    """
    edges = {}

    def remember(conv, inputs):
        edges[conv] = inputs[0].t().tolist()

    def multiply(conv, _, messages):
        column = [1.0 if u == v else factor[u, v] for u, v in edges[conv]]
        column = torch.tensor(column, dtype=messages.dtype)
        return messages * column.view(-1, *[1] * (messages.dim() - 1))

    def share_out(conv, given, attention):
        weighted, totals = [], {}
        for (u, v), share in zip(given[0].t().tolist(), attention, strict=True):
            weighted.append(share * (1.0 if u == v else factor[u, v]))
            totals[v] = totals.get(v, 0) + weighted[-1]
        targets = given[0][1].tolist()
        return torch.stack([w / totals[v] for w, v in zip(weighted, targets, strict=True)])

    with ExitStack() as stack:
        for conv in model.modules():
            if type(conv) in (GATConv, GATv2Conv):
                stack.callback(conv.register_edge_update_forward_hook(share_out).remove)
            elif isinstance(conv, MessagePassing):
                for handle in (
                    conv.register_propagate_forward_pre_hook(remember),
                    conv.register_message_forward_hook(multiply),
                ):
                    stack.callback(handle.remove)
        yield


def _factors(data, gate):
    columns = data.edge_index.t().tolist()
    return {tuple(ends): float(value) for ends, value in zip(columns, gate, strict=True)}


@pytest.mark.parametrize("case", WEIGHTED)
def test_weight_gates_agree_with_changing_the_weights_of_a_group(case):
    data, net = case.graph(), case.net()
    groups = _groups(data)
    keep = _some_kept(groups)
    found = edge_gradient(_gated_loss(net, data), data.edge_index, groups, keep, torch.float64)
    assert found.dtype == torch.float64
    given = data.edge_weight if case.valued else torch.ones(len(groups.index), dtype=found.dtype)
    kept_weight = given * EdgeMask(groups, keep).edges
    for group in range(groups.num_groups):
        if not _is_smooth(case, data, groups, keep, group):
            continue
        values = []
        for sign in (1, -1):
            weight = kept_weight.clone()
            for edge in _edges_of(groups, group):
                weight[edge] += sign * STEP * given[edge]
            values.append(float(_target(_with_weight(net, data, weight)).detach()))
        slope = (values[0] - values[1]) / (2 * STEP)
        assert float(found[group]) == pytest.approx(slope, rel=1e-5, abs=1e-6), group


def _is_smooth(case, data, groups, keep, group):
    """Whether the output has a derivative with respect to a group's weight.

    At weight 0 a maximum has none (zeros tie), nor has the normalisation of a node that has
    nothing else.
    """
    if keep[group]:
        return True
    if case.conv == "graph-max":
        return False
    if case.conv != "cheb":
        return True
    kept = keep_edges(data, EdgeMask(groups, keep).edges).edge_index
    proper = kept[:, kept[0] != kept[1]]
    # ChebConv normalises by the degree of an edge's source, without loops.
    degree = torch.bincount(proper[0], minlength=NUM_NODES)
    ends = data.edge_index[:, _edges_of(groups, group)]
    return bool((degree[ends] > 0).all())


@pytest.mark.parametrize("case", cases())
def test_a_message_gate_multiplies_each_message_of_its_edge(case):
    data, net = case.graph(), case.net()
    generator = torch.Generator().manual_seed(2)
    gate = torch.rand(data.edge_index.size(1), generator=generator, dtype=torch.float64) + 0.5
    gate[data.edge_index[0] == data.edge_index[1]] = 1.0
    order = loops_last(data.edge_index)
    moved = reorder_edges(data, order)
    with message_gate(net, moved.edge_index, gate[order]):
        found = call(net, moved)
    with _messages_times(net, _factors(data, gate)):
        expected = call(net, data)
    assert torch.allclose(found, expected, rtol=0, atol=1e-10)
    assert not torch.allclose(found, call(net, data), rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", [c for c in cases() if c not in WEIGHTED])
def test_message_gates_agree_with_multiplying_the_messages_of_a_group(case):
    data, net = case.graph(), case.net()
    groups = _groups(data)
    keep = torch.ones(groups.num_groups, dtype=torch.bool)
    found = edge_gradient(_gated_loss(net, data), data.edge_index, groups, keep, torch.float64)
    for group in range(groups.num_groups):
        values = []
        for sign in (1, -1):
            gate = torch.ones(len(groups.index), dtype=torch.float64)
            gate[_edges_of(groups, group)] += sign * STEP
            with _messages_times(net, _factors(data, gate)):
                values.append(float(_target(call(net, data)).detach()))
        slope = (values[0] - values[1]) / (2 * STEP)
        assert float(found[group]) == pytest.approx(slope, rel=1e-5, abs=1e-6), group


@pytest.mark.parametrize("case", cases())
def test_every_score_is_finite(case):
    data, net = case.graph(), case.net()
    groups = _groups(data)
    probability = call(net, data).softmax(dim=-1)
    for keep in (_some_kept(groups), torch.zeros(groups.num_groups, dtype=torch.bool)):
        gradient = edge_gradient(_gated_loss(net, data), data.edge_index, groups, keep)
        gate = unit_gates(groups, keep)[groups.index >= 0][: groups.num_groups]
        found = [
            gradient,
            scores.degree_product(groups, keep, power=-1.5),
            scores.unit_gate(gradient, groups, keep),
            scores.influence(probability, groups, keep),
            *scores.trained_gate(gate, gradient, groups, keep),
        ]
        assert all(score.shape == (groups.num_groups,) for score in found)
        assert all(torch.isfinite(score).all() for score in found)


@pytest.mark.parametrize("case", WEIGHTED)
def test_weight_0_removes_an_edge_where_a_conv_sums(case):
    data, net = case.graph(), case.net()
    kept = EdgeMask(_groups(data), _some_kept(_groups(data))).edges
    weighted = _with_weight(net, data, data.get("edge_weight", 1.0) * kept.double())
    removed = call(net, keep_edges(data, kept))
    sums = case.conv in ("gcn", "cheb", "graph-add")
    assert torch.allclose(weighted, removed, rtol=0, atol=1e-10) is sums
