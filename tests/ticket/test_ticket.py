from __future__ import annotations

import copy
import dataclasses
import json
import pydoc
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ticket_samples import (
    EDGES,
    KEEP,
    NUM_NODES,
    free_ticket,
    make_data,
    make_masks,
    make_model,
    make_ticket,
    same_ticket,
)
from torch import nn
from torch_geometric.data import Data, HeteroData
from torch_geometric.nn import GCN, GCNConv

from fastglt.errors import GraphError, InputError, ModelError, TicketMismatchError
from fastglt.ticket import Ticket, library_versions
from fastglt.ticket.fingerprint import graph_fingerprint, model_fingerprint

KEPT = torch.tensor(EDGES)[:, torch.tensor(KEEP)]


def test_apply_keeps_edges_in_order_and_every_node() -> None:
    data = make_data()
    _, kept = make_ticket().apply(make_model(), data)
    assert torch.equal(kept.edge_index, KEPT)
    assert torch.equal(kept.edge_weight, data.edge_weight[torch.tensor(KEEP)])
    assert "num_nodes" in kept.to_dict()
    assert kept.num_nodes == NUM_NODES
    assert torch.equal(kept.x, data.x)


def test_apply_predicts_like_the_trained_model_on_the_shorter_graph() -> None:
    ticket, data = make_ticket(), make_data()
    reference = make_model(seed=9).eval()
    reference.load_state_dict(ticket.trained_state)
    model, kept = ticket.apply(make_model(seed=4).eval(), data)
    out = model(kept.x, kept.edge_index)
    assert out.shape == (NUM_NODES, 3)
    assert torch.equal(out, reference(data.x, KEPT))


def test_pruned_weights_are_exactly_zero_and_kept_ones_trained() -> None:
    ticket = make_ticket()
    model, _ = ticket.apply(make_model(), make_data())
    for name, mask in ticket.weight_masks.items():
        weight = model.get_parameter(name)
        assert torch.count_nonzero(weight[~mask]) == 0
        assert torch.equal(weight[mask], make_model(7).get_parameter(name)[mask])


def test_rewind_is_the_masked_initialisation() -> None:
    ticket, given = make_ticket(), make_model(seed=5)
    model = ticket.rewind(given)
    for name, value in make_model(0).state_dict().items():
        mask = ticket.weight_masks.get(name)
        expected = value if mask is None else value * mask
        assert torch.equal(model.state_dict()[name], expected)
    assert torch.equal(given.convs[0].lin.weight, make_model(5).convs[0].lin.weight)


def test_callers_objects_stay_as_they_are() -> None:
    ticket, model, data = make_ticket(), make_model(seed=5), make_data(tag=[1, 2])
    before = copy.deepcopy(model.state_dict()), copy.deepcopy(data.to_dict())
    kept_before = copy.deepcopy(ticket)
    new_model, new_data = ticket.apply(model, data)
    with torch.no_grad():
        for parameter in new_model.parameters():
            parameter.add_(1)
    new_data.x.add_(1)
    new_data.edge_weight.add_(1)
    new_data.tag.append(3)
    assert all(torch.equal(value, before[0][name]) for name, value in model.state_dict().items())
    assert data.to_dict().keys() == before[1].keys()
    for name, value in before[1].items():
        now = data[name]
        assert torch.equal(now, value) if isinstance(value, torch.Tensor) else now == value
    assert same_ticket(ticket, kept_before)


def test_ticket_does_not_follow_the_model_it_was_made_of() -> None:
    model = make_model()
    ticket = make_ticket(weight_masks={}, trained_state=model.state_dict())
    with torch.no_grad():
        model.convs[0].lin.weight.fill_(3)
    assert not bool((ticket.trained_state["convs.0.lin.weight"] == 3).any())


def test_every_kind_of_edge_attribute_is_filtered() -> None:
    keep, count = torch.tensor(KEEP), len(KEEP)
    data = make_data(
        edge_attr=torch.arange(2 * count).reshape(count, 2),
        edge_names=[str(i) for i in range(count)],
        edge_array=np.arange(count),
        edge_label_index=torch.arange(2 * count).reshape(2, count),
        edge_label=torch.arange(count),
        y=torch.arange(NUM_NODES),
    )
    _, kept = make_ticket().apply(make_model(), data)
    assert torch.equal(kept.edge_attr, data.edge_attr[keep])
    assert kept.edge_names == [str(i) for i in range(count) if KEEP[i]]
    assert kept.edge_array.tolist() == np.arange(count)[KEEP].tolist()
    assert torch.equal(kept.edge_label_index, data.edge_label_index)
    assert torch.equal(kept.edge_label, data.edge_label)
    assert torch.equal(kept.y, data.y)


