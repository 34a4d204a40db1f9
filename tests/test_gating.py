from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import (
    GAT,
    GCN,
    GIN,
    GATConv,
    GCNConv,
    GINConv,
    GraphConv,
    GraphSAGE,
    Linear,
    SAGEConv,
)

from fastglt.errors import ModelError
from fastglt.gating import (
    WeightGate,
    apply_weight_mask,
    check_model,
    clear_moments,
    edge_gradient,
    keep_edges,
    loops_last,
    message_gate,
    prunable_weights,
    sum_over_groups,
    takes_edge_weight,
)
from fastglt.masks import EdgeGroups, WeightMask, select_top
from helpers import build, graph, isolate, states_equal, tensors_of, with_loops

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.01),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.05, amsgrad=True, fused=False),
    "fused": lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.01, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.5),
}


def _random_mask(model, count_share, seed):
    generator = torch.Generator().manual_seed(seed)
    masks = {}
    for name, weight in prunable_weights(model).items():
        score = torch.rand(weight.shape, generator=generator)
        masks[name] = select_top(score, int(count_share * weight.numel()))
    return WeightMask(masks)


def _assert_pruned_are_zero(model, mask):
    for name, weight in prunable_weights(model).items():
        assert torch.count_nonzero(weight[~mask[name]]) == 0, name


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(OPTIMIZERS)),
    share=st.floats(0, 1),
    events=st.lists(st.sampled_from(["step", "step", "step", "update"]), max_size=14),
    seed=st.integers(0, 1000),
)
def test_pruned_weights_are_exactly_zero_after_any_steps_of_any_optimizer(
    kind, share, events, seed
):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
        inputs, target = torch.randn(8, 6), torch.randn(8, 3)
    optimizer = OPTIMIZERS[kind](model.parameters())
    # Moments from dense training would revive weights that are pruned later.
    for _ in range(2):
        nn.functional.mse_loss(model(inputs), target).backward()
        optimizer.step()
    mask = _random_mask(model, share, seed)
    counts = {name: int(keep.sum()) for name, keep in mask.items()}
    gate = WeightGate(prunable_weights(model), optimizer, mask)
    _assert_pruned_are_zero(model, mask)
    for number, event in enumerate(events):
        if event == "update":
            mask = _random_mask(model, share, seed + number + 1)
            gate.update(mask)
        else:
            optimizer.zero_grad()
            nn.functional.mse_loss(model(inputs), target).backward()
            optimizer.step()
        _assert_pruned_are_zero(model, mask)
        assert {name: int(keep.sum()) for name, keep in gate.mask.items()} == counts
        for name, keep in gate.mask.items():
            assert torch.equal(keep, mask[name])


@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
def test_kept_weights_do_train(kind):
    model = nn.Linear(4, 3)
    optimizer = OPTIMIZERS[kind](model.parameters())
    mask = _random_mask(model, 0.5, 0)
    WeightGate(prunable_weights(model), optimizer, mask)
    before = model.weight.detach().clone()
    model(torch.ones(2, 4)).square().sum().backward()
    optimizer.step()
    assert (model.weight != before)[mask["weight"]].all()


@pytest.mark.parametrize("kind", ["sgd", "adam", "amsgrad", "adamw"])
def test_an_update_clears_moments_of_changed_entries_only(kind):
    model = nn.Linear(2, 2, bias=False)
    optimizer = OPTIMIZERS[kind](model.parameters())
    old = torch.tensor([[True, True], [False, True]])
    gate = WeightGate({"weight": model.weight}, optimizer, WeightMask({"weight": old}))
    for _ in range(3):
        optimizer.zero_grad()
        (model(torch.ones(1, 2)) - 3).square().sum().backward()
        optimizer.step()
    before = copy.deepcopy(optimizer.state[model.weight])
    weight_before = model.weight.detach().clone()
    new = torch.tensor([[False, True], [True, True]])
    gate.update(WeightMask({"weight": new}))
    changed = old ^ new
    state = optimizer.state[model.weight]
    per_entry = [key for key, value in state.items() if getattr(value, "shape", ()) == (2, 2)]
    assert per_entry
    for key in per_entry:
        assert torch.count_nonzero(state[key][changed]) == 0
        assert torch.equal(state[key][~changed], before[key][~changed])
        assert torch.count_nonzero(before[key][changed]) > 0
    assert torch.count_nonzero(model.weight[changed]) == 0
    assert torch.equal(model.weight[~changed], weight_before[~changed])


