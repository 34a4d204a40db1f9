"""Plain ``.npy`` files of one array of numbers: mapped into memory strictly, written in chunks."""

from __future__ import annotations

import math
import os
import re
import stat
import struct
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from fastglt.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    Array = np.ndarray[Any, np.dtype[Any]]

_MAGIC: Final = b"\x93NUMPY\x01\x00"
_LENGTH: Final = "<H"
# As numpy writes it. Its own reader evaluates the header, which a stranger may have written.
_HEADER: Final = re.compile(
    r"\{\s*'descr':\s*'(?P<type>[<>|=]?[A-Za-z]\d{0,3})',"
    r"\s*'fortran_order':\s*(?P<fortran>True|False),"
    r"\s*'shape':\s*\((?P<shape>[\d,\s]{0,200})\),?\s*\}\s*"
)
_ROWS_BYTES: Final = 1 << 24


def map_array(path: Path) -> Array:
    """Map a file; pages are read when they are looked at, and writes stay in this process.

    Args:
        path: A regular file in format 1.0, as :func:`numpy.save` writes it, rows after rows.

    Raises:
        InputError: If it is a link, is no such file, holds objects, or its size is not what its
            header says.
    """
    try:
        # The descriptor is what is checked and mapped, whatever becomes of the name meanwhile.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | _binary())
    except (OSError, ValueError) as error:
        if path.is_symlink():
            raise InputError(f"{path} must be a file itself (got a link); put it here") from error
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path} must be a readable .npy file (got {reason})") from error
    with os.fdopen(descriptor, "rb") as reader:
        status = os.fstat(descriptor)
        if path.is_symlink() or not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} must be a regular file (got a link, a pipe or a device)")
        dtype, shape = _header(path, reader)
        start = reader.tell()
        expected = start + math.prod(shape) * dtype.itemsize
        if status.st_size != expected:
            raise InputError(
                f"{path} must have {expected} bytes for {dtype} of shape {list(shape)} "
                f"(got {status.st_size})"
            )
        # Copy on write: torch takes no arrays that must not be written.
        try:
            return np.memmap(reader, dtype=dtype, mode="c", offset=start, shape=shape)
        except (OverflowError, ValueError) as error:  # such as an empty array of 10^30 columns
            raise InputError(f"{path} cannot be mapped: {error}") from error


def write_array(path: Path, array: Array, dtype: np.dtype[Any]) -> None:
    """Write an array in a type, converting and copying a few rows at a time.

    Args:
        path: The file to create or overwrite.
        array: Numbers of any type and order.
        dtype: The type to write.
    """
    descr = np.lib.format.dtype_to_descr(dtype)
    header = {"descr": descr, "fortran_order": False, "shape": array.shape}
    with path.open("wb") as writer:
        np.lib.format.write_array_header_1_0(writer, header)
        rows = array.reshape(1) if array.ndim == 0 else array
        step = max(1, _ROWS_BYTES // max(rows[:1].size * dtype.itemsize, 1))
        for start in range(0, len(rows), step):
            part = rows[start : start + step].astype(dtype, copy=False)
            writer.write(np.ascontiguousarray(part).data)


def _header(path: Path, reader: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    prefix = reader.read(len(_MAGIC) + struct.calcsize(_LENGTH))
    if prefix[: len(_MAGIC)] != _MAGIC or len(prefix) < len(_MAGIC) + struct.calcsize(_LENGTH):
        raise InputError(f"{path} must be a .npy file of format 1.0, as numpy.save writes it")
    (length,) = struct.unpack(_LENGTH, prefix[len(_MAGIC) :])
    found = _HEADER.fullmatch(reader.read(length).decode("latin1"))
    if found is None:
        raise InputError(f"{path} must be an array of numbers (got another header)")
    if found["type"].lstrip("|<>=").startswith("O"):
        raise InputError(
            f"{path} must hold numbers only (got pickled objects, which are never loaded); save it "
            "as a plain array"
        )
    try:
        dtype = np.dtype(found["type"])
        shape = tuple(int(size) for size in found["shape"].split(",") if size.strip())
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} must be an array of numbers (got: {error})") from error
    if dtype.kind not in "biuf":
        raise InputError(f"{path} must be an array of numbers (got {dtype})")
    if found["fortran"] == "True" and len(shape) > 1:
        raise InputError(
            f"{path} must be stored row by row (got column by column); write it from "
            "numpy.ascontiguousarray(array)"
        )
    return dtype, shape


def _binary() -> int:
    return getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
