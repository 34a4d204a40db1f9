"""The ticket file: one safetensors file, written as a whole and checked before it is believed.

Tensors: ``edge_keep`` and ``weight_mask/<parameter>`` are masks of 8 entries a byte (lowest bit
first), ``init/<name>`` and ``trained/<name>`` the two state dicts. Of a masked parameter only the
kept values are stored, in the order of ``tensor[mask]``: always in the trained state, and in the
rewind state unless all of it was asked for. The header metadata has one entry, ``fastglt``: a JSON
document with a checksum over itself and the tensors, against damage (not against forgery).
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import safetensors.torch
from safetensors import SafetensorError

from fastglt import _strict_json
from fastglt._atomic import atomic_write
from fastglt.errors import InputError, OutputPathError, TicketFileError
from fastglt.ticket.document import DTYPES, SCHEMA_VERSION, parse_document
from fastglt.ticket.safetensors_header import MAX_HEADER_BYTES, read_header
from fastglt.ticket.tensors import (
    checksum,
    from_stored,
    pack_mask,
    packed_length,
    to_stored,
    unpack_mask,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import BinaryIO

    from torch import Tensor

    from fastglt.ticket.document import TicketDocument
    from fastglt.ticket.safetensors_header import StoredTensor

DOCUMENT_KEY = "fastglt"
_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class TicketFields(TypedDict):
    """What a file holds: the fields of :class:`fastglt.ticket.Ticket`, which documents them."""

    edge_keep: Tensor
    weight_masks: dict[str, Tensor]
    init_state: dict[str, Tensor]
    trained_state: dict[str, Tensor]
    metrics: dict[str, Any]
    settings: dict[str, Any]
    provenance: dict[str, Any]
    history: list[dict[str, Any]]
    graph: dict[str, Any]
    model: dict[str, Any]
    init_is_full: bool


def write_ticket(path: str | os.PathLike[str], fields: TicketFields, full_init: bool) -> None:
    """Write a ticket file; an existing one is replaced only when the new one is complete.

    Args:
        path: Where to write.
        fields: A consistent ticket.
        full_init: Whether to store the pruned entries of the rewind state too.

    Raises:
        InputError: Metrics, settings, provenance or history have no strict JSON form.
        OutputPathError: ``path`` cannot be written.
    """
    content, tensors = _document(fields, full_init), _pack(fields, full_init)
    content["sha256"] = checksum(content, tensors)
    # A single entry, because safetensors writes several in random order: same ticket, same bytes.
    metadata = {DOCUMENT_KEY: _strict_json.dumps(content, "ticket")}
    payload = safetensors.torch.save(tensors, metadata=metadata)
    if struct.unpack("<Q", payload[:8])[0] > MAX_HEADER_BYTES:
        raise InputError("metrics, settings and history are over 100 MB as JSON; shorten them")
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(payload)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputPathError(f"ticket {os.fspath(path)!r} cannot be written: {reason}") from error


def read_ticket(path: str | os.PathLike[str]) -> TicketFields:
    """Read a ticket file, believing nothing in it before it was checked. No code is executed.

    Args:
        path: The file.

    Returns:
        TicketFields: Its content, on the CPU.

    Raises:
        TicketFileError: It cannot be read, is damaged, truncated, foreign or of a newer schema.
    """
    location = Path(path)
    try:
        if location.exists() and not location.is_file():
            raise ValueError("it is not a regular file; give the path of a ticket")
        with location.open("rb") as file:
            return _decode(file)
    except FileNotFoundError:
        raise TicketFileError(f"ticket {str(path)!r}: no such file; check the path") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise TicketFileError(f"ticket {str(path)!r} cannot be read: {reason}") from error
    except (SafetensorError, ValueError) as error:
        raise unloadable(path, error) from error


def unloadable(path: str | os.PathLike[str], reason: object) -> TicketFileError:
    """The error for a file that is there but is no sound ticket.

    Args:
        path: The file.
        reason: What is wrong with it.

    Returns:
        TicketFileError: To be raised.
    """
    return TicketFileError(
        f"ticket {os.fspath(path)!r} cannot be loaded: {reason}; unless this says what to do, copy "
        "the file again from its source or search again"
    )


def _document(fields: TicketFields, full_init: bool) -> dict[str, Any]:
    state = fields["trained_state"]
    return {
        "schema_version": SCHEMA_VERSION,
        "full_init": full_init,
        "mask_shapes": {name: list(mask.shape) for name, mask in fields["weight_masks"].items()},
        "state": {
            name: {"dtype": _DTYPE_NAMES[value.dtype], "shape": list(value.shape)}
            for name, value in state.items()
        },
        "graph": fields["graph"],
        "model": fields["model"],
        "settings": fields["settings"],
        "metrics": fields["metrics"],
        "provenance": fields["provenance"],
        "history": fields["history"],
    }


def _pack(fields: TicketFields, full_init: bool) -> dict[str, Tensor]:
    masks = fields["weight_masks"]
    tensors = {"edge_keep": pack_mask(fields["edge_keep"])}
    tensors |= {f"weight_mask/{name}": pack_mask(mask) for name, mask in masks.items()}
    for name, value in fields["init_state"].items():
        tensors[f"init/{name}"] = to_stored(value, None if full_init else masks.get(name))
    for name, value in fields["trained_state"].items():
        tensors[f"trained/{name}"] = to_stored(value, masks.get(name))
    return tensors


def _decode(file: BinaryIO) -> TicketFields:
    header = read_header(file, required_entry=DOCUMENT_KEY)
    document = parse_document(header.metadata[DOCUMENT_KEY])
    _check_table(header.tensors, document)
    file.seek(0)
    tensors = safetensors.torch.load(file.read())
    if checksum(document.model_dump(exclude={"sha256"}), tensors) != document.sha256:
        raise ValueError("it was damaged or changed after it was written (checksum mismatch)")
    return _unpack(tensors, document)


def _check_table(stored: Mapping[str, StoredTensor], document: TicketDocument) -> None:
    """Compare the header's table of tensors with the document before anything is allocated."""
    expected: dict[str, tuple[str, list[int] | None]] = {
        "edge_keep": ("U8", [packed_length(document.graph.num_edges)])
    }
    for name, shape in document.mask_shapes.items():
        expected[f"weight_mask/{name}"] = ("U8", [packed_length(math.prod(shape))])
    for name, spec in document.state.items():
        masked = name in document.mask_shapes
        compact_init = masked and not document.full_init
        expected[f"init/{name}"] = (spec.dtype, None if compact_init else spec.shape)
        expected[f"trained/{name}"] = (spec.dtype, None if masked else spec.shape)
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


def _unpack(tensors: Mapping[str, Tensor], document: TicketDocument) -> TicketFields:
    masks = {
        name: unpack_mask(tensors, f"weight_mask/{name}", shape)
        for name, shape in document.mask_shapes.items()
    }
    in_init = {} if document.full_init else masks
    return {
        "edge_keep": unpack_mask(tensors, "edge_keep", [document.graph.num_edges]),
        "weight_masks": masks,
        "init_state": {
            name: from_stored(tensors, f"init/{name}", in_init.get(name)) for name in document.state
        },
        "trained_state": {
            name: from_stored(tensors, f"trained/{name}", masks.get(name))
            for name in document.state
        },
        "metrics": document.metrics,
        "settings": document.settings,
        "provenance": document.provenance,
        "history": document.history,
        "graph": document.graph.model_dump(),
        "model": document.model.model_dump(),
        "init_is_full": document.full_init,
    }
