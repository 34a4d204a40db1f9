from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch_geometric.explain.algorithm.utils import clear_masks, set_masks
from torch_geometric.nn import GCN, GATConv, GATv2Conv, GINConv, SAGEConv

from fastglt.errors import ModelError
from fastglt.gating import (
    edge_gradient,
    loops_last,
    message_gate,
    sum_over_groups,
    takes_edge_weight,
)
from fastglt.masks import EdgeGroups
from helpers import build, graph, isolate, with_loops


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=20))
def test_loops_last_is_a_stable_permutation_with_loops_by_node(edges):
    edge_index = torch.tensor(edges, dtype=torch.long).reshape(-1, 2).t()
    order = loops_last(edge_index)
    plain = [i for i, (u, v) in enumerate(edges) if u != v]
    loops = sorted((i for i, (u, v) in enumerate(edges) if u == v), key=lambda i: edges[i][0])
    assert order.tolist() == plain + loops


def test_sum_over_groups_inverts_spreading():
    edge_index = torch.tensor([[0, 1, 1, 0, 2, 0], [1, 0, 1, 2, 0, 1]])
    edge_index = torch.cat([edge_index, torch.tensor([[1], [0]])], dim=1)
    groups = EdgeGroups.from_edge_index(edge_index, 3)
    sizes = sum_over_groups(torch.ones(7), groups)
    assert sizes.tolist() == [4.0, 2.0]
    values = torch.tensor([3.0, -1.0])
    assert torch.equal(sum_over_groups(groups.to_edges(values, 100.0), groups), values * sizes)


def _loss_of(model, data):
    def loss(edge_index, edge_weight):
        out = model(data.x, edge_index, edge_weight.to(data.x.dtype))
        return (out[data.train_mask] * data.x[data.train_mask, : out.size(1)]).sum()

    return loss