def test_node_attributes_stay_when_there_are_as_many_edges_as_nodes() -> None:
    edge_index = torch.tensor([[0, 1, 2], [1, 2, 0]])
    data = Data(x=torch.rand(3, 4), edge_index=edge_index, y=torch.arange(3))
    ticket = make_ticket(
        edge_keep=torch.tensor([True, False, True]),
        graph=graph_fingerprint(edge_index, 3, data.x),
    )
    _, kept = ticket.apply(make_model(), data)
    assert torch.equal(kept.x, data.x)
    assert torch.equal(kept.y, data.y)
    assert kept.num_edges == 2


def test_sparse_features_survive_apply_without_a_warning() -> None:
    data = make_data()
    data.x = data.x.to_sparse_csr()
    _, kept = make_ticket().apply(make_model(), data)
    assert kept.x.layout == torch.sparse_csr
    kept.x.values().add_(1)
    assert torch.equal(data.x.to_dense(), make_data().x)


def test_foreign_graph_is_refused_by_name() -> None:
    data, ticket = make_data(), make_ticket()
    data.edge_index = data.edge_index.flip(1)
    with pytest.raises(TicketMismatchError, match=r"another graph: .*another order"):
        ticket.apply(make_model(), data)
    with pytest.raises(TicketMismatchError, match="has 9 edges, this one 8"):
        ticket.apply(make_model(), Data(x=data.x, edge_index=data.edge_index[:, 1:]))
    with pytest.raises(TicketMismatchError, match="has 6 nodes, this one 7"):
        ticket.apply(make_model(), Data(edge_index=data.edge_index, num_nodes=7))


def test_foreign_model_is_refused_by_name() -> None:
    ticket = make_ticket()
    message = re.escape("parameter 'convs.0.bias' has shape [5] in the ticket and [6]")
    for use in (lambda model: ticket.apply(model, make_data()), ticket.rewind):
        with pytest.raises(TicketMismatchError, match=message):
            use(make_model(hidden=6))


def test_missing_buffer_is_refused_by_name() -> None:
    model = make_model()
    model.register_buffer("extra", torch.ones(2))
    with pytest.raises(TicketMismatchError, match="'extra' is in this model but not in the ticket"):
        make_ticket().rewind(model)


def test_other_features_are_only_warned_of() -> None:
    data = make_data()
    data.x = data.x + 1
    with pytest.warns(UserWarning, match="node features differ") as caught:
        _, kept = make_ticket().apply(make_model(), data)
    assert caught[0].filename == __file__
    assert torch.equal(kept.x, data.x)


def test_data_of_another_kind_is_refused() -> None:
    ticket, model = make_ticket(), make_model()
    for data in (HeteroData(), {"edge_index": torch.tensor(EDGES)}):
        with pytest.raises(GraphError, match="with an edge_index"):
            ticket.apply(model, data)
    with pytest.raises(GraphError, match="edge_index is missing"):
        ticket.apply(model, Data(x=torch.ones(2, 4)))
    with pytest.raises(GraphError, match=r"edges once \(got edge_index and adj_t"):
        ticket.apply(model, make_data(adj_t=torch.eye(NUM_NODES).to_sparse_csr()))


def test_cached_model_is_refused() -> None:
    model = make_model()
    assert isinstance(model.convs[0], GCNConv)
    model.convs[0].cached = True
    with pytest.raises(ModelError, match=r"'convs\.0' has cached=True"):
        make_ticket().apply(model, make_data())


def test_create_fills_in_fingerprints_and_versions() -> None:
    model, data = make_model(), make_data()
    state = model.state_dict()
    ticket = Ticket.create(
        model,
        data,
        edge_keep=torch.ones(len(KEEP), dtype=torch.bool),
        weight_masks={},
        init_state=state,
        trained_state=state,
    )
    assert ticket.model == model_fingerprint(model)
    assert ticket.graph == graph_fingerprint(data.edge_index, NUM_NODES, data.x)
    assert ticket.provenance == library_versions()


def test_create_refuses_a_mask_of_another_kind() -> None:
    with pytest.raises(InputError, match="edge_keep must be a boolean tensor"):
        Ticket.from_masks(make_model(), make_data(), edge_keep=KEEP)  # type: ignore[arg-type]