def test_clear_moments_leaves_other_parameters_and_step_counts_alone():
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    clear_moments(optimizer, model.weight, torch.ones(2, 2, dtype=torch.bool))
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    clear_moments(optimizer, model.weight, torch.ones(2, 2, dtype=torch.bool))
    assert float(optimizer.state[model.weight]["step"]) == 1
    assert torch.count_nonzero(optimizer.state[model.bias]["exp_avg"]) == 2


def test_a_removed_gate_lets_weights_grow_again():
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    mask = _random_mask(model, 0.0, 0)
    gate = WeightGate(prunable_weights(model), optimizer, mask)
    gate.remove()
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert torch.count_nonzero(model.weight) == 6


def test_masking_a_state_copies_it():
    state = {"w": torch.tensor([1.0, -2.0, 3.0]), "b": torch.tensor([4.0])}
    masked = apply_weight_mask(state, {"w": torch.tensor([True, False, True])})
    assert masked["w"].tolist() == [1.0, 0.0, 3.0]
    assert masked["b"].tolist() == [4.0]
    masked["w"].zero_()
    masked["b"].zero_()
    assert state["w"].tolist() == [1.0, -2.0, 3.0]
    assert state["b"].tolist() == [4.0]


def test_masking_a_state_gives_positive_zeros_even_of_infinities():
    masked = apply_weight_mask(
        {"w": torch.tensor([-1.0, math.inf])}, {"w": torch.tensor([False, False])}
    )
    assert masked["w"].tolist() == [0.0, 0.0]
    assert not torch.signbit(masked["w"]).any()


class _Forgetful(nn.Module):
    """Takes an edge weight, but one of its convs cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.first = GCNConv(4, 4)
        self.second = GATConv(4, 4)

    def forward(self, x, edge_index, edge_weight=None):
        return self.second(self.first(x, edge_index, edge_weight), edge_index)


class _Deaf(nn.Module):
    """Its conv takes an edge weight, but it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = GCNConv(4, 4)

    def forward(self, x, edge_index):
        return self.conv(x, edge_index)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (GCN(4, 4, 2), True),
        (GAT(4, 4, 2), False),
        (GraphSAGE(4, 4, 2), False),
        (GIN(4, 4, 2), False),
        (GraphConv(4, 4), True),
        (build("weighted", graph()), True),
        (build("plain", graph()), False),
        (_Forgetful(), False),
        (_Deaf(), False),
        (nn.Linear(4, 4), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_which_models_take_edge_weights(model, expected):
    assert takes_edge_weight(model) is expected


@pytest.mark.parametrize("cached", [True, False])
def test_cached_convs_are_refused_by_name(cached):
    model = nn.Module()
    model.conv = GCNConv(4, 4, cached=cached)
    if not cached:
        check_model(model)
        return
    with pytest.raises(ModelError, match=r"GCNConv 'conv' has cached=True.*cached=False"):
        check_model(model)
    with pytest.raises(ModelError, match="cached=True"):
        check_model(GCN(4, 4, 2, cached=True))


def test_uninitialised_parameters_are_refused_by_name():
    with pytest.raises(ModelError, match=r"'convs.0.lin.weight' is not initialised; run the"):
        check_model(GCN(-1, 4, 2))


def test_a_model_without_linear_maps_is_refused():
    with pytest.raises(ModelError, match=r"no prunable weights.*got BatchNorm1d"):
        check_model(nn.BatchNorm1d(4))


def test_biases_norms_attention_and_embeddings_are_not_prunable():
    model = nn.ModuleDict(
        {
            "gat": GATConv(4, 4),
            "norm": nn.LayerNorm(4),
            "table": nn.Embedding(5, 4),
            "torch": nn.Linear(4, 4),
            "pyg": Linear(4, 4),
        }
    )
    assert set(prunable_weights(model)) == {"gat.lin.weight", "torch.weight", "pyg.weight"}
    assert set(prunable_weights(nn.Linear(2, 2))) == {"weight"}


def test_a_shared_matrix_is_pruned_once():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    assert set(prunable_weights(model)) == {"0.weight"}


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
