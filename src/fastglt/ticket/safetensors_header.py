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


class ForeignFileError(ValueError):
    """The file is of another kind."""


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
        ForeignFileError: No such header, or it lacks ``required_entry``.
        ValueError: A file that is truncated or damaged.
    """
    available = os.fstat(file.fileno()).st_size - 8
    prefix = file.read(8)
    if available < 2 or len(prefix) < 8:
        raise ForeignFileError(f"it is too short for one ({available + 8} bytes)")
    (length,) = struct.unpack("<Q", prefix)
    first = file.read(1)
    if not 2 <= length <= MAX_HEADER_BYTES or first != b"{":
        raise ForeignFileError("it is not a safetensors file")
    if length > available:
        raise ValueError(
            f"it is truncated (its header is {length} bytes long, {available} are there)"
        )
    entries = _strict_json.loads(first + file.read(length - 1))
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or required_entry not in metadata:
        raise ForeignFileError(f"it is a safetensors file without {required_entry!r} in its header")
    return Header(
        validate(_Entries, {"tensors": entries}).tensors,
        validate(_Metadata, {"metadata": metadata}).metadata,
    )
