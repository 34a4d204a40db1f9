from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data
from torch_geometric.edge_index import EdgeIndex
from torch_geometric.loader import LinkLoader, NodeLoader
from torch_geometric.nn import GAT, GCN, GIN, GraphSAGE
from torch_geometric.sampler import EdgeSamplerInput, NodeSamplerInput
from torch_geometric.utils import k_hop_subgraph

from fastglt.errors import GraphError, InputError
from fastglt.training.sampling import NeighborSampler, draw_distinct
from helpers import graph, isolate, with_loops


def _directed(num_nodes, edges):
    edge_index = torch.tensor(edges, dtype=torch.long).reshape(-1, 2).t()
    return Data(edge_index=edge_index, num_nodes=num_nodes)


def _star(leaves):
    return _directed(leaves + 1, [(leaf, 0) for leaf in range(1, leaves + 1)])


def _sample(sampler, seeds):
    seeds = torch.as_tensor(seeds, dtype=torch.long)
    return sampler.sample_from_nodes(NodeSamplerInput(torch.arange(len(seeds)), seeds))


@st.composite
def _cases(draw):
    num_nodes = draw(st.integers(1, 12))
    node = st.integers(0, num_nodes - 1)
    data = _directed(num_nodes, draw(st.lists(st.tuples(node, node), max_size=40)))
    fan_outs = draw(st.lists(st.integers(-1, 4), min_size=1, max_size=3))
    seeds = draw(st.lists(node, max_size=8))
    return data, fan_outs, seeds


@settings(max_examples=100, deadline=None)
@given(_cases(), st.booleans())
def test_sampled_graph_is_part_of_the_graph_within_the_fan_outs(case, replace):
    data, fan_outs, seeds = case
    out = _sample(NeighborSampler(data, fan_outs, replace=replace), seeds)

    distinct = list(dict.fromkeys(seeds))
    assert out.node[: len(distinct)].tolist() == distinct
    assert out.node.unique().numel() == out.node.numel()
    assert torch.equal(
        torch.stack([out.node[out.row], out.node[out.col]]), data.edge_index[:, out.edge]
    )
    assert out.num_sampled_nodes[0] == len(distinct)
    assert sum(out.num_sampled_nodes) == out.node.numel()
    assert sum(out.num_sampled_edges) == out.edge.numel()
    assert replace or out.edge.unique().numel() == out.edge.numel()

    in_degree = torch.bincount(data.edge_index[1], minlength=data.num_nodes)
    sampled_degree = torch.bincount(out.col, minlength=out.node.numel())
    hop_of_node = torch.repeat_interleave(torch.tensor(out.num_sampled_nodes))
    for node, hop, degree in zip(
        out.node.tolist(), hop_of_node.tolist(), sampled_degree.tolist(), strict=True
    ):
        fan_out = fan_outs[hop] if hop < len(fan_outs) else 0
        available = int(in_degree[node])
        if fan_out == -1:
            assert degree == available
        elif replace:
            assert degree == (fan_out if available else 0)
        else:
            assert degree == min(fan_out, available)


@settings(max_examples=60, deadline=None)
@given(_cases(), st.integers(0, 2**31 - 1))
def test_of_each_stratum_as_many_are_drawn(case, seed):
    data, fan_outs, seeds = case
    stratum = torch.rand(data.num_edges, generator=torch.Generator().manual_seed(seed)) < 0.3
    out = _sample(NeighborSampler(data, fan_outs, stratum=stratum), seeds)

    assert torch.equal(
        torch.stack([out.node[out.row], out.node[out.col]]), data.edge_index[:, out.edge]
    )
    assert out.edge.unique().numel() == out.edge.numel()
    hop_of_node = torch.repeat_interleave(torch.tensor(out.num_sampled_nodes))
    for place, (node, hop) in enumerate(zip(out.node.tolist(), hop_of_node.tolist(), strict=True)):
        fan_out = fan_outs[hop] if hop < len(fan_outs) else 0
        drawn = stratum[out.edge[out.col == place]]
        for one in (True, False):
            available = int(((data.edge_index[1] == node) & (stratum == one)).sum())
            expected = available if fan_out == -1 else min(fan_out, available)
            assert int((drawn == one).sum()) == expected


@pytest.mark.parametrize("stratum", [torch.ones(3, dtype=torch.bool), torch.ones(2)])
def test_strata_are_those_of_the_edges(stratum):
    data = _directed(3, [(0, 1), (1, 2)])
    with pytest.raises(InputError, match=r"stratum must be bool \[2\]"):
        NeighborSampler(data, [1], stratum=stratum)


@settings(max_examples=100, deadline=None)
@given(_cases())
def test_without_a_limit_the_k_hop_neighbourhood_is_found(case):
    data, fan_outs, seeds = case
    hops = len(fan_outs)
    out = _sample(NeighborSampler(data, [-1] * hops), seeds)
    if seeds:
        nodes, _, _, _ = k_hop_subgraph(seeds, hops, data.edge_index, num_nodes=data.num_nodes)
        assert out.node.sort().values.tolist() == nodes.tolist()
    else:
        assert out.node.numel() == out.edge.numel() == 0


