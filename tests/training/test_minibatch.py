"""Parts of a graph: which they are, what a model gives on them, and what is made of them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import Linear
from torch_geometric.data import Data
from torch_geometric.loader import NodeLoader, RandomNodeLoader
from torch_geometric.nn import GCN, ClusterGCNConv, GATConv, GINConv, GraphConv, SAGEConv
from torch_geometric.utils import coalesce

from fastglt.api.sampled import in_parts
from fastglt.errors import InputError, ModelError
from fastglt.settings import Settings
from fastglt.training.inputs import with_edge_places, with_sparse_inputs
from fastglt.training.known_graph import kept_view
from fastglt.training.minibatch import MiniBatch
from fastglt.training.parts import ClusterParts, Sampling, dealt, share_of
from fastglt.training.ranks import Ranks
from fastglt.training.sampling import NeighborSampler
from fastglt.training.task import EDGE_PLACE
from fastglt.training.tasks import LinkPrediction, NodeClassification
from fastglt.training.teacher import Objective, Teacher
from helpers import build, graph, with_edges, with_loops
from training.test_link_prediction import _links


def _task(data, fanout=(-1, -1), batch_size=20, weighted=True, guided=False, task=None, seed=0):
    sampling = Sampling("neighbor", fanout, batch_size)
    return MiniBatch(task or NodeClassification(), sampling, weighted, seed, guided)


class One(nn.Module):
    """A conv alone, linear in its messages."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x, edge_index, **weight):
        return self.conv(x, edge_index, **weight)


def _epoch(task, data, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [task.batch(data, generator) for _ in range(task.num_batches(data))]


@pytest.mark.parametrize("count", [1, 3, 7])
def test_seeds_are_dealt_once_and_evenly(count):
    strata = [torch.arange(10), torch.arange(10, 35)]
    parts = dealt(strata, count, seed=1)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(35))
    for stratum in strata:
        sizes = [int(torch.isin(part, stratum).sum()) for part in parts]
        assert max(sizes) - min(sizes) <= 1
    assert all(torch.equal(part, part.sort().values) for part in parts)


@pytest.mark.parametrize("guided", [False, True])
def test_an_epoch_has_every_seed_once(guided):
    data = graph()
    parts = _epoch(_task(data, (2, 2), guided=guided), data)
    seeds = torch.cat([part.n_id[: part.batch_size] for part in parts])
    wanted = torch.arange(90) if guided else data.train_mask.nonzero().view(-1)
    assert torch.equal(seeds.sort().values, wanted)
    labelled = torch.cat([part.n_id[part.train_mask] for part in parts])
    assert torch.equal(labelled.sort().values, data.train_mask.nonzero().view(-1))


def test_parts_are_parts_of_the_graph():
    data = with_edge_places(graph())
    data.edge_attr = torch.arange(data.num_edges).float()
    for part in _epoch(_task(data, (2, 2), weighted=False), data):
        assert torch.equal(part.n_id[part.edge_index], data.edge_index[:, part.e_id])
        assert torch.equal(part.x, data.x[part.n_id])
        assert torch.equal(part.y, data.y[part.n_id])
        assert torch.equal(part.edge_attr, part.e_id.float())
        assert torch.equal(part[EDGE_PLACE], part.e_id)


def test_epochs_differ_and_follow_from_the_seed():
    data = graph()

    def two(seed):
        task = _task(data, (2, 2), seed=seed)
        generator = torch.Generator()
        return [task.batch(data, generator).n_id for _ in range(2 * task.num_batches(data))]

    first, again, other = two(0), two(0), two(1)
    assert all(map(torch.equal, first, again))
    assert not all(
        a.shape == b.shape and torch.equal(a, b) for a, b in zip(first, other, strict=True)
    )
    half = len(first) // 2
    assert not all(
        a.shape == b.shape and torch.equal(a, b)
        for a, b in zip(first[:half], first[half:], strict=True)
    )