def test_counts_and_sparsities() -> None:
    ticket = make_ticket()
    total = sum(mask.numel() for mask in ticket.weight_masks.values())
    kept = sum(int(mask.sum()) for mask in ticket.weight_masks.values())
    assert ticket.num_edges_kept == sum(KEEP)
    assert ticket.num_weights_kept == kept
    assert ticket.edge_sparsity == 0.5
    assert ticket.weight_sparsity == 1 - kept / total
    assert make_ticket(metrics={}).edge_sparsity == 1 - sum(KEEP) / len(KEEP)
    assert make_ticket(weight_masks={}).weight_sparsity == 0.0
    assert f"edges {sum(KEEP)}/{len(KEEP)} kept, weights {kept}/{total} kept" in repr(ticket)


def test_only_a_rewound_result_is_a_lottery_ticket() -> None:
    assert make_ticket().is_lottery_ticket
    assert not make_ticket(settings={"recover": "finetune"}).is_lottery_ticket
    assert not make_ticket(settings={}).is_lottery_ticket


def test_library_versions_are_json() -> None:
    versions = library_versions()
    assert json.loads(json.dumps(versions)) == versions
    assert set(versions) == {
        *("fastglt", "torch", "torch_geometric", "python", "platform", "threads"),
    }


NAME = "convs.0.lin.weight"


def states(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    return make_model().state_dict() | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edge_keep": torch.ones(3, dtype=torch.bool)}, r"edge_keep must have shape \[9\]"),
        ({"edge_keep": torch.ones(9)}, "edge_keep must be a boolean tensor"),
        ({"edge_keep": KEEP}, r"edge_keep must be a boolean tensor \(got list\)"),
        ({"weight_masks": {"nope": torch.ones(1, dtype=torch.bool)}}, "names no entry"),
        ({"weight_masks": {NAME: torch.ones(4, 5, dtype=torch.bool)}}, r"shape \[5, 4\]"),
        ({"weight_masks": {NAME: torch.ones(5, 4)}}, "must be a boolean tensor"),
        ({"trained_state": make_model().state_dict()}, "exactly 0 where its mask is False"),
        ({"init_state": {}}, "must have the same names"),
        ({"init_state": states(**{NAME: torch.ones(5, 4).double()})}, "must be the same"),
        ({"init_state": states(**{NAME: torch.ones(5, 4).to_sparse()})}, "must be a dense tensor"),
        (
            {"init_state": states(**{NAME: torch.ones(5, 4, dtype=torch.complex64)})},
            "cannot hold",
        ),
        ({"init_state": states(**{NAME: 3})}, "must be a dense tensor"),
        ({"graph": {}}, "graph must be a fingerprint"),
        ({"model": {"parameters": {"w": [1]}, "modules": {}}}, "parameter 'w' of shape"),
        ({"metrics": {"edge_sparsity": "half"}}, r"must be a number in \[0, 1\]"),
        ({"metrics": {"weight_sparsity": 1.5}}, r"must be a number in \[0, 1\] \(got 1.5\)"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(changes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_ticket(**changes)


def test_nan_in_a_pruned_weight_is_not_taken_for_zero() -> None:
    masks = make_masks(make_model())
    state = make_model().state_dict()
    for name, mask in masks.items():
        state[name] = state[name].masked_fill(~mask, float("nan"))
    with pytest.raises(InputError, match="exactly 0"):
        make_ticket(weight_masks=masks, trained_state=state)


def test_tied_parameters_come_back_equal(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
            self.b.weight = self.a.weight

    model = Tied()
    mask = torch.eye(3, dtype=torch.bool)
    with torch.no_grad():
        model.a.weight.mul_(mask)
    state = model.state_dict()
    ticket = free_ticket({"a.weight": mask}, state, state, torch.tensor([True]))
    ticket.save(tmp_path / "t")
    loaded = Ticket.load(tmp_path / "t")
    assert torch.equal(loaded.trained_state["b.weight"], model.a.weight)
    assert torch.equal(loaded.trained_state["a.weight"], model.a.weight)
    ticket.model = loaded.model = model_fingerprint(model)
    assert torch.equal(loaded.rewind(Tied()).b.weight, model.a.weight)


def test_gcn_without_norm_round_trips_through_apply(tmp_path: Path) -> None:
    model, data = make_model(norm=None), make_data()
    state = model.state_dict()
    ticket = Ticket.create(
        model,
        data,
        edge_keep=torch.tensor(KEEP),
        weight_masks={},
        init_state=state,
        trained_state=state,
    )
    ticket.save(tmp_path / "t")
    applied, kept = Ticket.load(tmp_path / "t").apply(GCN(4, 5, 2, 3), data)
    assert torch.equal(applied(kept.x, kept.edge_index), model(data.x, KEPT))


def test_help_documents_every_field() -> None:
    text = pydoc.render_doc(Ticket)
    assert all(f"{field.name}: " in text for field in dataclasses.fields(Ticket))
    assert "What becomes of edges that the graph has gained since" in text