@pytest.mark.parametrize("changed", ["plain", "isolated", "loops"])
@pytest.mark.parametrize("model", [GraphSAGE, GIN, GAT])
def test_outputs_at_the_seeds_are_those_of_the_full_graph(model, changed):
    data = graph()
    if changed == "isolated":
        data = isolate(data, 7)
    elif changed == "loops":
        data = with_loops(data, torch.arange(0, 40, 3))
    torch.manual_seed(0)
    net = model(data.num_features, 8, num_layers=2, out_channels=3).double().eval()
    data.x = data.x.double()
    expected = net(data.x, data.edge_index)
    loader = NodeLoader(data, NeighborSampler(data, [-1, -1]), batch_size=16)
    for batch in loader:
        actual = net(batch.x, batch.edge_index)[: batch.batch_size]
        assert (actual - expected[batch.input_id]).abs().max() <= 1e-10


def test_gcn_needs_one_hop_more_for_the_degrees_of_the_outermost_sources():
    data = graph()
    torch.manual_seed(0)
    net = GCN(data.num_features, 8, num_layers=2, out_channels=3).double().eval()
    data.x = data.x.double()
    expected = net(data.x, data.edge_index)
    differences = []
    for hops in (2, 3):
        batch = next(iter(NodeLoader(data, NeighborSampler(data, [-1] * hops), batch_size=4)))
        actual = net(batch.x, batch.edge_index)[: batch.batch_size]
        differences.append(float((actual - expected[batch.input_id]).abs().max().detach()))
    assert differences[0] > 1e-3
    assert differences[1] <= 1e-10


def test_trimming_layer_by_layer_changes_nothing_at_the_seeds():
    data = graph()
    torch.manual_seed(0)
    net = GraphSAGE(data.num_features, 8, num_layers=2, out_channels=3).double().eval()
    data.x = data.x.double()
    batch = next(iter(NodeLoader(data, NeighborSampler(data, [4, 3]), batch_size=16)))
    trimmed = net(
        batch.x,
        batch.edge_index,
        num_sampled_nodes_per_hop=batch.num_sampled_nodes,
        num_sampled_edges_per_hop=batch.num_sampled_edges,
    )
    whole = net(batch.x, batch.edge_index)
    assert torch.allclose(trimmed[:16], whole[:16], rtol=0, atol=1e-12)


def test_batches_of_a_node_loader_know_where_they_come_from():
    data = graph()
    data.edge_attr = torch.arange(data.num_edges, dtype=torch.float).unsqueeze(1)
    sampler = NeighborSampler(data, [3, 2])
    loader = NodeLoader(data, sampler, data.train_mask, batch_size=5, shuffle=True)
    seen = []
    for batch in loader:
        seeds = batch.n_id[: batch.batch_size]
        assert torch.equal(batch.input_id, seeds)  # a mask's input ids are the nodes themselves
        assert torch.equal(batch.x, data.x[batch.n_id])
        assert torch.equal(batch.y[: batch.batch_size], data.y[seeds])
        assert torch.equal(batch.n_id[batch.edge_index], data.edge_index[:, batch.e_id])
        assert torch.equal(batch.edge_attr[:, 0].long(), batch.e_id)
        seen.append(seeds)
    assert torch.cat(seen).sort().values.tolist() == data.train_mask.nonzero().flatten().tolist()


def test_a_seed_that_comes_twice_is_sampled_once():
    data = graph()
    seeds = torch.tensor([5, 9, 5, 2, 9])
    batch = next(iter(NodeLoader(data, NeighborSampler(data, [2]), seeds, batch_size=5)))
    assert batch.batch_size == 3
    assert batch.n_id[:3].tolist() == [5, 9, 2]
    assert batch.input_id.tolist() == [0, 1, 3]


def test_batches_of_a_link_loader_score_as_the_full_graph():
    data = graph()
    data.x = data.x.double()
    torch.manual_seed(0)
    net = GraphSAGE(data.num_features, 8, num_layers=2, out_channels=4).double().eval()
    z = net(data.x, data.edge_index)
    pairs = torch.randint(data.num_nodes, (2, 20))
    labels = torch.randint(2, (20,)).float()
    sampler = NeighborSampler(data, [-1, -1])
    for batch in LinkLoader(data, sampler, pairs, labels, batch_size=6):
        wanted = pairs[:, batch.input_id]
        assert torch.equal(batch.n_id[batch.edge_label_index], wanted)
        assert torch.equal(batch.edge_label, labels[batch.input_id])
        local = net(batch.x, batch.edge_index)[batch.edge_label_index].prod(dim=0).sum(dim=-1)
        assert (local - z[wanted].prod(dim=0).sum(dim=-1)).abs().max() <= 1e-10