def test_a_state_dict_goes_on_in_the_middle_of_an_epoch():
    data = graph()
    task, generator = _task(data, (2, 2), batch_size=7), torch.Generator()
    task.batch(data, generator)
    state = task.state_dict()
    expected = [task.batch(data, generator).e_id for _ in range(8)]
    other = _task(data, (2, 2), batch_size=7)
    other.load_state_dict(state)
    found = [other.batch(data, torch.Generator() if i == 0 else generator).e_id for i in range(1)]
    assert torch.equal(found[0], expected[0])
    other.load_state_dict(state)
    later = torch.Generator()
    assert all(torch.equal(other.batch(data, later).e_id, each) for each in expected)


@pytest.mark.parametrize("name", ["gcn", "weighted", "sage", "gin", "gat", "plain"])
@pytest.mark.parametrize("sparse", [False, True])
def test_with_all_neighbours_seeds_get_what_the_whole_graph_gives(name, sparse):
    data = graph()
    task = NodeClassification()
    model = build(name, data).eval()
    weighted = task.gates_edge_weight(model)
    given = with_sparse_inputs(model, data, task) if sparse else data
    with torch.no_grad():
        expected = task.encode(model, data)
        for part in _epoch(_task(data, weighted=weighted, guided=True), given):
            found = task.encode(model, part)[: part.batch_size]
            torch.testing.assert_close(
                found, expected[part.n_id[: part.batch_size]], atol=1e-5, rtol=0
            )


@pytest.mark.parametrize("fill", [{"improved": True}, {"add_self_loops": False}, {}])
def test_the_rim_is_normalised_as_the_convs_do_it(fill):
    data = graph()
    loops = torch.arange(0, 90, 2).expand(2, -1)
    if "add_self_loops" not in fill:
        data.edge_index = torch.cat([data.edge_index, loops], dim=1)
    data.edge_attr = torch.ones(data.num_edges, 3)  # which a GCN does not take
    # Without weights PyG's normalisation adds loops of weight 1, improved or not.
    data.edge_weight = torch.ones(data.num_edges, dtype=torch.float64)
    torch.manual_seed(0)
    model = GCN(data.num_features, 8, 2, 3, **fill).double().eval()
    data.x = data.x.double()
    settings = Settings(sampler="neighbor", fanout=(-1, -1), batch_size=20)
    task = in_parts(NodeClassification(), model, data, settings, None)[0].guided()
    with torch.no_grad():
        expected = model(data.x, data.edge_index, data.edge_weight)
        for part in _epoch(task, data):
            seeds = part.n_id[: part.batch_size]
            found = task.encode(model, part)[: part.batch_size]
            torch.testing.assert_close(found, expected[seeds], rtol=0, atol=1e-6)


def test_sampled_sums_are_unbiased():
    """The mean over many draws is the whole sum, for a conv that is linear in its messages."""
    data = graph(average_degree=12.0)
    torch.manual_seed(0)
    model = GraphConv(data.num_features, 4).eval()
    task = _task(data, (3,), batch_size=90, guided=True)
    generator = torch.Generator()
    with torch.no_grad():
        expected = model(data.x, data.edge_index)
        draws = []
        for _ in range(400):
            part = task.batch(data, generator)
            draws.append(model(part.x, part.edge_index, part.edge_weight)[:90])
        mean, spread = torch.stack(draws).mean(0), torch.stack(draws).std(0)
    error = (mean - expected).abs() / (spread / 20 + 1e-6)
    assert float(error.max()) < 5.5


def test_gradients_of_parts_add_up_to_that_of_the_whole_graph():
    data = graph()
    task = _task(data, batch_size=13, guided=True)
    whole = NodeClassification()
    model = build("gcn", data).eval()
    target = torch.randn(90, 3, generator=torch.Generator().manual_seed(0))
    gate = (torch.rand(data.num_edges, generator=torch.Generator().manual_seed(1)) < 0.6).float()

    def slope(chosen):
        objective = Objective(chosen, Teacher(target))
        leaf = gate.clone().requires_grad_()
        loss = chosen.on_scored(
            data, torch.Generator(), leaf,
            lambda part, gates: objective.divergence(chosen.forward(model, part, gates), part)
            * (1 if "n_id" not in part else part.batch_size * task.num_batches(data) / 90),
            everyone=True,
        )  # fmt: skip
        return torch.autograd.grad(loss, leaf)[0]

    torch.testing.assert_close(slope(task), slope(whole), atol=1e-7, rtol=1e-4)


