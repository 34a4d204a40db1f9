"""Masks that were found elsewhere, made into the parts of a ticket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fastglt.errors import InputError
from fastglt.gating import apply_weight_mask
from fastglt.gating.checks import check_module
from fastglt.ticket.mask_names import (
    masks_from_state_dict,
    masks_in_model,
    plain_state,
    plain_tied_names,
    state_without_masks,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn
    from torch_geometric.data import Data

    GivenStates = tuple[Mapping[str, Tensor] | None, Mapping[str, Tensor] | None]


def given_settings(
    settings: Mapping[str, Any], recover: str | None, states: GivenStates
) -> dict[str, Any]:
    """Settings that say where the masks come from; see :meth:`fastglt.ticket.Ticket.from_masks`.

    Args:
        settings: What the caller says.
        recover: How the trained state came about, if that is known.
        states: Initial and trained state dict, each None where it was not given.

    Returns:
        dict[str, Any]: With ``method`` and, where known, ``recover``.

    Raises:
        InputError: Another way to recover, or a rewind without both states.
    """
    known = {"method": "given"} | ({} if recover is None else {"recover": recover}) | {**settings}
    if known.get("recover") not in (None, "rewind", "finetune"):
        raise InputError(f'recover must be "rewind" or "finetune" (got {known["recover"]!r})')
    if known.get("recover") == "rewind" and None in states:
        raise InputError('recover="rewind" must come with both init_state and trained_state')
    return known


def given_parts(
    model: nn.Module,
    data: Data,
    edge_keep: Tensor | None,
    weight_masks: Mapping[str, Tensor] | None,
    states: GivenStates,
) -> dict[str, Any]:
    """Fill in what was not given; see :meth:`fastglt.ticket.Ticket.from_masks`.

    Args:
        model: The model.
        data: The graph, with a plain ``edge_index``.
        edge_keep: ``[num_edges]`` bool, or None for all.
        weight_masks: In either naming, or None for those in the model.
        states: Initial and trained state dict, each None where it was not given.

    Returns:
        dict[str, Any]: ``edge_keep``, ``weight_masks``, ``init_state`` and ``trained_state``.

    Raises:
        InputError: A mask does not fit the model.
        ModelError: ``model`` is no module.
    """
    check_module(model)
    init_state, trained_state = states
    masks = masks_from_state_dict(
        masks_in_model(model) if weight_masks is None else weight_masks, model
    )
    if trained_state is None:
        values = {name: value.cpu() for name, value in plain_state(model).items()}
        trained = apply_weight_mask(values, masks, plain_tied_names(model))
    else:
        trained = state_without_masks(trained_state, masked=True)
    if edge_keep is None:
        edge_keep = torch.ones(data.num_edges, dtype=torch.bool)
    if init_state is None:
        init_state = trained
    return {
        "edge_keep": edge_keep,
        "weight_masks": masks,
        "init_state": state_without_masks(init_state, masked=False),
        "trained_state": trained,
    }
