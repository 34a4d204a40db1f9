"""Small models, graphs and tickets for the tests of the ticket and its file."""

from __future__ import annotations

from typing import Any

import torch
from torch_geometric.data import Data
from torch_geometric.nn import GCN

from fastglt.ticket import Ticket
from fastglt.ticket.fingerprint import graph_fingerprint, model_fingerprint

NUM_NODES = 6
EDGES = [[0, 1, 1, 2, 2, 3, 3, 0, 4], [1, 0, 2, 1, 3, 2, 0, 3, 4]]
KEEP = [True, True, False, False, True, True, False, False, True]


def make_model(seed: int = 0, hidden: int = 5, norm: str | None = "batch_norm") -> GCN:
    torch.manual_seed(seed)
    return GCN(4, hidden, 2, 3, norm=norm)


def make_data(**attributes: Any) -> Data:
    x = torch.arange(NUM_NODES * 4, dtype=torch.float32).reshape(NUM_NODES, 4) / 10
    edge_index = torch.tensor(EDGES)
    weight = torch.arange(edge_index.size(1), dtype=torch.float32)
    return Data(x=x, edge_index=edge_index, edge_weight=weight, **attributes)


def make_masks(model: torch.nn.Module, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(value.shape, generator=generator) < 0.4
        for name, value in model.named_parameters()
        if name.endswith("lin.weight")
    }


def make_ticket(**changes: Any) -> Ticket:
    model, trained, data = make_model(0), make_model(7), make_data()
    masks = make_masks(model)
    state = dict(trained.state_dict())
    for name, mask in masks.items():
        state[name] = state[name].masked_fill(~mask, 0)
    fields: dict[str, Any] = {
        "edge_keep": torch.tensor(KEEP),
        "weight_masks": masks,
        "init_state": dict(model.state_dict()),
        "trained_state": state,
        "graph": graph_fingerprint(data.edge_index, NUM_NODES, data.x),
        "model": model_fingerprint(model),
        "metrics": {"test": 0.5, "edge_sparsity": 0.5},
        "settings": {"method": "fastglt", "seed": 3, "recover": "rewind"},
        "provenance": {"python": "3"},
        "history": [{"step": 1, "dropped": 2}],
    }
    return Ticket(**(fields | changes))


def free_ticket(
    masks: dict[str, torch.Tensor],
    init: dict[str, torch.Tensor],
    trained: dict[str, torch.Tensor],
    edge_keep: torch.Tensor,
) -> Ticket:
    """A ticket around any tensors, without a model that has them."""
    return Ticket(
        edge_keep=edge_keep,
        weight_masks=masks,
        init_state=init,
        trained_state=trained,
        graph={
            "num_nodes": 1,
            "num_edges": edge_keep.numel(),
            "edge_digest": "0" * 64,
            "feature_digest": None,
        },
        model={"parameters": {}, "modules": {}},
    )


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal shape, type and bytes; unlike ``==``, NaN equals NaN and -0 differs from 0."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(_bytes(a), _bytes(b))


def _bytes(value: torch.Tensor) -> torch.Tensor:
    return value.contiguous().reshape(-1).view(torch.uint8)


def same_ticket(a: Ticket, b: Ticket) -> bool:
    tensors = all(
        one.keys() == other.keys() and all(same_bits(one[name], other[name]) for name in one)
        for one, other in (
            ({"": a.edge_keep}, {"": b.edge_keep}),
            (_given(a.edge_weight), _given(b.edge_weight)),
            (_given(a.edge_list), _given(b.edge_list)),
            (a.weight_masks, b.weight_masks),
            (a.init_state, b.init_state),
            (a.trained_state, b.trained_state),
        )
    )
    others = ("metrics", "settings", "provenance", "history", "graph", "model", "init_is_full")
    return tensors and all(getattr(a, name) == getattr(b, name) for name in (*others, "edge_rule"))


def _given(value: torch.Tensor | None) -> dict[str, torch.Tensor]:
    return {} if value is None else {"": value}