def test_scores_on_few_kept_edges_are_unbiased_and_vary_little():
    data = graph(average_degree=20.0)
    whole = NodeClassification()
    torch.manual_seed(0)
    model = GraphConv(data.num_features, 4).eval()
    keep = torch.rand(data.num_edges, generator=torch.Generator().manual_seed(1)) < 0.15

    def loss(part, gates):
        nodes = part.n_id[:90] if "n_id" in part else torch.arange(90)
        weight = gates if part.get("edge_weight") is None else gates * part.edge_weight
        out = model(part.x, part.edge_index, weight)[:90]
        return (out.square() * (1 + nodes[:, None])).sum() / 90

    def draws(kept):
        task = _task(data, (8,), 90, guided=True)
        if not kept:  # what it would be if all edges were drawn alike
            task._source(data).scored = lambda kept: task._source(data)
        found = []
        for _ in range(200):
            leaf = keep.float().requires_grad_()
            value = task.on_scored(data, torch.Generator(), leaf, loss, everyone=True)
            found.append(torch.autograd.grad(value, leaf)[0])
        return torch.stack(found)

    leaf = keep.float().requires_grad_()
    (expected,) = torch.autograd.grad(
        whole.on_scored(data, torch.Generator(), leaf, loss, everyone=True), leaf
    )
    found, alike = draws(True), draws(False)
    # Nodes with at most four kept edges have exact sums, and of those a gradient without noise.
    few = torch.bincount(data.edge_index[1][keep], minlength=90)[data.edge_index[1]] <= 4
    spread = found.std(0) / 200**0.5 + 1e-4 * expected.abs() + 1e-4
    assert float(((found.mean(0) - expected).abs() / spread)[few].max()) < 6
    assert float(found[:, keep & few].std(0).max()) < 1e-4
    assert float(alike[:, keep & few].std(0).max()) > 0.1
    error, others = ((each - expected).square().mean() for each in (found, alike))
    assert float(error) < 0.75 * float(others)


def _hub(average_degree=10.0):
    """A graph with a node that all others are neighbours of."""
    data, ends = graph(average_degree=average_degree), torch.arange(1, 90)
    spokes = torch.stack([ends, torch.zeros_like(ends)])
    return with_edges(data, coalesce(torch.cat([data.edge_index, spokes, spokes.flip(0)], dim=1)))


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize(
    ("conv", "averages"),
    [
        (lambda: SAGEConv(12, 4, bias=False), True),
        (lambda: GraphConv(12, 4, aggr="mean"), True),
        (lambda: GraphConv(12, 4), False),
        (lambda: GINConv(Linear(12, 4)), False),
    ],
)
def test_sampled_gradients_are_unbiased(conv, averages, share):
    """Also into a node of high degree, and where few edges are kept."""
    data, whole = _hub(), NodeClassification()
    torch.manual_seed(0)
    model = One(conv()).eval()
    settings = Settings(sampler="neighbor", fanout=(8,), batch_size=90)
    task = in_parts(whole, model, data, settings, None)[0].guided()
    assert task._averages is averages
    keep = torch.rand(data.num_edges, generator=torch.Generator().manual_seed(1)) < share

    def slope(chosen):
        def loss(part, gates):
            nodes = part.n_id[:90] if "n_id" in part else torch.arange(90)
            return (chosen.forward(model, part, gates)[:90] * (1 + nodes)[:, None]).sum()

        leaf = keep.float().requires_grad_()
        total = chosen.on_scored(data, torch.Generator(), leaf, loss, everyone=True)
        return torch.autograd.grad(total, leaf)[0]

    draws = torch.stack([slope(task) for _ in range(200)])
    expected = slope(whole)
    spread = draws.std(0) / 200**0.5 + 1e-4 * expected.abs() + 1e-4
    deviation = (draws.mean(0) - expected) / spread
    # Few draws of an edge into the hub, and many edges: by their mean the bias is seen.
    assert float(deviation.abs().mean()) < 1.2
    into_hub = data.edge_index[1] == 0
    ratio = (draws.mean(0) * expected)[into_hub].sum() / expected[into_hub].square().sum()
    assert float(ratio) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("make", [lambda: GATConv(12, 4), lambda: ClusterGCNConv(12, 4)])
