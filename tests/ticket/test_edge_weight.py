"""Tickets with one trained weight per kept edge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ticket_samples import EDGES, KEEP, NUM_NODES, make_data, make_model, make_ticket, same_ticket
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GAT, GCNConv, GraphConv, SAGEConv

from fastglt.errors import InputError, ModelError
from fastglt.ticket import Ticket

KEPT = torch.tensor(KEEP)
LEARNED = torch.tensor([0.5, 2.0, 0.25, 1.5, 3.0])


def learned_ticket(**changes: Any) -> Ticket:
    return make_ticket(**{"edge_weight": LEARNED, "edge_list": torch.tensor(EDGES)} | changes)


def test_learned_weights_multiply_those_of_the_graph() -> None:
    data = make_data()
    _, kept = learned_ticket().apply(make_model(), data)
    assert torch.equal(kept.edge_weight, data.edge_weight[KEPT] * LEARNED)
    assert torch.equal(data.edge_weight, make_data().edge_weight)


def test_without_weights_of_its_own_the_graph_gets_the_learned_ones() -> None:
    data = make_data()
    del data.edge_weight
    model, kept = learned_ticket().apply(make_model(seed=3).eval(), data)
    assert torch.equal(kept.edge_weight, LEARNED)
    assert "edge_weight" not in data
    edge_index = torch.tensor(EDGES)[:, KEPT]
    expected = model(data.x, edge_index, edge_weight=LEARNED)
    assert torch.equal(model(kept.x, kept.edge_index, edge_weight=kept.edge_weight), expected)
    assert not torch.allclose(model(kept.x, kept.edge_index), expected)


@pytest.mark.parametrize(
    ("given", "x", "expected"),
    [
        (torch.float64, torch.float32, torch.float64),
        (torch.float32, torch.float64, torch.float32),
        (torch.int64, torch.float32, torch.float32),
        (None, torch.float64, torch.float64),
        (None, torch.int64, torch.float32),
        (None, None, torch.float32),
    ],
)
def test_weights_have_the_type_that_the_graph_computes_with(
    given: torch.dtype | None, x: torch.dtype | None, expected: torch.dtype
) -> None:
    data = Data(edge_index=torch.tensor(EDGES), num_nodes=NUM_NODES)
    if x is not None:
        data.x = torch.ones(NUM_NODES, 4, dtype=x)
    if given is not None:
        data.edge_weight = torch.full((len(KEEP),), 2, dtype=given)
    ticket = Ticket.from_masks(make_model(), data, edge_keep=KEPT, edge_weight=LEARNED)
    _, kept = ticket.apply(make_model(), data)
    factor = 1 if given is None else 2
    assert kept.edge_weight.dtype == expected
    assert kept.edge_weight.tolist() == (LEARNED * factor).tolist()


def test_weights_in_a_column_stay_in_a_column() -> None:
    data = make_data()
    data.edge_weight = torch.full((len(KEEP), 1), 2.0)
    _, kept = learned_ticket().apply(make_model(), data)
    assert kept.edge_weight.tolist() == [[2 * value] for value in LEARNED.tolist()]


def test_on_a_changed_graph_edges_take_their_weights_along_and_new_ones_have_1() -> None:
    edges = list(zip(*EDGES, strict=True))
    # Backwards, without the first edge of all, with a new one in front.
    changed = [(5, 0), *reversed(edges[1:])]
    data = Data(edge_index=torch.tensor(changed).t(), x=make_data().x)
    _, kept = learned_ticket().apply(make_model(), data, match="node_id")
    assert kept.edge_weight.tolist() == [1.0, 3.0, 1.5, 0.25, 2.0]
    assert kept.edge_index[:, 0].tolist() == [5, 0]


class Mixed(nn.Module):
    """Takes edge_weight, but its second conv does not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = GCNConv(4, 4), SAGEConv(4, 3)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.second(self.first(x, edge_index, edge_weight), edge_index)


class Weighted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = GraphConv(4, 3)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.conv(x, edge_index, edge_weight)


def test_a_model_that_would_ignore_the_weights_is_refused() -> None:
    data = make_data()
    for model in (GAT(4, 5, 2, 3), Mixed()):
        ticket = Ticket.from_masks(model, data, edge_keep=KEPT, edge_weight=LEARNED)
        with pytest.raises(ModelError, match=r"not every conv of the model takes edge_weight"):
            ticket.apply(model, data)
        Ticket.from_masks(model, data, edge_keep=KEPT).apply(model, data)
    ticket = Ticket.from_masks(Weighted(), data, edge_keep=KEPT, edge_weight=LEARNED)
    assert ticket.apply(Weighted(), data)[1].num_edges == sum(KEEP)


def test_the_kind_of_edge_values_shows() -> None:
    assert make_ticket().edge_values == "binary"
    assert learned_ticket().edge_values == "learned"
    assert "edge_values='learned'" in repr(learned_ticket())
    assert "edge_values" not in repr(make_ticket())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_and_rule_survive_the_file(tmp_path: Path, dtype: torch.dtype) -> None:
    rule = {"name": "degree", "threshold": 0.1 + 0.2}
    ticket = learned_ticket(edge_weight=LEARNED.to(dtype) / 3, edge_rule=rule)
    ticket.save(tmp_path / "t")
    loaded = Ticket.load(tmp_path / "t")
    assert same_ticket(loaded, ticket)
    assert loaded.edge_rule == rule


def test_the_ticket_does_not_follow_the_weights_it_was_made_of() -> None:
    weight = LEARNED.clone().requires_grad_()
    ticket = learned_ticket(edge_weight=weight)
    with torch.no_grad():
        weight.zero_()
    assert ticket.edge_weight is not None
    assert torch.equal(ticket.edge_weight, LEARNED)
    assert not ticket.edge_weight.requires_grad


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.ones(4), r"edge_weight must have shape \[5\].*\(got \[4\]\)"),
        (torch.ones(9), r"must have shape \[5\], one for each kept edge \(got \[9\]\)"),
        (torch.ones(5, 1), r"must have shape \[5\]"),
        (torch.ones(5).long(), r"must be a floating-point tensor \(got torch.int64\)"),
        (torch.ones(5).bool(), r"must be a floating-point tensor \(got torch.bool\)"),
        ([1.0] * 5, r"must be a floating-point tensor \(got list\)"),
        (torch.tensor([1, 1, float("nan"), 1, 1]), "must be finite"),
        (torch.tensor([1, 1, float("-inf"), 1, 1]), "must be finite"),
        (torch.ones(5).to_sparse(), "must be a dense tensor"),
    ],
)
def test_bad_weights_are_refused(weight: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_ticket(edge_weight=weight)
