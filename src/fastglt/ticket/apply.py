"""Copies of a model and a graph on which a ticket is in force."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parameter import is_lazy

from fastglt.errors import ModelError, TicketMismatchError
from fastglt.gating import apply_weight_mask, takes_edge_weight, tied_names
from fastglt.gating.checks import check_copyable, initialize_from_state
from fastglt.ticket.compiled import uncompiled
from fastglt.ticket.fingerprint import compare_entries, compare_models, model_fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn
    from torch_geometric.data import Data


def loaded_copy(
    model: nn.Module,
    fingerprint: Mapping[str, Any],
    state: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
) -> nn.Module:
    """Copy a model and load a ticket's state dict under masks into the copy.

    Args:
        model: Stays as it is; what is lazy gets its shape in the copy.
        fingerprint: Model fingerprint in the ticket.
        state: State dict in the ticket.
        masks: Parameter name → boolean mask of what to keep; it holds for every other name of a
            shared parameter too.

    Returns:
        nn.Module: The copy, on the devices and in the mode of ``model``.

    Raises:
        TicketMismatchError: Another architecture; the message names the difference.
        ModelError: ``model`` caches its graph, cannot be copied or is no module.
    """
    check_copyable(model)
    result = copy.deepcopy(model)
    inner = uncompiled(result)
    initialize_from_state(inner, state)
    _check_matching(inner, fingerprint, state)
    inner.load_state_dict(apply_weight_mask(state, masks, tied_names(inner)))
    return result


def _check_matching(
    model: nn.Module, fingerprint: Mapping[str, Any], state: Mapping[str, Tensor]
) -> None:
    for name, tensor in model.state_dict(keep_vars=True).items():
        if is_lazy(tensor):
            raise TicketMismatchError(
                f"this ticket belongs to another model: {name!r} is in this model but not in the "
                "ticket; build the model as it was built for the search"
            )
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


def check_takes_edge_weight(model: nn.Module) -> None:
    """Refuse a model to which learned edge weights would make no difference.

    Args:
        model: The model at hand.

    Raises:
        ModelError: Some conv of it does not take ``edge_weight``.
    """
    if not takes_edge_weight(model):
        raise ModelError(
            'this ticket has learned edge weights (edge_values="learned"), but not every conv of '
            f"the model takes edge_weight (got {type(model).__qualname__}); use a ticket that was "
            'searched with edge_values="binary"'
        )


def independent_copy(data: Data) -> Data:
    """A deep copy of a graph, sparse tensors included."""
    # torch cannot deep-copy CSR tensors, but clones them: deepcopy takes the clones for granted.
    sparse = (v for _, v in data if isinstance(v, torch.Tensor) and v.layout != torch.strided)
    return copy.deepcopy(data, {id(value): value.clone() for value in sparse})


def _shapes(state: Mapping[str, Any]) -> dict[str, list[int]]:
    return {
        name: list(value.shape) for name, value in state.items() if isinstance(value, torch.Tensor)
    }