def test_sampled_ratios_count_no_edge_many_times(make):
    """Few draws estimate a ratio, such as attention, with a bias, but not with a large one."""
    data, whole = _hub(), NodeClassification()
    data.x = 0.3 * data.x
    torch.manual_seed(0)
    model = One(make()).eval()
    keep = torch.rand(data.num_edges, generator=torch.Generator().manual_seed(1)) < 0.3

    def slope(fanout, count):
        settings = Settings(sampler="neighbor", fanout=(fanout,), batch_size=90)
        task = in_parts(whole, model, data, settings, None)[0].guided()

        def loss(part, gates):
            nodes = part.n_id[:90, None]
            return (task.forward(model, part, gates)[:90] * (1 + nodes)).sum()

        leaf, total = keep.float().requires_grad_(), torch.zeros(data.num_edges)
        for _ in range(count):
            value = task.on_scored(data, torch.Generator(), leaf, loss, everyone=True)
            total += torch.autograd.grad(value, leaf)[0] / count
        return total

    exact, found = slope(-1, 1), slope(12, 120)
    for where in (data.edge_index[1] == 0, data.edge_index[1] > 0):
        ratio = (exact * found)[where].sum() / exact[where].square().sum()
        assert float(ratio) == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("sampler", ["neighbor", "given"])
def test_a_nodes_own_loop_is_in_every_part_once(sampler):
    nodes = torch.arange(0, 90, 2)
    data = with_loops(_hub(), nodes)

    def loader(kept):
        return NodeLoader(kept, NeighborSampler(kept, [3, 3]), batch_size=30)

    sampling = Sampling(sampler, (3, 3), 30, loader=loader if sampler == "given" else None)
    task = MiniBatch(NodeClassification(), sampling, weighted=True, guided=True)
    for scored in (False, True):
        source = task._source(data)
        if scored:
            source = source.scored(torch.arange(data.num_edges) % 3 == 0)
        for number, seeds in enumerate(source.order([torch.arange(90)], 1)):
            cut = source.cut(seeds, number)
            assert torch.equal(cut.nodes[cut.edge_index], data.edge_index[:, cut.edges])
            assert len(cut.edges.unique()) == len(cut.edges)
            is_loop = cut.edge_index[0] == cut.edge_index[1]
            assert bool((cut.inverse_share[is_loop] == 1).all())
            has, computed = cut.nodes[cut.edge_index[0, is_loop]], cut.nodes[~cut.rim]
            assert torch.equal(has.sort().values, computed[computed % 2 == 0].sort().values)


@pytest.mark.parametrize(
    ("sampler", "fanout", "again"),
    [("neighbor", 3, False), ("given", 3, False), ("given", 1, False), ("given", 2, True)],
)
def test_sampled_sums_with_loops_are_unbiased(sampler, fanout, again):
    """Also where a loader draws nothing but a node's own loop."""
    data = with_loops(_hub(), torch.arange(0, 90, 2))
    torch.manual_seed(0)
    model = GraphConv(data.num_features, 4).eval()

    def loader(kept):
        return NodeLoader(kept, NeighborSampler(kept, [fanout], replace=again), batch_size=90)

    given = loader if sampler == "given" else None
    sampling = Sampling(sampler, (fanout,), 90, loader=given)
    task = MiniBatch(NodeClassification(), sampling, weighted=True, guided=True)
    with torch.no_grad():
        expected = model(data.x, data.edge_index)
        draws = []
        for _ in range(400):
            part = task.batch(data, torch.Generator())
            assert torch.equal(part.n_id[:90], torch.arange(90))
            draws.append(model(part.x, part.edge_index, part.edge_weight)[:90])
    mean, spread = torch.stack(draws).mean(0), torch.stack(draws).std(0)
    assert float(((mean - expected).abs() / (spread / 20 + 1e-6)).max()) < 5.5


