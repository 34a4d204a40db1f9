"""Copies of a model and a graph on which a ticket is in force."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

import torch
import torch_geometric

from fastglt.errors import GraphError, ModelError, TicketMismatchError
from fastglt.gating import keep_edges
from fastglt.ticket.fingerprint import (
    compare_entries,
    compare_features,
    compare_graphs,
    compare_models,
    graph_fingerprint,
    model_fingerprint,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn
    from torch_geometric.data import Data


def check_matching_model(
    model: nn.Module, fingerprint: Mapping[str, Any], state: Mapping[str, Tensor]
) -> None:
    """Make sure that a ticket's state dict belongs to ``model``.

    Args:
        model: The model at hand.
        fingerprint: Model fingerprint in the ticket.
        state: State dict in the ticket.

    Raises:
        TicketMismatchError: Another architecture; the message names the difference.
        ModelError: ``model`` caches its graph, is lazy or is no module.
    """
    difference = compare_models(fingerprint, model_fingerprint(model))
    if difference is None:
        difference = compare_entries(
            "state dict entry", _shapes(state), _shapes(model.state_dict())
        )
    if difference is not None:
        raise TicketMismatchError(
            f"this ticket belongs to another model: {difference}; build the model as it was "
            "built for the search"
        )
    for name, module in model.named_modules():
        if getattr(module, "cached", False) is True:
            raise ModelError(
                f"module {name!r} has cached=True and would go on with the edges of an earlier "
                "call; build it with cached=False"
            )


def check_matching_graph(data: Data, fingerprint: Mapping[str, Any]) -> None:
    """Make sure that a ticket's edge mask belongs to ``data``.

    Args:
        data: The graph at hand.
        fingerprint: Graph fingerprint in the ticket.

    Raises:
        TicketMismatchError: Another graph; the message names the difference.
        GraphError: ``data`` is no homogeneous graph with an ``edge_index``.

    Warns:
        UserWarning: The edges agree, but the node features differ.
    """
    if not isinstance(data, torch_geometric.data.Data) or data.get("edge_index") is None:
        raise GraphError(
            "data must be a torch_geometric.data.Data with an edge_index "
            f"(got {type(data).__qualname__})"
        )
    this = graph_fingerprint(data.edge_index, data.num_nodes, data.x)
    if difference := compare_graphs(fingerprint, this):
        raise TicketMismatchError(
            f"this ticket belongs to another graph: {difference}; pass the graph that was "
            "searched, with the same transforms"
        )
    if difference := compare_features(fingerprint, this):
        warnings.warn(
            f"{difference}; the edges agree, so the ticket is applied, but its metrics were "
            "measured with the other features",
            UserWarning,
            stacklevel=3,
        )


def loaded_copy(
    model: nn.Module, state: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> nn.Module:
    """Copy a model and load a state dict under masks into the copy.

    Args:
        model: Stays as it is.
        state: Entries of ``model.state_dict()``.
        masks: Parameter name → boolean mask of what to keep.

    Returns:
        nn.Module: The copy, on the devices and in the mode of ``model``.
    """
    result = copy.deepcopy(model)
    masked = {
        name: value.masked_fill(~masks[name].to(value.device), 0) if name in masks else value
        for name, value in state.items()
    }
    result.load_state_dict(masked)
    return result


def pruned_copy(data: Data, keep: Tensor) -> Data:
    """A deep copy of a graph with its kept edges only, see :func:`fastglt.gating.keep_edges`."""
    result = keep_edges(data, keep)
    # torch cannot deep-copy CSR tensors, but clones them: deepcopy takes the clones for granted.
    sparse = (v for _, v in result if isinstance(v, torch.Tensor) and v.layout != torch.strided)
    return copy.deepcopy(result, {id(value): value.clone() for value in sparse})


def _shapes(state: Mapping[str, Any]) -> dict[str, list[int]]:
    return {
        name: list(value.shape) for name, value in state.items() if isinstance(value, torch.Tensor)
    }
