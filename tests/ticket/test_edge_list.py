"""How the searched graph's edge list is stored in a ticket file."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ticket_samples import EDGES, NUM_NODES, make_data, make_model, make_ticket, same_ticket
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from fastglt.errors import TicketMismatchError
from fastglt.ticket import Ticket
from fastglt.ticket.edge_list import pack_edge_list, smallest_integers, unpack_edge_list

EDGE_LISTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=20)


def tensor(edges: list[tuple[int, int]]) -> torch.Tensor:
    return torch.tensor(edges, dtype=torch.int32).reshape(-1, 2).t().contiguous()


@settings(deadline=None)
@given(EDGE_LISTS, st.sampled_from(["as it is", "undirected", "both ways"]))
def test_any_list_comes_back_as_it_was(edges: list[tuple[int, int]], kind: str) -> None:
    edge_list = tensor(edges)
    if kind == "undirected":
        edge_list = to_undirected(edge_list, num_nodes=5)
    elif kind == "both ways":
        edge_list = torch.cat([edge_list, edge_list.flip(0)], dim=1)
    form, stored = pack_edge_list(edge_list)
    assert torch.equal(unpack_edge_list(form, stored), edge_list)
    if kind == "undirected":
        loops = int((edge_list[0] == edge_list[1]).sum())
        assert (form, stored.size(1)) == ("half", (edge_list.size(1) + loops) // 2)


@pytest.mark.parametrize(
    "edges",
    [
        [(0, 1)],  # one direction only
        [(1, 0), (0, 1)],  # not sorted
        [(0, 1), (0, 1), (1, 0)],  # one direction more often
    ],
)
def test_lists_of_another_kind_are_stored_in_full(edges: list[tuple[int, int]]) -> None:
    form, stored = pack_edge_list(tensor(edges))
    assert form == "full"
    assert torch.equal(stored, tensor(edges))


def test_integers_are_as_small_as_the_number_of_nodes_allows() -> None:
    edges = torch.tensor([[0, 2**31 - 1], [1, 1]])
    small, large = smallest_integers(edges, 2**31), smallest_integers(edges, 2**31 + 1)
    assert (small.dtype, large.dtype) == (torch.int32, torch.int64)
    assert torch.equal(small.long(), edges)


@pytest.fixture
def ring() -> Data:
    nodes = torch.arange(200)
    edges = torch.stack([nodes, (nodes + 1) % 200])
    return Data(edge_index=to_undirected(edges), num_nodes=200)


def test_create_fills_in_the_list_where_it_can_matter(ring: Data) -> None:
    def stored(**content: object) -> bool:
        return Ticket.from_masks(make_model(), ring, **content).edge_list is not None

    some = torch.arange(400) % 2 == 0
    assert stored(edge_keep=some)
    assert stored(edge_weight=torch.ones(400))
    assert stored(edge_rule={"name": "degree", "threshold": 0.5})
    assert not stored(edge_rule={"name": "keep"})
    assert not stored()


def test_the_list_survives_the_file_at_half_its_size(ring: Data, tmp_path: Path) -> None:
    keep = torch.ones(400, dtype=torch.bool)
    keep[:2] = False
    ticket = Ticket.from_masks(make_model(), ring, edge_keep=keep)
    ticket.save(tmp_path / "t")
    stored = safetensors.torch.load_file(tmp_path / "t")["edge_list"]
    assert (stored.dtype, list(stored.shape)) == (torch.int32, [2, 200])
    loaded = Ticket.load(tmp_path / "t")
    assert same_ticket(loaded, ticket)
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "t").read_bytes()
    assert torch.equal(loaded.match(ring).keep, keep)


def test_a_file_may_do_without_the_list(tmp_path: Path) -> None:
    ticket = make_ticket(edge_list=torch.tensor(EDGES))
    ticket.save(tmp_path / "t", edge_list=False)
    assert ticket.edge_list is not None
    loaded = Ticket.load(tmp_path / "t")
    assert same_ticket(loaded, make_ticket())
    _, kept = loaded.apply(make_model(), make_data())
    assert kept.num_nodes == NUM_NODES
    with pytest.raises(TicketMismatchError, match="edge_list=False"):
        loaded.match(make_data())


def test_the_ticket_does_not_follow_the_callers_edges() -> None:
    edges = torch.tensor(EDGES, dtype=torch.int32)
    ticket = make_ticket(edge_list=edges)
    edges.zero_()
    assert ticket.edge_list is not None
    assert ticket.edge_list.tolist() == EDGES