def test_scoring_leaves_an_epoch_of_a_loader_as_it_is():
    data = graph()

    def loader(kept):
        return NodeLoader(kept, NeighborSampler(kept, [3]), batch_size=9, shuffle=True)

    def seeds(scores):
        task = MiniBatch(NodeClassification(), Sampling("given", loader=loader), weighted=True)
        generator, found = torch.Generator(), []
        for number in range(10):
            part = task.batch(data, generator)
            found.append(part.n_id[: part.batch_size])
            if scores and number == 4:
                gate = torch.ones(data.num_edges, requires_grad=True)
                task.on_scored(data, torch.Generator(), gate, lambda part, gates: gates.sum())
        return torch.cat(found)

    assert torch.equal(seeds(True), seeds(False))


def test_a_pruned_graph_has_parts_of_its_own():
    data = graph()
    task, generator = _task(data, (-1, -1), guided=True), torch.Generator()
    task.batch(data, generator)
    keep = torch.arange(data.num_edges) % 3 > 0
    kept = kept_view(data, keep)
    part = task.batch(kept, generator)
    assert torch.equal(
        part.n_id[part.edge_index[:, : len(part.e_id)]], kept.edge_index[:, part.e_id]
    )


def test_a_part_without_a_label_teaches_nothing():
    data = graph()
    data.train_mask = torch.zeros_like(data.train_mask)
    data.train_mask[3] = True
    task = _task(data, (-1, -1), batch_size=10, guided=True)
    model = build("gcn", data)
    losses = [task.loss(task.forward(model, part), part).item() for part in _epoch(task, data)]
    assert sum(loss > 0 for loss in losses) == 1
    assert all(loss == loss for loss in losses)


def test_clusters_cover_the_graph_once_and_drop_edges_between():
    pytest.importorskip("pymetis")
    data = graph()
    sampling = Sampling("cluster", num_clusters=9, batch_clusters=3)
    task = MiniBatch(NodeClassification(), sampling, weighted=True)
    parts = _epoch(task, data)
    assert torch.equal(torch.cat([part.n_id for part in parts]).sort().values, torch.arange(90))
    source = ClusterParts(data, sampling)
    assert source.num_parts(0) == 3
    count = torch.zeros(data.num_edges)
    for seed in range(300):
        for clusters in source.order([], seed):
            cut = source.cut(clusters, 0)
            count.index_add_(0, cut.edges, cut.inverse_share)
    mean = count / 300
    within = source._cluster[data.edge_index[0]] == source._cluster[data.edge_index[1]]
    assert torch.equal(mean[within], torch.ones(int(within.sum())))
    assert float((mean[~within] - 1).abs().max()) < 0.6
    assert float(mean[~within].mean() - 1) == pytest.approx(0, abs=0.05)


def test_clusters_are_shared_among_ranks_by_chance(monkeypatch):
    monkeypatch.setattr(Ranks, "current", lambda: Ranks(0, 2))
    data, count = graph(), 12
    with pytest.raises(InputError, match="two for each of 2 processes"):
        ClusterParts(data, Sampling("cluster", num_clusters=count, batch_clusters=3))
    parts = ClusterParts(data, Sampling("cluster", num_clusters=count, batch_clusters=6))
    inverse = float(parts.cut(torch.arange(count), 0).inverse_share.max())
    assert inverse == pytest.approx(count * (count - 1) / (4 * 3 * 2))
    pairs = torch.zeros(count, count)
    for seed in range(1500):
        for part in parts.order([], seed):
            for rank in range(2):
                own = share_of(part, rank, 2)
                pairs[own[:, None], own] += 1
    share = pairs[~torch.eye(count, dtype=torch.bool)] / 1500
    # A binomial count of 132 is rarely five standard deviations off.
    assert float((share - 1 / inverse).abs().max()) < 5 * (1 / inverse / 1500) ** 0.5


