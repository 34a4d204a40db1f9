"""Mutations of ``.npz`` files: the arrays, the archive around them, and lies about sizes."""

from __future__ import annotations

import functools
import io
import struct
import warnings
import zipfile
from random import Random
from typing import Any

import numpy as np

from _fuzz_json import EDGES, TEXTS, mutate_bytes

_DESCRIPTIONS = (
    *("'<i8'", "'>i8'", "'<i4'", "'|i1'", "'|u1'", "'<u8'", "'<f4'", "'<f8'", "'<f2'", "'|b1'"),
    *("'|O'", "'<c16'", "'|V8'", "'|S1000000000'", "'<U9'", "'<M8[s]'", "'<m8[ns]'", "''", "None"),
    *("[('a', '<i8'), ('b', '|O')]", "[('a', '<i8')]", "'<i99'", "('<i8', (1000000,))", "3"),
)
_SHAPES = (
    *("()", "(0,)", "(1,)", "(2, 0)", "(-1,)", "(-8, -8)", "(3.5,)", "(True,)", "None", "'x'"),
    *("(2**40,)", "(9223372036854775807,)", "(4294967296, 4294967296)", "(0, 99999999999999)"),
    *("(1000000000000,)", "(2, 500000000000)", "(" + "1, " * 64 + ")", "[2, 5]", "((1,),)"),
)
_NAMES = (
    *("edge_index", "edge_weight", "edge_attr", "x", "y", "labels", "num_nodes", "train_mask"),
    *("val_mask", "test_mask", "repeated_links", "adj_indptr", "adj_indices", "adj_data"),
    *("adj_shape", "x_indptr", "x_indices", "x_data", "x_shape", "attr_indptr", "attr_shape"),
    *("train_pos_edge_label_index", "val_pos_edge_label_index", "node_names", "metadata"),
    *(text[:200] for text in TEXTS),
)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_BOMB_BYTES = 2**28
# Offset and width of the fields of an entry in the central directory.
_ENTRY_FIELDS = {
    "flags": (8, 2), "method": (10, 2), "crc": (16, 4), "compressed": (20, 4), "size": (24, 4),
    "name": (28, 2), "extra": (30, 2), "comment": (32, 2), "offset": (42, 4),
}  # fmt: skip
_END_FIELDS = {"disk": (4, 2), "here": (8, 2), "all": (10, 2), "size": (12, 4), "offset": (16, 4)}


def mutate_npz(rng: Random, data: bytes, other: bytes) -> bytes:
    """A changed archive.

    Args:
        rng: Chooses.
        data: A valid file.
        other: Another one, to take parts of.
    """
    kind = rng.randrange(8)
    if kind == 0:
        return mutate_bytes(rng, data, other)
    if kind == 1:
        return _with_other_fields(rng, data)
    if kind == 2 and rng.random() < 0.05:
        method = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
        return _bomb(rng.choice(("x.npy", "metadata.npy")), method)
    members = _members(data)
    if kind in (2, 3):
        _change_members(rng, members, _members(other))
    elif kind in (4, 5):
        name = rng.choice(list(members))
        members[name] = _with_other_header(rng, members[name])
    else:
        name = rng.choice(list(members))
        members[name] = _with_other_values(rng, members[name])
    return _archive(rng, members)


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _archive(rng: Random, members: dict[str, bytes]) -> bytes:
    file, method = io.BytesIO(), zipfile.ZIP_STORED
    if rng.random() < 0.3:
        method = rng.choice(_METHODS)
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as archive:
        warnings.simplefilter("ignore")  # of names that are there twice, on purpose
        for name, content in members.items():
            for _ in range(2 if rng.random() < 0.02 else 1):
                archive.writestr(zipfile.ZipInfo(name or "x"), content, method)
    return file.getvalue()


def _change_members(rng: Random, members: dict[str, bytes], others: dict[str, bytes]) -> None:
    name = rng.choice(list(members))
    change = rng.randrange(5)
    new = rng.choice(_NAMES) + rng.choice((".npy", ".npy", ".npy", "", ".txt"))
    if change == 0:
        del members[name]
    elif change == 1:
        members[new] = members.pop(name)
    elif change == 2:
        members[new] = rng.choice([*others.values(), *members.values()])
    elif change == 3:
        members[name] = mutate_bytes(rng, members[name])
    else:
        members[name] = rng.choice([*others.values(), b"", b"\x80\x04.", b"\x93NUMPY"])


