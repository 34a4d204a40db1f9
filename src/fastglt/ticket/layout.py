"""How the fields of a ticket become the document and the tensors of its file, and back.

Tensors: ``edge_keep`` and ``weight_mask/<parameter>`` are masks of 8 entries a byte (lowest bit
first), ``init/<name>`` and ``trained/<name>`` the two state dicts. Of a masked parameter only the
kept values are stored, in the order of ``tensor[mask]``: always in the trained state, and in the
rewind state unless all of it was asked for. A shared parameter is stored once, under its first
name. ``edge_weight`` and ``edge_list`` are there where the ticket has them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fastglt.ticket.document import DTYPES, SCHEMA_VERSION
from fastglt.ticket.edge_list import pack_edge_list, unpack_edge_list
from fastglt.ticket.packing import (
    from_stored,
    pack_mask,
    packed_length,
    to_stored,
    unpack_mask,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fastglt.ticket.content import TicketContent
    from fastglt.ticket.document import TicketDocument
    from fastglt.ticket.safetensors_header import StoredTensor

_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def pack(ticket: TicketContent, full_init: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Lay a ticket out.

    Args:
        ticket: A consistent ticket.
        full_init: Whether to store the pruned entries of the rewind state too.

    Returns:
        tuple[dict[str, Any], dict[str, Tensor]]: The document, without its checksum, and the
        tensors.
    """
    content, tensors = _document(ticket, full_init), _masks_and_states(ticket, full_init)
    if ticket.edge_weight is not None:
        content["edge_weight"] = _DTYPE_NAMES[ticket.edge_weight.dtype]
        tensors["edge_weight"] = to_stored(ticket.edge_weight, None)
    if ticket.edge_list is not None:
        form, tensors["edge_list"] = pack_edge_list(ticket.edge_list)
        content["edge_list"] = {"form": form, "dtype": _DTYPE_NAMES[ticket.edge_list.dtype]}
    return content, tensors


def check_table(stored: Mapping[str, StoredTensor], document: TicketDocument) -> None:
    """Compare the header's table of tensors with the document before anything is allocated.

    Args:
        stored: The table in the header of the file.
        document: The validated document.

    Raises:
        ValueError: A tensor is missing, superfluous, or of another type or shape.
    """
    expected = _expected_tensors(document)
    if missing := sorted(expected.keys() - stored.keys()):
        raise ValueError(f"tensor {missing[0]!r} is missing")
    if extra := sorted(stored.keys() - expected.keys()):
        raise ValueError(f"tensor {extra[0]!r} does not belong into it")
    for name, (dtype, wanted) in expected.items():
        found = stored[name]
        if found.dtype != dtype:
            raise ValueError(f"tensor {name!r} must be {dtype} (got {found.dtype})")
        if wanted is not None and found.shape != wanted:
            raise ValueError(f"tensor {name!r} must have shape {wanted} (got {found.shape})")


def unpack(tensors: Mapping[str, Tensor], document: TicketDocument) -> dict[str, Any]:
    """Undo :func:`pack`.

    Args:
        tensors: The tensors of a file, as :func:`check_table` wants them.
        document: Its document.

    Returns:
        dict[str, Any]: The fields of :class:`~fastglt.ticket.Ticket`.

    Raises:
        ValueError: A tensor holds what it must not.
    """
    masks = {
        name: unpack_mask(tensors, f"weight_mask/{name}", shape)
        for name, shape in document.mask_shapes.items()
    }
    return {
        "edge_keep": unpack_mask(tensors, "edge_keep", [document.graph.num_edges]),
        "weight_masks": masks,
        "init_state": _state("init", tensors, document, {} if document.full_init else masks),
        "trained_state": _state("trained", tensors, document, masks),
        "metrics": document.metrics,
        "settings": document.settings,
        "provenance": document.provenance,
        "history": document.history,
        "graph": document.graph.model_dump(),
        "model": document.model.model_dump(exclude_unset=True),
        "edge_weight": tensors.get("edge_weight"),
        "edge_list": _edge_list(tensors, document),
        "edge_rule": document.edge_rule.model_dump(),
        "init_is_full": document.full_init,
    }


def _document(ticket: TicketContent, full_init: bool) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "full_init": full_init,
        "mask_shapes": {name: list(mask.shape) for name, mask in ticket.weight_masks.items()},
        "state": {
            name: {"dtype": _DTYPE_NAMES[value.dtype], "shape": list(value.shape)}
            for name, value in ticket.trained_state.items()
        },
        "graph": ticket.graph,
        "model": ticket.model,
        "settings": ticket.settings,
        "metrics": ticket.metrics,
        "provenance": ticket.provenance,
        "history": ticket.history,
        "edge_weight": None,
        "edge_list": None,
        "edge_rule": ticket.edge_rule,
    }


def _masks_and_states(ticket: TicketContent, full_init: bool) -> dict[str, Tensor]:
    masks, tied = ticket.weight_masks, ticket.model.get("tied", {})
    tensors = {"edge_keep": pack_mask(ticket.edge_keep)}
    tensors |= {f"weight_mask/{name}": pack_mask(mask) for name, mask in masks.items()}
    for name in (name for name in ticket.trained_state if name not in tied):
        mask, init = masks.get(name), ticket.init_state[name]
        tensors[f"init/{name}"] = to_stored(init, None if full_init else mask)
        tensors[f"trained/{name}"] = to_stored(ticket.trained_state[name], mask)
    return tensors


def _expected_tensors(document: TicketDocument) -> dict[str, tuple[str, list[int] | None]]:
    """Type and shape of each tensor; no shape where that depends on the masks."""
    expected: dict[str, tuple[str, list[int] | None]] = {
        "edge_keep": ("U8", [packed_length(document.graph.num_edges)])
    }
    if document.edge_weight is not None:
        expected["edge_weight"] = (document.edge_weight, None)
    if document.edge_list is not None:
        expected["edge_list"] = (document.edge_list.dtype, None)
    for name, shape in document.mask_shapes.items():
        expected[f"weight_mask/{name}"] = ("U8", [packed_length(math.prod(shape))])
    for name, spec in document.state.items():
        if name in document.model.tied:
            continue
        masked = name in document.mask_shapes
        compact_init = masked and not document.full_init
        expected[f"init/{name}"] = (spec.dtype, None if compact_init else spec.shape)
        expected[f"trained/{name}"] = (spec.dtype, None if masked else spec.shape)
    return expected


def _state(
    prefix: str,
    tensors: Mapping[str, Tensor],
    document: TicketDocument,
    masks: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    tied = document.model.tied
    state = {}
    for name in document.state:
        first = tied.get(name, name)
        state[name] = from_stored(tensors, f"{prefix}/{first}", masks.get(first))
    return state


def _edge_list(tensors: Mapping[str, Tensor], document: TicketDocument) -> Tensor | None:
    if document.edge_list is None:
        return None
    stored = tensors["edge_list"]
    if stored.dim() != 2 or stored.size(0) != 2:
        raise ValueError(f"tensor 'edge_list' must be [2, num_edges] (got {list(stored.shape)})")
    return unpack_edge_list(document.edge_list.form, stored)