def test_pairs_do_not_see_the_edges_that_answer_them():
    task = LinkPrediction(batch_size=10)
    data = task.prepare(_links())
    wrapped = _task(data, (-1, -1), task=task, weighted=False)
    part = wrapped.batch(data, torch.Generator().manual_seed(0))
    pairs = part.n_id[task.pairs(part)]
    positive = {tuple(sorted(pair)) for pair in pairs[:, :10].t().tolist()}
    edges = {tuple(sorted(edge)) for edge in part.n_id[part.edge_index].t().tolist()}
    assert not positive & edges
    assert len(positive) == 10
    model = build("gcn", data)
    assert wrapped.forward(model, part).shape == (20,)
    assert wrapped.loss(wrapped.forward(model, part), part).item() > 0


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"n_id": None}, "batches of loader must have n_id"),
        ({"n_id": torch.tensor([0, 99])}, r"n_id of a batch must hold nodes in \[0, 90\)"),
        ({"n_id": torch.tensor([], dtype=torch.int64)}, r"must hold nodes .*\(got none\)"),
        ({"n_id": torch.arange(90.0)}, r"n_id of a batch must be a tensor of int64 \(got torch.fl"),
        ({"n_id": torch.arange(90) // 2}, "n_id of a batch must hold no node twice"),
        ({"edge_index": None}, "batches of loader must have edge_index"),
        ({"edge_index": torch.zeros(3, dtype=torch.int64)}, r"must be \[2, num_edges\]"),
        ({"edge_index": torch.full((2, 3), 90)}, r"edge_index of a batch must hold places in n_id"),
        ({"batch_size": 91}, r"batch_size of a batch must be in \[1, 90\]"),
        ({"batch_size": 0}, "batch_size of a batch must be in"),
        ({"e_id": torch.arange(3)}, r"e_id of a batch must be \[\d+\] \(got \[3\]\)"),
        ({"e_id": "shifted"}, r"e_id of a batch must hold edges in \[0, \d+\)"),
        ({"e_id": "other"}, "was the loader made of another graph"),
        ({"edge_index": torch.zeros(2, 99, dtype=torch.int64)}, "more edges into a node than the"),
    ],
)
def test_batches_of_a_loader_are_checked(broken, message):
    data = graph()
    batch = copy.copy(data)
    batch.n_id, places = torch.arange(90), torch.arange(data.num_edges)
    named = {"shifted": places + 1, "other": places.flip(0)}
    for name, value in broken.items():
        batch[name] = named[value] if isinstance(value, str) else value
    sampling = Sampling("given", loader=lambda _: [batch])
    task = MiniBatch(NodeClassification(), sampling, weighted=True)
    with pytest.raises(InputError, match=message):
        task.batch(data, torch.Generator())


@pytest.mark.parametrize("hops", [[5, 6, 7], torch.tensor([90]), 7, "junk", [], [90, 0]])
@pytest.mark.parametrize("count", [90, torch.tensor(90), None])
def test_numbers_of_hops_that_cannot_be_are_not_used(hops, count):
    data = graph()
    places = torch.arange(data.num_edges)
    batch = Data(edge_index=data.edge_index, n_id=torch.arange(90), e_id=places)
    batch.num_sampled_nodes, batch.batch_size = hops, count
    sampling = Sampling("given", loader=lambda _: [batch])
    part = MiniBatch(NodeClassification(), sampling, weighted=False).batch(data, torch.Generator())
    assert part.batch_size == 90


def test_a_loader_yields_data():
    sampling = Sampling("given", loader=lambda _: [{"n_id": torch.arange(3)}])
    task = MiniBatch(NodeClassification(), sampling, weighted=True)
    with pytest.raises(InputError, match=r"loader must yield PyG's Data \(got dict\)"):
        task.batch(graph(), torch.Generator())