def _with_other_header(rng: Random, member: bytes) -> bytes:
    """An array whose header says something else, its bytes being the same."""
    array, start = _array(member)
    header = {
        "'descr'": repr(array.dtype.str), "'fortran_order'": "False", "'shape'": str(array.shape),
    }  # fmt: skip
    for _ in range(rng.randint(1, 2)):
        change = rng.randrange(6)
        if change in (0, 1):
            header["'descr'"] = rng.choice(_DESCRIPTIONS)
        elif change in (2, 3):
            header["'shape'"] = rng.choice(_SHAPES)
        elif change == 4:
            header["'fortran_order'"] = rng.choice(("True", "1", "None"))
        else:
            header[rng.choice(("'more'", "'shape'", "3"))] = rng.choice(
                ("1", "(" * 200 + ")" * 200)
            )
    text = ("{" + ", ".join(f"{key}: {value}" for key, value in header.items()) + "}\n").encode()
    version = rng.choice(((1, 0), (1, 0), (2, 0), (3, 0), (9, 9)))
    width = 2 if version == (1, 0) else 4
    length = len(text) if rng.random() < 0.9 else rng.choice(EDGES) & ((1 << 8 * width) - 1)
    prefix = b"\x93NUMPY" + bytes(version) + length.to_bytes(width, "little")
    return prefix + text + member[start:]


def _with_other_values(rng: Random, member: bytes) -> bytes:
    array, _ = _array(member)
    array = array.copy()
    change = rng.randrange(4)
    if change == 0:
        array = array.astype(rng.choice(("i8", "u8", "f8", "f2", "i1", "?", "U3", ">i4")))
    elif change == 1:
        array = rng.choice((array.T, array.ravel(), array[None], array.ravel()[:-1]))
    if array.size:
        for _ in range(rng.randint(0, 3)):
            _set_any(rng, array)
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()


def _set_any(rng: Random, array: Any) -> None:
    value: Any = rng.choice([*EDGES, -1, -(2**63), 5, 10**6, float("nan"), float("inf"), 1e300])
    try:
        with np.errstate(all="ignore"):
            array.flat[rng.randrange(array.size)] = np.array(value).astype(array.dtype)
    except (ValueError, OverflowError, TypeError):
        array.flat[rng.randrange(array.size)] = 1


def _array(member: bytes) -> tuple[Any, int]:
    file = io.BytesIO(member)
    array = np.lib.format.read_array(file, allow_pickle=False)
    return array, len(member) - array.nbytes


def _with_other_fields(rng: Random, data: bytes) -> bytes:
    """An archive whose directory lies."""
    result = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        mark, fields = rng.choice(((b"PK\x01\x02", _ENTRY_FIELDS), (b"PK\x05\x06", _END_FIELDS)))
        starts = _found(result, mark)
        if not starts:
            return bytes(result)
        start = rng.choice(starts)
        offset, width = rng.choice(list(fields.values()))
        number = rng.choice([*EDGES, 8, 12, 14, 99, rng.randrange(2**16)])
        place = start + offset
        result[place : place + width] = (number & ((1 << 8 * width) - 1)).to_bytes(width, "little")
    return bytes(result)


def _found(data: bytes, mark: bytes) -> list[int]:
    places, start = [], data.find(mark)
    while start >= 0:
        places.append(start)
        start = data.find(mark, start + 1)
    return places


@functools.cache
def _bomb(name: str, method: int) -> bytes:
    """An archive with a member that is thousands of times larger than it looks."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({_BOMB_BYTES // 8}, 8)}}\n"
    head = b"\x93NUMPY" + bytes((1, 0)) + struct.pack("<H", len(text)) + text.encode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        info = zipfile.ZipInfo(name)
        info.compress_type = method
        with archive.open(info, "w") as member:
            member.write(head)
            for _ in range(_BOMB_BYTES >> 20):
                member.write(bytes(1 << 20))
    return file.getvalue()
