"""The header of a safetensors file, read before anything else of the file is."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict

from fastglt import _strict_json
from fastglt.ticket.document import Count, Shape, validate

if TYPE_CHECKING:
    from typing import BinaryIO

MAX_HEADER_BYTES = 100_000_000
"""Longest header that safetensors reads."""


class StoredTensor(BaseModel):
    """What the header says about one tensor."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    dtype: str
    shape: Shape
    data_offsets: list[Count]


class Header(NamedTuple):
    """Tensors by name, and the free text entries."""

    tensors: dict[str, StoredTensor]
    metadata: dict[str, str]


class _Entries(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)

    tensors: dict[str, StoredTensor]


class _Metadata(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)

    metadata: dict[str, str]


def read_header(file: BinaryIO, required_entry: str) -> Header:
    """Read and check the header of a safetensors file.

    The safetensors library checks sizes and offsets when it loads the tensors; it lets repeated
    names and overflowing shapes through, so these are refused here.

    Args:
        file: Open at its beginning.
        required_entry: Metadata key without which the file belongs to another program.

    Returns:
        Header: What it says.

    Raises:
        ValueError: No such header, or it lacks ``required_entry``.
    """
    available = os.fstat(file.fileno()).st_size - 8
    prefix = file.read(8)
    if available < 2 or len(prefix) < 8:
        raise ValueError(f"it is too short to be a ticket ({available + 8} bytes)")
    (length,) = struct.unpack("<Q", prefix)
    if length > min(available, MAX_HEADER_BYTES):
        raise ValueError(
            f"its header would be {length} bytes long, {available} are there: truncated, or not a "
            "safetensors file"
        )
    text = file.read(length)
    if not text.startswith(b"{"):
        raise ValueError("it is not a safetensors file")
    entries = _strict_json.loads(text)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or required_entry not in metadata:
        raise ValueError(
            f"it is a safetensors file, but not a ticket (no {required_entry!r} in its header)"
        )
    return Header(
        validate(_Entries, {"tensors": entries}).tensors,
        validate(_Metadata, {"metadata": metadata}).metadata,
    )