def test_a_loader_of_our_sampler_has_no_workers():
    def loader(kept):
        return NodeLoader(kept, NeighborSampler(kept, [3]), batch_size=9, num_workers=1)

    task = MiniBatch(NodeClassification(), Sampling("given", loader=loader), weighted=True)
    with pytest.raises(InputError, match="num_workers must be 0"):
        task.batch(graph(), torch.Generator())


def test_induced_subgraphs_of_a_loader():
    """PyG's loaders of those cut whatever belongs to nodes and edges."""
    data = graph()

    def loader(kept):
        kept.n_id, kept.e_id = torch.arange(90), torch.arange(kept.num_edges)
        return RandomNodeLoader(kept, num_parts=3, shuffle=True)

    task = MiniBatch(NodeClassification(), Sampling("given", loader=loader), weighted=True)
    parts = _epoch(task, data)
    assert torch.equal(torch.cat([part.n_id for part in parts]).sort().values, torch.arange(90))
    for part in parts:
        assert torch.equal(part.n_id[part.edge_index], data.edge_index[:, part.e_id])


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (lambda _: iter(()), "must return something with a length"),
        (lambda _: [], "must return at least one batch"),
    ],
)
def test_a_loader_has_a_length(loader, message):
    task = MiniBatch(NodeClassification(), Sampling("given", loader=loader), weighted=True)
    with pytest.raises(InputError, match=message):
        task.batch(graph(), torch.Generator())


def test_edges_cannot_be_scored_without_their_places():
    data = graph()
    batch = copy.copy(data)
    batch.n_id = torch.arange(90)
    task = MiniBatch(NodeClassification(), Sampling("given", loader=lambda _: [batch]), True)
    gate = torch.ones(data.num_edges, requires_grad=True)
    with pytest.raises(ModelError, match="batches of loader must have e_id"):
        task.on_scored(data, torch.Generator(), gate, lambda part, gates: gates.sum())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler": "cluster", "batch_size": 3}, "needs sampler='neighbor'"),
        ({"batch_size": 3}, "needs sampler='neighbor'"),
        ({"sampler": "neighbor", "fanout": ()}, "fanout must be numbers"),
        ({"sampler": "neighbor", "fanout": (3, -2)}, "fanout must be numbers"),
        ({"sampler": "neighbor", "teacher_features": 1.0}, "teacher_features must be 0.0"),
        ({"sampler": "neighbor", "recalibrate": True}, "recalibrate must be False"),
    ],
)
def test_settings_that_contradict(settings, message):
    with pytest.raises(ValueError, match=message):
        Settings(**settings)


def test_messages_go_from_source_to_target():
    model = GraphConv(12, 3, flow="target_to_source")
    with pytest.raises(InputError, match=r"sampler must be 'none' for GraphConv '' with flow="):
        in_parts(NodeClassification(), model, graph(), Settings(sampler="neighbor"), None)


def test_sampler_needs_what_it_needs():
    data, model = graph(), build("gcn", graph())
    settings = Settings(sampler="given")
    with pytest.raises(InputError, match="loader= given"):
        in_parts(NodeClassification(), model, data, settings, None)
    links = Settings(sampler="cluster")
    with pytest.raises(InputError, match="sampler must be 'neighbor' for link prediction"):
        in_parts(LinkPrediction(), model, data, links, None)


@pytest.mark.parametrize("name", ["gcn", "sage", "gin", "gat"])
def test_only_what_seeds_depend_on_is_computed(name):
    data = graph()
    whole = NodeClassification()
    model = build(name, data).train()
    given = with_sparse_inputs(model, data, whole)
    task = _task(given, weighted=whole.gates_edge_weight(model), batch_size=5)
    part = task.batch(given, torch.Generator())
    out = task.forward(model.eval(), part)
    assert out.shape == (part.batch_size, 3)
    assert part.y.shape == part.train_mask.shape == (part.batch_size,)
    expected = whole.encode(model, data)[part.n_id[: part.batch_size]]
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)
    model.zero_grad()
    task.loss(out, part).backward()
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    torch.nn.functional.cross_entropy(expected, part.y).backward()
    for gradient, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, atol=1e-5, rtol=1e-3)