def test_the_same_seed_draws_the_same_and_epochs_differ():
    data = graph(average_degree=12.0)
    first, second = (NeighborSampler(data, [3, 3], seed=4) for _ in range(2))
    epochs = [(_sample(first, range(20)), _sample(second, range(20))) for _ in range(2)]
    for a, b in epochs:
        assert torch.equal(a.node, b.node)
        assert torch.equal(a.edge, b.edge)
    assert not torch.equal(epochs[0][0].edge, epochs[1][0].edge)
    other = _sample(NeighborSampler(data, [3, 3], seed=5), range(20))
    assert not torch.equal(epochs[0][0].edge, other.edge)


def test_a_given_generator_is_drawn_from_and_the_global_state_is_not():
    data = _star(20)
    generator = torch.Generator().manual_seed(3)
    before = torch.get_rng_state()
    given_one = _sample(NeighborSampler(data, [5], seed=generator), [0])
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(generator.get_state(), torch.Generator().manual_seed(3).get_state())
    assert torch.equal(given_one.edge, _sample(NeighborSampler(data, [5], seed=3), [0]).edge)


@pytest.mark.parametrize("replace", [False, True])
def test_every_incoming_edge_is_equally_likely(replace):
    targets, sources = torch.arange(4000), torch.arange(4000, 4008)
    data = Data(edge_index=torch.cartesian_prod(sources, targets).t(), num_nodes=4008)
    out = _sample(NeighborSampler(data, [3], replace=replace), targets)
    share = torch.bincount(data.edge_index[0, out.edge] - 4000) / 4000
    # A binomial count is rarely five standard deviations off.
    assert (share - 3 / 8).abs().max() < 5 * (3 / 8 / 4000) ** 0.5


def test_every_subset_is_equally_likely():
    rounds = 6000
    drawn = draw_distinct(torch.full((rounds,), 4), 2, torch.Generator().manual_seed(0))
    assert bool((drawn[:, 0] < drawn[:, 1]).all())
    counts = torch.bincount(drawn[:, 0] * 4 + drawn[:, 1])
    counts = counts[counts > 0]
    assert counts.numel() == 6
    assert (counts / rounds - 1 / 6).abs().max() < 5 * (1 / 6 / rounds) ** 0.5


def test_no_message_is_sampled_against_its_direction():
    out = _sample(NeighborSampler(_star(4), [-1]), [2])
    assert out.node.tolist() == [2]
    assert out.edge.numel() == 0


@pytest.mark.parametrize("fan_outs", [[], [-2], [1.5], [True], [None]])
def test_impossible_fan_outs_are_refused(fan_outs):
    with pytest.raises(InputError, match="num_neighbors must be whole numbers"):
        NeighborSampler(_star(2), fan_outs)


@pytest.mark.parametrize("seed", [-1, 1.0, True, None])
def test_impossible_seeds_are_refused(seed):
    with pytest.raises(InputError, match="seed must be an integer"):
        NeighborSampler(_star(2), [1], seed=seed)


def test_graphs_without_plain_edges_are_refused():
    with pytest.raises(GraphError, match="edge_index is missing"):
        NeighborSampler(Data(adj_t=torch.eye(3), num_nodes=3), [1])
    with pytest.raises(GraphError, match=r"must be a torch_geometric\.data\.Data"):
        NeighborSampler(_star(2).edge_index, [1])
    with pytest.raises(GraphError, match="edge_index"):
        NeighborSampler(Data(edge_index=torch.tensor([[0], [9]]), num_nodes=3), [1])


def test_worker_processes_are_refused():
    data = graph()
    loader = NodeLoader(data, NeighborSampler(data, [2]), batch_size=50, num_workers=1)
    with pytest.raises(InputError, match="num_workers must be 0"):
        next(iter(loader))


@pytest.mark.parametrize("seed", [-1, 3])
def test_seeds_outside_the_graph_are_refused(seed):
    with pytest.raises(InputError, match=rf"must be in \[0, 3\) \(got {seed}\)"):
        _sample(NeighborSampler(_star(2), [1]), [0, seed])


def test_an_edge_index_object_is_sampled_as_the_plain_tensor_is():
    data = graph()
    wrapped = data.clone()
    wrapped.edge_index = EdgeIndex(data.edge_index, sparse_size=(90, 90))
    expected = NodeLoader(data, NeighborSampler(data, [3, 2]), batch_size=20)
    actual = NodeLoader(wrapped, NeighborSampler(wrapped, [3, 2]), batch_size=20)
    for a, b in zip(actual, expected, strict=True):
        assert torch.equal(a.edge_index, b.edge_index)
        assert torch.equal(a.e_id, b.e_id)


def test_times_and_drawn_negatives_are_refused():
    sampler = NeighborSampler(_star(2), [1])
    node = torch.tensor([0])
    with pytest.raises(InputError, match="no time and no type"):
        sampler.sample_from_nodes(NodeSamplerInput(None, node, time=node))
    with pytest.raises(InputError, match="neg_sampling must be None"):
        sampler.sample_from_edges(EdgeSamplerInput(None, node, node), neg_sampling="binary")
