from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torch_geometric.nn import (
    GCN,
    DeepGCNLayer,
    EdgeConv,
    GCN2Conv,
    GENConv,
    MessagePassing,
    RGCNConv,
    SAGEConv,
)
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.utils import to_torch_csr_tensor

from conv_matrix import CONVS, EDGE_DIM, NUM_NODES, WIDTH, call, cases
from fastglt.cost import count_macs, num_bytes, num_parameters
from fastglt.gating import keep_edges, prunable_weights
from fastglt.masks import WeightMask
from helpers import build, graph, states_equal, tensors_of, with_loops


def _macs(model, data, mask=None):
    return count_macs(model, lambda module: module(data.x, data.edge_index), mask)


def _adjacency(data):
    size = (data.num_nodes, data.num_nodes)
    return to_torch_csr_tensor(data.edge_index.flip(0), data.get("edge_weight"), size=size)


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
    data = graph(30)
    assert _macs(SAGEConv(12, 3), data) == 30 * 2 * 12 * 3 + data.num_edges * 12


# Products and messages of one call on a graph of N nodes, E proper edges and L self-loops, with
# WIDTH = 4 channels in and out: what each conv's formula says, kept apart from its code.
N, W = NUM_NODES, WIDTH
FORMULAS = {
    "gcn": lambda e, loops, a: N * W * W + (e + N) * W,
    "cheb": lambda e, loops, a: 3 * N * W * W + 2 * (e + N) * W,
    "graph-add": lambda e, loops, a: 2 * N * W * W + (e + loops) * W,
    "graph-mean": lambda e, loops, a: 2 * N * W * W + (e + loops) * W,
    "graph-max": lambda e, loops, a: 2 * N * W * W + (e + loops) * W,
    "sage-mean": lambda e, loops, a: 2 * N * W * W + (e + loops) * W,
    "sage-max": lambda e, loops, a: 2 * N * W * W + (e + loops) * W,
    "sage-sum": lambda e, loops, a: 2 * N * W * W + (e + loops) * W,
    "gin": lambda e, loops, a: N * 2 * W * 5 + (e + loops) * W,
    "gine": lambda e, loops, a: N * 2 * W * 5 + (e + loops) * (W + a * W),
    "gat": lambda e, loops, a: N * W * W + (e + N) * (W + a * W),
    "gatv2": lambda e, loops, a: 2 * N * W * W + (e + N) * (W + a * W),
    "transformer": lambda e, loops, a: 4 * N * W * W + (e + loops) * (W + a * W),
    "gen": lambda e, loops, a: 2 * N * W * 2 * W + (e + loops) * (W + a * W),
    # Two towers of half the width each way out; every message is a product of both ends.
    "pna": lambda e, loops, a: (
        N * (2 * 13 * W * W // 2 + W * W)
        + (e + loops) * (2 * (3 if a else 2) * W * W + 2 * W + a * W)
    ),
    "gated": lambda e, loops, a: (
        N * W * W + (3 * (e + loops) * (W + a) * W if a else 3 * N * W * W) + (e + loops) * W
    ),
}


@pytest.mark.parametrize("case", [c for c in cases() if "-directed" in c.id])
def test_macs_of_every_conv_equal_its_formula(case):
    data, conv = case.graph(), case.layer()
    loops = int((data.edge_index[0] == data.edge_index[1]).sum())
    attributes = EDGE_DIM if case.keyword == "edge_attr" else 0
    expected = FORMULAS[case.conv](data.edge_index.size(1) - loops, loops, attributes)
    assert count_macs(conv, lambda module: call(module, data)) == expected


@pytest.mark.parametrize("case", [c for c in cases() if "-undirected-some" in c.id])
def test_products_equal_those_that_torch_counts(case):
    data, net = case.graph(), case.net()
    messages = []
    for conv in net.modules():
        if isinstance(conv, MessagePassing):
            conv.register_message_forward_hook(lambda _, __, out: messages.append(out.numel()))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call(net, data)
    expected = counter.get_total_flops() // 2 + sum(messages)
    assert messages
    assert count_macs(net, lambda module: call(module, data)) == expected


DENSE = {
    "perceptron": (nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1)), (7, 6)),
    "GRU": (nn.GRU(6, 5, 2, bidirectional=True), (3, 7, 6)),
    "LSTM": (nn.LSTM(6, 5), (3, 7, 6)),
    "Conv1d": (nn.Conv1d(6, 4, 3, groups=2), (2, 6, 9)),
    "ConvTranspose1d": (nn.ConvTranspose1d(6, 4, 3, groups=2), (2, 6, 9)),
    "encoder": (nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), (3, 7, 6)),
}


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("inference", [False, True])
def test_dense_models_cost_what_torch_counts(name, inference):
    model, shape = DENSE[name]
    inputs = torch.randn(shape)

    def run(module):
        with torch.inference_mode(inference):
            return module(inputs)

    # With gradients and in double precision no layer takes a fused path, which hides products.
    with FlopCounterMode(display=False) as counter:
        copy.deepcopy(model).double()(inputs.double())
    assert count_macs(model, run) == counter.get_total_flops() // 2 > 0
    assert model.training


# GCNConv treats self-loops of a matrix unlike those of a list of edges.
@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled")
@pytest.mark.parametrize(
    ("name", "loops"),
    [("gcn", "no")]
    + [(n, k) for n in ("graph-add", "sage-mean", "sage-sum", "gin") for k in ("no", "some")],
)
def test_an_adjacency_matrix_costs_what_its_edges_cost(name, loops):
    (case,) = [
        c.values[0] for c in cases(valued=False) if c.id == f"{name}-undirected-{loops}-loops"
    ]
    data, conv = case.graph(), case.layer().float()
    data.x, adjacency = data.x.float(), _adjacency(data)
    expected = _macs(conv, data)
    assert count_macs(conv, lambda module: module(data.x, adjacency)) == expected
    assert torch.allclose(conv(data.x, adjacency), conv(data.x, data.edge_index), atol=1e-5)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled")
