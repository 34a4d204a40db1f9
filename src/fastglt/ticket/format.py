"""The ticket file: one safetensors file, written as a whole and checked before it is believed.

The header metadata has one entry, ``fastglt``: a JSON document with a checksum over itself and the
tensors, against damage (not against forgery). What the document and the tensors are is the business
of :mod:`fastglt.ticket.layout`.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors.torch
from safetensors import SafetensorError

from fastglt import _strict_json
from fastglt._atomic import atomic_write
from fastglt.errors import InputError, OutputPathError, TicketFileError, cut
from fastglt.ticket.document import parse_document
from fastglt.ticket.layout import check_table, pack, unpack
from fastglt.ticket.packing import checksum
from fastglt.ticket.safetensors_header import MAX_HEADER_BYTES, ForeignFileError, read_header

if TYPE_CHECKING:
    from typing import Any, BinaryIO

    from fastglt.ticket.content import TicketContent

DOCUMENT_KEY = "fastglt"
MOST_REASON = 500
"""Characters of a reason that a message gives; names in a file may be of any length."""


def write_ticket(path: str | os.PathLike[str], ticket: TicketContent, full_init: bool) -> None:
    """Write a ticket file; an existing one is replaced only when the new one is complete.

    Args:
        path: Where to write.
        ticket: A consistent ticket.
        full_init: Whether to store the pruned entries of the rewind state too.

    Raises:
        InputError: Metrics, settings, provenance or history have no strict JSON form.
        OutputPathError: ``path`` cannot be written.
    """
    content, tensors = pack(ticket, full_init)
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


def read_ticket(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a ticket file, believing nothing in it before it was checked. No code is executed.

    Args:
        path: The file.

    Returns:
        dict[str, Any]: The fields of :class:`~fastglt.ticket.Ticket`, tensors on the CPU.

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
    except ForeignFileError as error:
        raise TicketFileError(
            f"{str(path)!r} is not a ticket: {error}; give a file that fastglt find or "
            "fastglt.Ticket.save has written"
        ) from error
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
    text = cut(str(reason), MOST_REASON)
    return TicketFileError(
        f"ticket {os.fspath(path)!r} cannot be loaded: {text}; unless this says what to do, copy "
        "the file again from its source or search again"
    )


def _decode(file: BinaryIO) -> dict[str, Any]:
    header = read_header(file, required_entry=DOCUMENT_KEY)
    document = parse_document(header.metadata[DOCUMENT_KEY])
    check_table(header.tensors, document)
    file.seek(0)
    tensors = safetensors.torch.load(file.read())
    if checksum(document.as_written(), tensors) != document.sha256:
        raise ValueError("it was damaged or changed after it was written (checksum mismatch)")
    return unpack(tensors, document)
