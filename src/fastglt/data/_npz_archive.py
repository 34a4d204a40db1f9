"""The arrays of an ``.npz`` archive, none of whose claims are believed before they are checked.

``numpy.load`` allocates what a header asks for, unpacks anything that zip knows and raises errors
of a dozen types; what is read here is bounded by the size of the file and the free memory.
"""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
from numpy.lib import format as npy

from fastglt._memory import check_fits
from fastglt.errors import InputError, shown

if TYPE_CHECKING:
    from collections.abc import Collection

    Array = np.ndarray[Any, np.dtype[Any]]

_SUFFIX: Final = ".npy"
_MOST_PACKED: Final = 1032
"""Deflate packs no more bytes than that into one."""
_HEADERS: Final = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_ENCRYPTED: Final = 1
_COPIES: Final = 3
"""Copies of an array in 8 bytes a number that exist at once while a graph is made and checked."""
_FAILURES: Final = (
    *(ValueError, TypeError, LookupError, EOFError, RecursionError, ArithmeticError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, tokenize.TokenError),
)
"""What zipfile and numpy raise on damaged files."""


def read_arrays(reader: BinaryIO, ignored: Collection[str]) -> dict[str, Array]:
    """All arrays of an archive by their names.

    Args:
        reader: The file, open at any place.
        ignored: Names of arrays that are left out, unread.

    Returns:
        dict[str, Array]: The arrays; none holds objects.

    Raises:
        InputError: If they would not fit into memory, or one holds objects.
        ValueError: If the archive is damaged, holds something else than arrays, is packed by
            another method than numpy's, or declares what it does not hold.
    """
    try:
        with zipfile.ZipFile(reader) as archive:
            size = reader.seek(0, 2)
            members = _members(archive, size, ignored)
            needed = sum(_checked(archive, info) for info in members.values())
            check_fits(needed, "the graph")
            return {name: _array(archive, info) for name, info in members.items()}
    except InputError:
        raise
    except _FAILURES as error:
        # The first line: numpy quotes the whole header of an array, and more.
        lines = str(error).splitlines() or [type(error).__name__]
        raise ValueError(lines[0][:300]) from error


def _members(
    archive: zipfile.ZipFile, size: int, ignored: Collection[str]
) -> dict[str, zipfile.ZipInfo]:
    """The members to read by the names of their arrays; sizes are those of the file."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(_SUFFIX)
        if name in ignored:
            continue
        if name == info.filename:
            raise ValueError(f"its member {shown(name)} is no array")
        if name in members:
            raise ValueError(f"it has the array {shown(name)} twice")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"the array {shown(name)} is packed by method {info.compress_type}")
        if info.flag_bits & _ENCRYPTED:
            raise ValueError(f"the array {shown(name)} is encrypted")
        members[name] = info
    if sum(info.file_size for info in members.values()) > _MOST_PACKED * size:
        raise ValueError("it declares more than its size can hold")
    return members


def _checked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    """Refuse an array by its header; the bytes that reading and using it takes."""
    with archive.open(info) as member:
        version = npy.read_magic(member)
        if version not in _HEADERS:
            raise ValueError(f"the array {shown(info.filename)} has version {version}")
        shape, _, dtype = _HEADERS[version](member)
        start = member.tell()
    if dtype.hasobject:
        raise InputError(
            f"the array {shown(info.filename)} must hold numbers (got pickled objects, which are "
            "never loaded); save it as a plain array"
        )
    if any(not isinstance(length, int) or length < 0 for length in shape) or len(shape) > 8:
        raise ValueError(f"the array {shown(info.filename)} has the shape {shown(shape)}")
    count = math.prod(shape)
    if count * dtype.itemsize != info.file_size - start:
        raise ValueError(
            f"the array {shown(info.filename)} declares {count} numbers of {dtype} and holds "
            f"{info.file_size - start} bytes"
        )
    return info.file_size + 8 * _COPIES * count


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    with archive.open(info) as member:
        array: Array = npy.read_array(member, allow_pickle=False)
    return array