def test_sparse_products_are_counted_by_their_entries_and_sparse_features_as_dense():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(12, 3)

        def forward(self, x, adjacency):
            return torch.sparse.mm(adjacency, adjacency @ self.lin(x))

    data = graph(30)
    adjacency = _adjacency(data)
    expected = 30 * 12 * 3 + 2 * data.num_edges * 3
    for x in (data.x, data.x.to_sparse_csr()):
        assert count_macs(Net(), lambda module, x=x: module(x, adjacency)) == expected


def test_edge_networks_are_counted_for_each_edge():
    data = graph(30)
    assert _macs(EdgeConv(nn.Linear(24, 3)), data) == data.num_edges * (24 * 3 + 3)


def test_matrices_that_a_conv_holds_itself_are_counted_and_scaled_by_their_masks():
    data = graph(30, num_features=4)
    conv = GCN2Conv(4, 0.1, shared_weights=False)

    def run(module):
        return module(data.x, data.x, data.edge_index)

    messages = (data.num_edges + 30) * 4
    assert count_macs(conv, run) == 2 * 30 * 16 + messages
    mask = WeightMask.full(prunable_weights(conv))
    mask["weight1"].zero_()[0, :3] = True
    assert count_macs(conv, run, mask) == 30 * 16 + 30 * 3 + messages


def test_relations_cost_a_product_each():
    data, conv = graph(30), RGCNConv(12, 3, num_relations=2)
    mask = WeightMask.full(prunable_weights(conv))
    mask["weight"].zero_()[1, 2, 1] = True
    kinds = torch.zeros(data.num_edges, dtype=torch.long)

    def run(module):
        return module(data.x, data.edge_index, kinds)

    assert count_macs(conv, run) - count_macs(conv, run, mask) == 30 * (2 * 36 - 1)


def test_a_mask_counts_where_its_part_of_a_stack_is_used():
    class Stack(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 4, 3))

        def forward(self, x, which):
            return nn.functional.linear(x, self.weight[which].t())

    mask = torch.zeros(2, 4, 3, dtype=torch.bool)
    mask[1, :, 2] = True
    for which, kept in ((0, 0), (1, 4)):
        found = count_macs(Stack(), lambda m, w=which: m(torch.ones(7, 4), w), {"weight": mask})
        assert found == 7 * kept


def test_tied_weights_cost_every_time_they_are_used():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    mask = torch.ones(4, 4, dtype=torch.bool)
    mask[0] = False
    assert count_macs(model, lambda m: m(torch.ones(7, 4))) == 7 * 32
    assert count_macs(model, lambda m: m(torch.ones(7, 4)), {"0.weight": mask}) == 7 * 24


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


def test_checkpointed_layers_are_counted_once():
    conv = GENConv(12, 12, norm="layer")
    plain = DeepGCNLayer(conv, nn.LayerNorm(12), ckpt_grad=False)
    checkpointed = DeepGCNLayer(conv, nn.LayerNorm(12), ckpt_grad=True)
    data = graph(30)
    assert _macs(checkpointed, data) == _macs(plain, data) > 0


def _switches():
    backends = torch.backends
    return backends.mha.get_fastpath_enabled(), backends.mkldnn.enabled, backends.cudnn.enabled


@pytest.mark.parametrize("name", ["gcn", "sage", "gin", "gat", "weighted", "plain"])
def test_counting_changes_neither_model_nor_graph(name):
    data = graph(30)
    model = build(name, data).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    graph_before, switches = tensors_of(data), _switches()
    first = _macs(model, data)
    assert first > 0
    assert _macs(model, data) == first
    assert model.training
    assert states_equal(before, model.state_dict())
    assert states_equal(graph_before, tensors_of(data))
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(getattr(module, "_message_forward_hooks", {}) for module in model.modules())
    assert _switches() == switches


def test_a_bare_linear_model_is_counted():
    class Bare(Linear):
        def forward(self, x, edge_index):
            return super().forward(x)

    data = graph(30)
    model = Bare(12, 3)
    keep = torch.ones(3, 12, dtype=torch.bool)
    keep[0] = False
    assert _macs(model, data, {"weight": keep}) == 30 * 24


def test_every_conv_has_a_formula():
    assert FORMULAS.keys() == CONVS.keys()


def test_bytes_of_a_dense_model_are_those_of_its_parameters():
    assert num_bytes(nn.Linear(4, 3)) == 15 * 4
    assert num_bytes(nn.Linear(4, 3).double()) == 15 * 8


@pytest.mark.parametrize("kept", [0, 3, 40, 149, 150, 300])
def test_a_masked_matrix_takes_the_smaller_of_its_two_forms(kept):
    model = nn.Linear(30, 10, bias=False)
    keep = torch.zeros(300, dtype=torch.bool)
    keep[torch.randperm(300)[:kept]] = True
    keep = keep.view(10, 30)
    csr = (model.weight.detach() * keep).to_sparse_csr()
    assert csr.values().numel() == kept
    indices = csr.col_indices().numel() + csr.crow_indices().numel()
    assert num_bytes(model, {"weight": keep}) == min(300 * 4, kept * 4 + indices * 4)


def test_bytes_of_what_has_no_mask_count_in_full():
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    keep = torch.zeros(8, 8, dtype=torch.bool)
    rest = 8 * 4 + 16 * 4
    assert num_bytes(model, {"0.weight": keep}) == 9 * 4 + rest
    assert num_bytes(model) == 64 * 4 + rest
