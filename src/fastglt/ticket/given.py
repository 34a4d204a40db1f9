"""Masks that were found elsewhere, made into the parts of a ticket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fastglt.gating import apply_weight_mask, tied_names
from fastglt.ticket.mask_names import masks_from_state_dict, state_without_masks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn
    from torch_geometric.data import Data


def given_parts(
    model: nn.Module,
    data: Data,
    edge_keep: Tensor | None,
    weight_masks: Mapping[str, Tensor] | None,
    init_state: Mapping[str, Tensor] | None,
    trained_state: Mapping[str, Tensor] | None,
) -> dict[str, Any]:
    """Fill in what was not given; see :meth:`fastglt.ticket.Ticket.from_masks`.

    Returns:
        dict[str, Any]: ``edge_keep``, ``weight_masks``, ``init_state`` and ``trained_state``.

    Raises:
        InputError: A mask does not fit the model.
    """
    masks = masks_from_state_dict(weight_masks or {}, model)
    if trained_state is None:
        values = {name: value.cpu() for name, value in model.state_dict().items()}
        trained = apply_weight_mask(values, masks, tied_names(model))
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
