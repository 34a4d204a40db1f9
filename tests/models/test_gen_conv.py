"""Softmax aggregation by sparse products against PyG's GENConv, edge by edge."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
from torch_geometric.nn import GENConv
from torch_geometric.utils import to_torch_csr_tensor

from fastglt.models import _gen_conv
from fastglt.models._gen_conv import SoftmaxGENConv

pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks")

NODES, ISOLATED = 40, (3, 7)


def edges(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(NODES, (2, 150), generator=generator)
    for node in ISOLATED:
        edge_index = edge_index[:, edge_index[1] != node]
    return torch.unique(edge_index, dim=1)


def adjacency(edge_index: torch.Tensor) -> torch.Tensor:
    return to_torch_csr_tensor(edge_index.flip(0), size=(NODES, NODES))


def pair(t: float, in_channels: int = 6) -> tuple[GENConv, SoftmaxGENConv]:
    settings = {"t": t, "num_layers": 1, "bias": True}
    reference = GENConv(in_channels, 8, aggr="softmax", learn_t=True, **settings).double()
    conv = SoftmaxGENConv(in_channels, 8, **settings).double()
    conv.load_state_dict(reference.state_dict())
    return reference, conv


def outcome(conv, x, graph, *args) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    out = conv(x, graph, *args)
    weights = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)
    gradients = torch.autograd.grad((weights * out).sum(), [x, *conv.parameters()])
    return [out.detach(), *gradients]


def assert_equal(actual, expected) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-10)


@pytest.fixture
def products(monkeypatch):
    """How many sparse products are computed."""
    count = [0]
    original = _gen_conv._spmm

    def counted(matrix, dense):
        count[0] += 1
        return original(matrix, dense)

    monkeypatch.setattr(_gen_conv, "_spmm", counted)
    return count


@pytest.mark.parametrize("t", [0.1, 1.0, -0.7, 5.0])
@pytest.mark.parametrize("in_channels", [6, 8])
def test_outputs_and_gradients_equal_genconv(t, in_channels, products):
    reference, conv = pair(t, in_channels)
    x = torch.randn(NODES, in_channels, dtype=torch.float64)
    expected = outcome(reference, x, edges())
    assert_equal(outcome(conv, x, edges()), expected)
    assert products[0] == 0
    assert_equal(outcome(conv, x, adjacency(edges())), expected)
    assert products[0] == 4


def test_nodes_without_neighbours_hear_nothing():
    _, conv = pair(1.0)
    x = torch.randn(NODES, 6, dtype=torch.float64)
    alone = conv.mlp(conv.lin_dst(x))
    out = conv(x, adjacency(edges()))
    assert torch.equal(out[list(ISOLATED)], alone[list(ISOLATED)])


def test_gradients_agree_with_finite_differences():
    _, conv = pair(0.8)
    adj_t = adjacency(edges())
    x = torch.randn(NODES, 6, dtype=torch.float64, requires_grad=True)
    t = conv.aggr_module.t
    assert torch.autograd.gradcheck(lambda x, _: conv(x, adj_t), (x, t), fast_mode=True)


def test_a_range_that_could_underflow_is_computed_edge_by_edge(products):
    reference, conv = pair(1.0)
    x = torch.randn(NODES, 6, dtype=torch.float64) * 1000
    actual = outcome(conv, x, adjacency(edges()))
    assert products[0] == 0
    for one, other in zip(actual, outcome(reference, x, edges()), strict=True):
        assert torch.allclose(one, other, rtol=1e-10)


def test_at_the_largest_range_float32_loses_no_more_than_edge_by_edge(products):
    torch.manual_seed(0)
    reference, conv = pair(1.0, 8)
    x = (torch.rand(NODES, 8) * 60).double()
    exact = outcome(reference, x, edges())
    by_edge = outcome(reference.float(), x.float(), edges())
    actual = outcome(conv.float(), x.float(), adjacency(edges()))
    assert products[0] == 4
    for one, other, truth in zip(actual, by_edge, exact, strict=True):
        rounding = 1e-6 * float(truth.abs().max())
        allowed = 10 * float((other - truth).abs().max()) + rounding
        assert float((one - truth).abs().max()) <= allowed


def test_edge_features_are_seen_beside_an_adjacency(products):
    settings = {"num_layers": 1, "edge_dim": 3}
    reference = GENConv(6, 8, aggr="softmax", learn_t=True, **settings).double()
    conv = SoftmaxGENConv(6, 8, **settings).double()
    conv.load_state_dict(reference.state_dict())
    x = torch.randn(NODES, 6, dtype=torch.float64)
    adj_t = adjacency(edges())
    edge_attr = torch.randn(edges().size(1), 3, dtype=torch.float64)  # in the order of adj_t
    rows, columns = adj_t.to_sparse_coo().indices()
    expected = outcome(reference, x, torch.stack([columns, rows]), edge_attr)
    assert_equal(outcome(conv, x, adj_t, edge_attr), expected)
    assert products[0] == 0


def test_the_values_of_the_adjacency_are_not_weights():
    _, conv = pair(1.0)
    x = torch.randn(NODES, 6, dtype=torch.float64)
    weighted = to_torch_csr_tensor(
        edges().flip(0), torch.rand(edges().size(1)), size=(NODES, NODES)
    )
    assert_equal(outcome(conv, x, weighted), outcome(conv, x, adjacency(edges())))


def test_each_adjacency_has_its_own_transpose_for_as_long_as_it_lives():
    _, conv = pair(1.0)
    x = torch.randn(NODES, 6, dtype=torch.float64)
    gc.collect()
    before = len(_gen_conv._NEIGHBORS)
    for seed in range(2):
        reference = outcome(conv, x, edges(seed))
        adj_t = adjacency(edges(seed))
        assert_equal(outcome(conv, x, adj_t), reference)
        assert_equal(outcome(conv, x, adj_t), reference)
        assert len(_gen_conv._NEIGHBORS) <= before + 2
    del adj_t
    gc.collect()
    assert len(_gen_conv._NEIGHBORS) == before


def test_a_copy_is_as_fast(products):
    _, conv = pair(1.0)
    x = torch.randn(NODES, 6, dtype=torch.float64)
    twin = copy.deepcopy(conv)
    assert torch.equal(twin(x, adjacency(edges())), conv(x, adjacency(edges())))
    assert products[0] == 4
