"""A ticket's edges as a PyG transform, and on every form of a graph."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from ticket_samples import EDGES, KEEP, NUM_NODES, make_data, make_masks, make_model, make_ticket
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GCN
from torch_geometric.transforms import BaseTransform, Compose, ToUndirected
from torch_geometric.utils import to_torch_csr_tensor

from fastglt.errors import GraphError, TicketMismatchError
from fastglt.ticket import PruneEdges, Ticket

KEPT = torch.tensor(KEEP)


def with_list(**changes: Any) -> Ticket:
    return make_ticket(edge_list=torch.tensor(EDGES), **changes)


def test_the_transform_prunes_like_apply() -> None:
    ticket, data = with_list(edge_weight=torch.rand(5)), make_data(edge_attr=torch.rand(9, 2))
    changed = Data(x=data.x, edge_index=data.edge_index.flip(1), edge_weight=data.edge_weight)
    for match, graph in (("edges", data), ("node_id", changed)):
        _, expected = ticket.apply(make_model(), graph, match=match)
        result = ticket.transform(match=match)(graph)
        assert result.to_dict().keys() == expected.to_dict().keys()
        for name, value in expected.to_dict().items():
            same = torch.equal(value, result[name]) if isinstance(value, Tensor) else None
            assert same or value == result[name]
        assert graph.num_edges == len(KEEP)


def test_the_transform_is_one_of_pygs() -> None:
    transform = make_ticket().transform()
    assert isinstance(transform, BaseTransform)
    assert repr(transform) == "PruneEdges(edges 5/9 kept, match='edges')"
    assert "match='node_id'" in repr(with_list().transform(match="node_id"))
    data = make_data()
    del data.edge_weight
    result = Compose([transform, ToUndirected()])(data)
    assert torch.equal(result.edge_index, ToUndirected()(transform(data)).edge_index)


def test_the_transform_shares_what_it_does_not_change_and_changes_nothing_given() -> None:
    data = make_data()
    result = make_ticket().transform()(data)
    assert result.x.data_ptr() == data.x.data_ptr()
    result.edge_weight.zero_()
    assert torch.equal(data.edge_weight, make_data().edge_weight)


def test_the_transform_goes_to_workers_without_the_weights() -> None:
    wide = Ticket.from_masks(GCN(4, 500, 2, 3), make_data(), edge_keep=KEPT)
    payload = pickle.dumps(wide.transform(match="node_id"))
    assert len(payload) < 10_000
    copied = pickle.loads(payload)  # written by the line above
    assert torch.equal(copied(make_data()).edge_index, torch.tensor(EDGES)[:, KEPT])


def test_the_transform_refuses_another_graph() -> None:
    with pytest.raises(TicketMismatchError, match="another graph"):
        make_ticket().transform()(Data(edge_index=torch.tensor(EDGES).flip(1), num_nodes=6))


def edge_index_form() -> Data:
    data = make_data()
    data.edge_index = EdgeIndex(data.edge_index, sparse_size=(NUM_NODES, NUM_NODES))
    return data


def adj_t_form(value: float | None = None) -> Data:
    source, target = torch.tensor(EDGES)
    count = len(KEEP)
    values = torch.arange(1.0, count + 1) if value is None else torch.full((count,), value)
    order = torch.argsort(target * NUM_NODES + source)
    rows = torch.stack([target, source])[:, order]
    adj_t = to_torch_csr_tensor(rows, values[order], size=(NUM_NODES, NUM_NODES))
    return Data(x=make_data().x, adj_t=adj_t)


@pytest.mark.parametrize("match", ["edges", "node_id"])
def test_an_edge_index_object_comes_back_as_one(match: Any) -> None:
    data = edge_index_form()
    ticket = with_list()
    assert ticket.graph == make_ticket().graph
    for kept in (ticket.apply(make_model(), data, match)[1], ticket.transform(match)(data)):
        assert isinstance(kept.edge_index, EdgeIndex)
        assert kept.edge_index.sparse_size() == (NUM_NODES, NUM_NODES)
        assert torch.equal(kept.edge_index.as_tensor(), torch.tensor(EDGES)[:, KEPT])
        assert torch.equal(kept.edge_weight, data.edge_weight[KEPT])


@pytest.mark.parametrize("match", ["edges", "node_id"])
def test_a_csr_matrix_comes_back_as_one(match: Any) -> None:
    data, model = adj_t_form(), make_model(7).eval()
    keep = torch.tensor([True, False, True, True, False, True, True, True, True])
    learned = torch.linspace(0.5, 2, int(keep.sum()))
    ticket = Ticket.from_masks(model, data, edge_keep=keep, edge_weight=learned)
    dense = data.adj_t.to_dense()
    rows, columns = dense.nonzero()[keep].t()
    expected = torch.zeros_like(dense)
    expected[rows, columns] = dense[rows, columns] * learned
    applied, kept = ticket.apply(model, data, match)
    assert "edge_index" not in kept
    assert kept.adj_t.layout == torch.sparse_csr
    assert torch.equal(kept.adj_t.to_dense(), expected)
    assert torch.equal(data.adj_t.to_dense(), dense)
    weight = expected[rows, columns]
    plain = applied(kept.x, torch.stack([columns, rows]), edge_weight=weight)
    assert torch.allclose(applied(kept.x, kept.adj_t), plain, atol=1e-6)


def test_a_ticket_of_a_matrix_knows_the_graph_as_edges_and_the_other_way_round() -> None:
    data = adj_t_form(1.0)
    ticket = Ticket.from_masks(make_model(), data, edge_keep=KEPT)
    edges = Data(x=data.x, edge_index=torch.tensor(EDGES))
    match = ticket.match(edges)
    assert match.num_kept + match.num_pruned == len(KEEP)
    assert with_list().match(data).num_kept == sum(KEEP)


def test_graphs_without_any_edges_named_are_refused() -> None:
    for use in (make_ticket().transform(), with_list().match):
        with pytest.raises(GraphError, match="edge_index is missing"):
            use(Data(x=torch.ones(6, 4)))
    with pytest.raises(GraphError, match="edge_index is missing"):
        Ticket.from_masks(make_model(), Data(x=torch.ones(6, 4)))


def molecules(count: int) -> Batch:
    return Batch.from_data_list([make_data(y=torch.tensor([i % 2])) for i in range(count)])


def test_a_ticket_of_many_graphs_prunes_weights_only() -> None:
    model, batch = make_model(), molecules(3)
    masks = make_masks(model)
    ticket = Ticket.from_masks(model, batch, weight_masks=masks)
    assert ticket.edge_list is None
    applied, same = ticket.apply(make_model(2).eval(), batch)
    assert isinstance(same, Batch)
    assert same.num_graphs == 3
    assert torch.equal(same.edge_index, batch.edge_index)
    assert torch.equal(same.batch, batch.batch)
    assert torch.equal(same.get_example(1).edge_index, torch.tensor(EDGES))
    other = molecules(5)
    inductive = ticket.apply_weights(make_model(2).eval())
    reference = make_model()
    reference.load_state_dict(ticket.trained_state)
    expected = reference.eval()(other.x, other.edge_index)
    assert torch.equal(inductive(other.x, other.edge_index), expected)
    assert torch.equal(applied(other.x, other.edge_index), expected)
    with pytest.raises(TicketMismatchError, match="has 18 nodes, this one 30"):
        ticket.apply(model, other)


def test_apply_weights_leaves_the_model_given_and_checks_it() -> None:
    ticket, model = make_ticket(), make_model(5)
    applied = ticket.apply_weights(model)
    assert all(
        torch.equal(value, ticket.trained_state[n]) for n, value in applied.state_dict().items()
    )
    assert torch.equal(model.convs[0].lin.weight, make_model(5).convs[0].lin.weight)
    with pytest.raises(TicketMismatchError, match="another model"):
        ticket.apply_weights(make_model(hidden=6))


def test_importing_the_transform_by_its_public_name() -> None:
    assert isinstance(make_ticket().transform(), PruneEdges)
