"""Finding a ticket's edges in a graph that has changed: counts, rules, and a slow oracle."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ticket_samples import EDGES, KEEP, NUM_NODES, make_data, make_model, make_ticket
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv

from fastglt.errors import BudgetError, GraphError, InputError, TicketMismatchError
from fastglt.masks import EdgeGroups
from fastglt.ticket import Ticket, degree_rule
from fastglt.ticket.edge_match import find_edges
from fastglt.ticket.edge_rule import PROPERTIES, kept_by_rule, num_neighbours, ranked_rule

Edges = list[tuple[int, int]]
EDGE_LISTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=25)


def tensor(edges: Edges) -> Tensor:
    return torch.tensor(edges, dtype=torch.long).reshape(-1, 2).t().contiguous()


def sample_ticket(**changes: Any) -> Ticket:
    return make_ticket(edge_list=torch.tensor(EDGES), **changes)


def graph_of(edges: Edges, num_nodes: int = NUM_NODES) -> Data:
    return Data(edge_index=tensor(edges), num_nodes=num_nodes)


SEARCHED: Edges = list(zip(*EDGES, strict=True))


@settings(deadline=None)
@given(EDGE_LISTS, EDGE_LISTS)
def test_edges_are_found_as_a_dictionary_of_queues_finds_them(old: Edges, new: Edges) -> None:
    queues: dict[tuple[int, int], list[int]] = defaultdict(list)
    for position, edge in enumerate(old):
        queues[edge].append(position)
    expected = [queues[edge].pop(0) if queues[edge] else -1 for edge in new]
    assert find_edges(tensor(old), tensor(new)).tolist() == expected


def test_node_ids_may_be_as_large_as_they_like() -> None:
    far = 2**62
    old = torch.tensor([[far, 0, far - 1], [1, far, far]])
    assert find_edges(old, old.flip(1)).tolist() == [2, 1, 0]


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(len(KEEP))))
def test_the_same_edges_in_another_order_are_kept_alike(order: list[int]) -> None:
    data = graph_of([SEARCHED[i] for i in order])
    match = sample_ticket().match(data)
    assert match.origin.tolist() == order
    assert match.keep.tolist() == [KEEP[i] for i in order]
    assert (match.num_new_kept, match.num_new_dropped, match.num_gone) == (0, 0, 0)


def test_an_unchanged_graph_gives_the_same_by_either_way() -> None:
    ticket, data = sample_ticket(), make_data()
    _, by_edges = ticket.apply(make_model(), data)
    _, by_node = ticket.apply(make_model(), data, match="node_id")
    assert by_edges.to_dict().keys() == by_node.to_dict().keys()
    assert torch.equal(by_edges.edge_index, by_node.edge_index)
    assert torch.equal(by_edges.edge_weight, by_node.edge_weight)


def test_every_count_of_a_changed_graph() -> None:
    gone, new = SEARCHED[:3], [(5, 0), (0, 5), (6, 6), (6, 1)]
    data = graph_of(SEARCHED[3:] + new, num_nodes=7)
    match = sample_ticket(edge_rule={"name": "degree", "threshold": 1.0}).match(data)
    # Of the new edges only the self-loop stays: no pair has two ends of degree 1.
    assert (match.num_kept, match.num_pruned) == (sum(KEEP[3:]), KEEP[3:].count(False))
    assert (match.num_new_kept, match.num_new_dropped, match.num_gone) == (1, 3, len(gone))
    assert match.keep.tolist() == [*KEEP[3:], False, False, True, False]
    assert repr(match) == (
        "EdgeMatch(num_kept=3, num_pruned=3, num_new_kept=1, num_new_dropped=3, num_gone=3)"
    )


def test_apply_to_a_changed_graph_keeps_what_match_says(caplog: pytest.LogCaptureFixture) -> None:
    ticket = sample_ticket()
    data = make_data()
    data.x = torch.ones(8, 4)
    data.edge_index = torch.cat([data.edge_index.flip(1), torch.tensor([[6, 0], [0, 7]])], dim=1)
    data.edge_weight = torch.arange(11.0)
    match = ticket.match(data)
    with caplog.at_level(logging.INFO, logger="fastglt"):
        model, kept = ticket.apply(make_model(), data, match="node_id")
    assert repr(match) in caplog.text
    assert torch.equal(kept.edge_index, data.edge_index[:, match.keep])
    assert torch.equal(kept.edge_weight, data.edge_weight[match.keep])
    assert model(kept.x, kept.edge_index).shape == (8, 3)
    assert data.num_edges == 11


def test_a_self_loop_that_the_ticket_prunes_stays_pruned_and_new_ones_stay() -> None:
    ticket = sample_ticket(
        edge_keep=torch.tensor([True] * 8 + [False]), edge_rule={"name": "degree", "threshold": 1.0}
    )
    match = ticket.match(graph_of([*SEARCHED, (3, 3)]))
    assert match.keep.tolist() == [True] * 8 + [False, True]


def test_duplicates_are_told_apart_by_their_order() -> None:
    edges = [(0, 1), (0, 1), (2, 3)]
    ticket = Ticket.from_masks(
        make_model(), graph_of(edges), edge_keep=torch.tensor([False, True, True])
    )
    match = ticket.match(graph_of([(2, 3), (0, 1), (0, 1), (0, 1)]))
    assert match.origin.tolist() == [2, 0, 1, -1]
    assert match.keep.tolist() == [True, False, True, True]


@settings(deadline=None)
@given(EDGE_LISTS, st.floats(0, 1))
def test_the_degree_rule_agrees_with_counting_neighbours(edges: Edges, threshold: float) -> None:
    neighbours: dict[int, set[int]] = defaultdict(set)
    for u, v in edges:
        if u != v:
            neighbours[u].add(v)
            neighbours[v].add(u)
    keep = _kept({"name": "degree", "threshold": threshold}, tensor(edges), 6).tolist()
    degrees = num_neighbours(tensor(edges), 6).tolist()
    assert degrees == [len(neighbours[node]) for node in range(6)]
    for (u, v), kept in zip(edges, keep, strict=True):
        assert kept == (u == v or 1 / (degrees[u] * degrees[v]) ** 0.5 >= threshold)
    by_edge = dict(zip(edges, keep, strict=True))
    assert all(by_edge[edge] == by_edge.get(edge[::-1], by_edge[edge]) for edge in edges)


@settings(deadline=None)
@given(EDGE_LISTS, st.sampled_from([0.0, 0.1, 0.29, 0.5, 0.9]), st.booleans())
def test_the_helper_removes_the_share_but_for_ties(
    edges: Edges, sparsity: float, both: bool
) -> None:
    edge_index = tensor(edges + [(v, u) for u, v in edges] if both else edges)
    ends = EdgeGroups.from_edge_index(edge_index, 6).ends
    rule = degree_rule(edge_index, 6, sparsity)
    degree = num_neighbours(edge_index, 6)
    product = (degree[ends[0]] * degree[ends[1]]).tolist()
    removed = round(sparsity * 100) * len(product) // 100  # in whole numbers
    kept = _kept(rule, edge_index, 6)
    dropped = {
        p for p, k in zip(_products(edge_index, degree), kept.tolist(), strict=True) if not k
    }
    if removed == 0:
        assert rule == {"name": "degree", "threshold": 0.0}
        assert bool(kept.all())
        return
    # The first product that is kept is that of the group after the removed ones.
    first_kept = sorted(product, reverse=True)[removed]
    assert dropped == {p for p in product if p > first_kept}


def _kept(rule, edge_index: Tensor, num_nodes: int, x: Tensor | None = None) -> Tensor:
    """What a rule makes of a graph of new edges."""
    new = torch.ones(edge_index.size(1), dtype=torch.bool)
    return kept_by_rule(rule, Data(x=x, edge_index=edge_index, num_nodes=num_nodes), new)


@settings(deadline=None)
@given(
    EDGE_LISTS,
    st.sampled_from([0.0, 0.1, 0.29, 0.5, 0.9]),
    st.sampled_from(PROPERTIES),
    st.lists(st.booleans(), min_size=60, max_size=60),
)
def test_a_ranked_rule_removes_exactly_its_share_of_the_new_pairs(
    edges: Edges, sparsity: float, name: str, is_new: list[bool]
) -> None:
    edge_index = tensor(edges)
    new = torch.tensor(is_new)[: len(edges)]
    x = torch.arange(12.0).view(6, 2).cos()
    graph = Data(x=x, edge_index=edge_index, num_nodes=6)
    keep = kept_by_rule(ranked_rule(sparsity, **{name: 1.0}), graph, new).tolist()
    pairs: dict[frozenset[int], set[bool]] = defaultdict(set)
    for (u, v), kept, fresh in zip(edges, keep, new.tolist(), strict=True):
        if u == v or not fresh:
            assert kept
        else:
            pairs[frozenset((u, v))].add(kept)
    assert all(len(fates) == 1 for fates in pairs.values())
    removed = sum(fates == {False} for fates in pairs.values())
    assert removed == round(sparsity * 100) * len(pairs) // 100


def test_what_ranks_higher_by_degree_and_features_is_kept() -> None:
    edges = [(0, 1), (0, 2), (0, 3), (4, 5)]
    x = torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [1, 1], [1, 0], [-1, 0]])
    edge_index = tensor(edges)
    assert _kept(ranked_rule(0.75, degree=1.0), edge_index, 6).tolist() == [0, 0, 0, 1]
    assert _kept(ranked_rule(0.75, degree=-1.0), edge_index, 6).sum() == 1
    by_similarity = _kept(ranked_rule(0.75, similarity=1.0), edge_index, 6, x).tolist()
    assert by_similarity == [1, 0, 0, 0]
    unlike = _kept(ranked_rule(0.5, similarity=-1.0), edge_index, 6, x.to_sparse_csr()).tolist()
    assert unlike == [0, 1, 0, 1]
    assert _kept(ranked_rule(0.75, degree=1.0, similarity=4.0), edge_index, 6, x)[0]


def test_ranks_by_noise_are_those_of_the_pair_wherever_it_stands() -> None:
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(5000, (2, 4000), generator=generator)
    rule = ranked_rule(0.5, noise=1.0)
    keep = _kept(rule, edge_index, 5000)
    shuffled = torch.randperm(4000, generator=generator)
    flipped = edge_index.flip(0)[:, shuffled]
    assert torch.equal(_kept(rule, flipped, 5000), keep[shuffled])
    low = edge_index.sum(dim=0) < 5000
    assert 0.45 < float(keep[low].float().mean()) < 0.55
    assert 0.45 < float(keep[edge_index[0] % 2 == 0].float().mean()) < 0.55


def test_a_rule_by_features_needs_features() -> None:
    with pytest.raises(GraphError, match=r"must have data\.x"):
        _kept(ranked_rule(0.5, similarity=1.0), tensor([(0, 1), (1, 2)]), 3)


@pytest.mark.parametrize(
    ("sparsity", "weights"),
    [(1.0, {"degree": 1.0}), (-0.1, {}), (0.5, {"beauty": 1.0}), (0.5, {"noise": float("nan")})],
)
def test_ranked_rules_that_mean_nothing_are_refused(sparsity, weights) -> None:
    with pytest.raises(InputError, match='"name": "ranked"'):
        ranked_rule(sparsity, **weights)


def test_a_ranked_rule_survives_the_file_and_decides_on_new_edges(tmp_path) -> None:
    ticket = sample_ticket(edge_rule=ranked_rule(0.5, noise=1.0, degree=-0.25))
    ticket.save(tmp_path / "t.safetensors")
    assert Ticket.load(tmp_path / "t.safetensors").edge_rule == ticket.edge_rule


def _products(edge_index: Tensor, degree: Tensor) -> list[int]:
    product = degree[edge_index[0]] * degree[edge_index[1]]
    product[edge_index[0] == edge_index[1]] = 0
    return product.tolist()


def test_int32_edges_of_a_large_graph_have_the_rule_of_int64_edges() -> None:
    num_nodes = 50_000  # its square does not fit into int32
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(num_nodes, (2, 2000), generator=generator)
    edge_index[0, :1000] = num_nodes - 1
    rule = degree_rule(edge_index, num_nodes, 0.6)
    assert degree_rule(edge_index.int(), num_nodes, 0.6) == rule
    kept = _kept(rule, edge_index, num_nodes)
    assert torch.equal(_kept(rule, edge_index.int(), num_nodes), kept)
    assert not bool(kept.all())


def test_edges_between_hubs_go_first() -> None:
    star = [(0, i) for i in range(2, 6)] + [(1, i) for i in range(2, 4)] + [(0, 1)]
    rule = degree_rule(tensor(star), 6, 0.15)
    keep = _kept(rule, tensor(star), 6).tolist()
    assert Counter(keep) == {True: 6, False: 1}
    assert keep[-1] is False


@pytest.mark.parametrize("sparsity", [1.0, -0.1, float("nan")])
def test_a_share_that_is_none_is_refused(sparsity: float) -> None:
    with pytest.raises(BudgetError, match=r"must be in \[0, 1\)"):
        degree_rule(torch.tensor(EDGES), NUM_NODES, sparsity)


@pytest.mark.parametrize(
    "rule",
    [
        None,
        "keep",
        {},
        {"name": "drop"},
        {"name": "keep", "threshold": 0.5},
        {"name": "degree"},
        {"name": "degree", "threshold": "0.5"},
        {"name": "degree", "threshold": True},
        {"name": "degree", "threshold": float("nan")},
        {"name": "degree", "threshold": float("inf")},
        {"name": "degree", "threshold": -0.5},
        {"name": "degree", "threshold": 1.5},
    ],
)
def test_bad_rules_are_refused(rule: Any) -> None:
    with pytest.raises(InputError, match=r'edge_rule must be \{"name": "keep"\}, \{"name"'):
        make_ticket(edge_rule=rule)


def test_the_caller_may_change_its_rule_afterwards() -> None:
    rule = {"name": "degree", "threshold": 1}
    ticket = sample_ticket(edge_rule=rule)
    rule["threshold"] = 0
    assert ticket.edge_rule == {"name": "degree", "threshold": 1.0}


def test_the_edge_list_must_be_that_of_the_fingerprint() -> None:
    with pytest.raises(InputError, match=r"edge_list must be that .*another order"):
        make_ticket(edge_list=torch.tensor(EDGES).flip(1))
    with pytest.raises(GraphError, match="must hold integers"):
        make_ticket(edge_list=torch.tensor(EDGES).float())


def test_node_id_without_an_edge_list_says_why() -> None:
    for use in (
        lambda ticket: ticket.match(make_data()),
        lambda ticket: ticket.apply(make_model(), make_data(), match="node_id"),
        lambda ticket: ticket.transform(match="node_id")(make_data()),
    ):
        with pytest.raises(TicketMismatchError, match="saved with edge_list=False"):
            use(make_ticket())


def test_missing_nodes_are_refused() -> None:
    with pytest.raises(TicketMismatchError, match="has 6 nodes, this one only 5"):
        sample_ticket().match(graph_of(SEARCHED, num_nodes=5))


def test_node_ids_that_no_node_has_are_refused() -> None:
    for edge in ([0, 6], [6, 0], [-1, 0]):
        data = Data(edge_index=torch.tensor([[0, 1], edge]).t(), num_nodes=6)
        with pytest.raises(GraphError, match=r"must be in \[0, 5\] .* at row [01], column 1"):
            sample_ticket().match(data)


def test_edges_of_another_type_than_int64_are_refused() -> None:
    for dtype in (torch.int32, torch.float32):
        data = Data(edge_index=tensor(SEARCHED).to(dtype), num_nodes=6)
        with pytest.raises(GraphError, match=f"must be torch.int64 \\(got {dtype}\\)"):
            sample_ticket().match(data)


def test_another_way_to_match_is_refused() -> None:
    with pytest.raises(InputError, match=r'must be "edges" or "node_id" \(got \'nodes\'\)'):
        sample_ticket().apply(make_model(), make_data(), match="nodes")  # type: ignore[arg-type]


def test_a_graph_without_edges_or_a_ticket_of_one() -> None:
    with pytest.warns(UserWarning, match="9 of the ticket's 9 edges are gone"):
        match = sample_ticket().match(graph_of([]))
    assert (match.keep.tolist(), match.num_gone) == ([], 9)
    empty = Ticket.from_masks(
        make_model(), graph_of([]), edge_rule={"name": "degree", "threshold": 0.0}
    )
    match = empty.match(graph_of(SEARCHED))
    assert (match.num_new_kept, match.num_gone) == (9, 0)


def test_growth_is_not_warned_of_but_the_loss_of_most_edges_is() -> None:
    sample_ticket().match(graph_of(SEARCHED + [(5, i % 5) for i in range(100)]))
    sample_ticket().match(graph_of([*SEARCHED[5:], SEARCHED[0]]))
    with pytest.warns(UserWarning, match="5 of the ticket's 9 edges are gone; check that"):
        sample_ticket().match(graph_of(SEARCHED[5:]))


def test_the_warning_of_lost_edges_names_the_line_of_the_caller() -> None:
    ticket, data = sample_ticket(), make_data()
    data.edge_index = data.edge_index[:, 5:]
    data.edge_weight = data.edge_weight[5:]
    for use in (
        lambda: ticket.match(data),
        lambda: ticket.apply(make_model(), data, match="node_id"),
    ):
        with pytest.warns(UserWarning, match="edges are gone") as caught:
            use()
        assert [warning.filename for warning in caught] == [__file__]


class Embedded(nn.Module):
    """A featureless graph's model: one learned vector a node."""

    def __init__(self, num_nodes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_nodes, 4)
        self.conv = GCNConv(4, 3)

    def forward(self, x: Tensor | None, edge_index: Tensor) -> Tensor:
        assert x is None
        return self.conv(self.embedding.weight, edge_index)


def test_a_model_with_an_embedding_on_a_graph_without_features() -> None:
    model, data = Embedded(NUM_NODES), graph_of(SEARCHED)
    ticket = Ticket.from_masks(model, data, edge_keep=torch.tensor(KEEP))
    assert ticket.graph["feature_digest"] is None
    assert "embedding.weight" in ticket.trained_state
    applied, kept = ticket.apply(Embedded(NUM_NODES), data)
    expected = model(None, data.edge_index[:, torch.tensor(KEEP)])
    assert torch.equal(applied(kept.x, kept.edge_index), expected)
    with pytest.raises(TicketMismatchError, match=r"'embedding\.weight' has shape \[6, 4\]"):
        ticket.apply(Embedded(7), graph_of(SEARCHED, num_nodes=7), match="node_id")