@pytest.mark.parametrize("name", ["gcn", "weighted"])
@pytest.mark.parametrize("directed", [False, True])
def test_edge_gradients_equal_finite_differences_on_kept_and_pruned_edges(name, directed):
    data = graph(18, average_degree=3.0)
    if directed:
        data.edge_index = data.edge_index[:, ::2]
    data = with_loops(data, torch.tensor([3, 4]))
    data.x = data.x.double()
    model = build(name, data).double().eval()
    groups = EdgeGroups.from_edge_index(data.edge_index, data.num_nodes)
    assert groups.undirected is not directed
    keep = torch.ones(groups.num_groups, dtype=torch.bool)
    keep[::3] = False
    loss = _loss_of(model, data)
    found = edge_gradient(loss, data.edge_index, groups, keep)
    assert found.shape == (groups.num_groups,)
    step = 1e-6
    for group in range(groups.num_groups):
        gates = keep.double()
        gates[group] += step
        above = loss(data.edge_index, groups.to_edges(gates, 1.0))
        gates[group] -= step
        at = loss(data.edge_index, groups.to_edges(gates, 1.0))
        slope = float((above - at).detach()) / step
        assert float(found[group]) == pytest.approx(slope, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", ["gcn", "sage", "gin", "gat", "weighted"])
def test_isolated_nodes_give_finite_gradients(name):
    data = isolate(graph(24), 3)
    model = build(name, data).eval()
    groups = EdgeGroups.from_edge_index(data.edge_index, data.num_nodes)
    keep = groups.ends[0] % 3 != 0

    def loss(edge_index, edge_weight):
        if takes_edge_weight(model):
            out = model(data.x, edge_index, edge_weight)
        else:
            with message_gate(model, edge_index, edge_weight):
                out = model(data.x, edge_index)
        return out.square().mean()

    for kept in (keep, torch.zeros_like(keep)):
        gradient = edge_gradient(loss, data.edge_index, groups, kept)
        assert torch.isfinite(gradient).all()


def test_a_singular_normalisation_gives_finite_gradients():
    data = graph(24)
    model = GCN(12, 8, 2, 3, add_self_loops=False).eval()
    groups = EdgeGroups.from_edge_index(data.edge_index, data.num_nodes)
    keep = (groups.ends != 3).all(dim=0)

    def loss(edge_index, edge_weight):
        return model(data.x, edge_index, edge_weight).square().mean()

    gradient = edge_gradient(loss, data.edge_index, groups, keep)
    assert torch.isfinite(gradient).all()
    assert torch.count_nonzero(gradient[keep]) > 0


def test_a_loss_that_ignores_the_gates_is_refused():
    data = graph(20)
    model = build("gcn", data)
    groups = EdgeGroups.from_edge_index(data.edge_index, 20)
    keep = torch.ones(groups.num_groups, dtype=torch.bool)
    with pytest.raises(ModelError, match="does not depend on edge_weight"):
        edge_gradient(lambda e, _: model(data.x, e).sum(), data.edge_index, groups, keep)
    with pytest.raises(ModelError, match="does not depend on edge_weight"):
        edge_gradient(lambda *_: torch.tensor(1.0), data.edge_index, groups, keep)


@pytest.mark.parametrize("name", ["gat", "sage", "gin", "gcn"])
@pytest.mark.parametrize("loops", [0, 5, 20])
def test_a_message_gate_of_ones_changes_nothing(name, loops):
    data = graph(20)
    if loops:
        nodes = torch.randperm(20, generator=torch.Generator().manual_seed(0))[:loops]
        data = with_loops(data, nodes)
    model = build(name, data).eval()
    edge_index = data.edge_index[:, loops_last(data.edge_index)]
    expected = model(data.x, edge_index)
    with message_gate(model, edge_index, torch.ones(edge_index.size(1))):
        gated = model(data.x, edge_index)
    assert torch.allclose(gated, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["gat", "sage", "gin"])
@pytest.mark.parametrize("loops", [0, 5, 20])
def test_a_message_gate_of_0_silences_the_edge_it_belongs_to(name, loops):
    data = graph(20)
    if loops:
        data = with_loops(data, torch.arange(20).flip(0)[:loops])
    conv = {
        "gat": lambda: GATConv(12, 4),
        "sage": lambda: SAGEConv(12, 4),
        "gin": lambda: GINConv(nn.Linear(12, 4)),
    }
    model = conv[name]().eval()
    edge_index = data.edge_index[:, loops_last(data.edge_index)]
    expected = model(data.x, edge_index)
    for edge in range(0, int((edge_index[0] != edge_index[1]).sum()), 7):
        gate = torch.ones(edge_index.size(1))
        gate[edge] = 0
        with message_gate(model, edge_index, gate):
            out = model(data.x, edge_index)
        changed = ((out - expected).abs() > 1e-6).any(dim=1).nonzero().view(-1).tolist()
        assert changed == [int(edge_index[1, edge])]


@pytest.mark.parametrize("conv", [GATConv, GATv2Conv])
@pytest.mark.parametrize("loops", ["none", "given", "added"])
def test_attention_with_gates_of_0_is_attention_without_these_edges(conv, loops):
    data = with_loops(graph(20), torch.arange(6)) if loops == "given" else graph(20)
    model = conv(12, 4, heads=3, add_self_loops=loops == "added", dropout=0.6).double().eval()
    edge_index, x = data.edge_index[:, loops_last(data.edge_index)], data.x.double()
    keep = torch.rand(edge_index.size(1), generator=torch.Generator().manual_seed(0)) < 0.4
    keep |= edge_index[0] == edge_index[1]
    keep[edge_index[1] == 13] = False  # a node without any kept edge
    with message_gate(model, edge_index, keep.double()):
        gated = model(x, edge_index)
    torch.testing.assert_close(gated, model(x, edge_index[:, keep]), rtol=0, atol=1e-12)


def test_gates_of_a_node_without_any_kept_edge_have_finite_gradients():
    data = graph(20)
    model = GATConv(12, 4, add_self_loops=False).eval()
    gate = torch.zeros(data.num_edges, requires_grad=True)
    with message_gate(model, data.edge_index, gate):
        model(data.x, data.edge_index).square().sum().backward()
    assert bool(gate.grad.isfinite().all())


def test_a_subclass_that_may_attend_otherwise_keeps_gates_of_its_messages():
    class Own(GATConv):
        pass

    data = graph(20)
    torch.manual_seed(0)
    model = Own(12, 4).eval()
    with message_gate(model, data.edge_index, torch.zeros(data.num_edges)):
        out = model(data.x, data.edge_index)
    alone = GATConv(12, 4).eval()
    alone.load_state_dict(model.state_dict())
    assert not torch.allclose(out, alone(data.x, data.edge_index[:, :0]), atol=1e-3)


@pytest.mark.parametrize("name", ["gat", "sage", "gin"])
def test_the_model_is_left_as_it_was_found_even_after_an_error(name):
    data = graph(20)
    model = build(name, data).eval()
    expected = model(data.x, data.edge_index)
    parameters = [key for key, _ in model.named_parameters()]
    gate = torch.full((data.num_edges,), 0.5, requires_grad=True)
    wrong_size = data.x[:, :3]
    with pytest.raises(RuntimeError), message_gate(model, data.edge_index, gate):
        model(wrong_size, data.edge_index)
    assert [key for key, _ in model.named_parameters()] == parameters
    assert torch.equal(model(data.x, data.edge_index), expected)
    small = data.edge_index[:, :10]
    assert model(data.x, small).shape == expected.shape
    copy.deepcopy(model)


def test_a_model_that_was_explained_before_still_gets_gradients():
    data = graph(20)
    model = build("sage", data).eval()
    set_masks(model, nn.Parameter(torch.ones(data.num_edges)), data.edge_index)
    clear_masks(model)
    groups = EdgeGroups.from_edge_index(data.edge_index, 20)

    def loss(edge_index, gate):
        with message_gate(model, edge_index, gate):
            return model(data.x, edge_index).square().sum()

    keep = torch.ones(groups.num_groups, dtype=torch.bool)
    gradient = edge_gradient(loss, data.edge_index, groups, keep)
    assert torch.count_nonzero(gradient) > 0
    assert not any("_edge_mask" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize("obstacle", ["opted out", "explained", "decomposed"])
def test_convs_that_cannot_be_gated_are_refused_by_name(obstacle):
    data = graph(20)
    conv = SAGEConv(12, 4, decomposed_layers=2 if obstacle == "decomposed" else 1)
    if obstacle == "opted out":
        conv.explain = False
    gate = torch.ones(data.num_edges)
    if obstacle == "explained":
        set_masks(conv, gate, data.edge_index)
    model = nn.ModuleDict({"conv": conv})
    with (
        pytest.raises(ModelError, match=r"SAGEConv 'conv' must be free for .* at their defaults"),
        message_gate(model, data.edge_index, gate),
    ):
        pass
