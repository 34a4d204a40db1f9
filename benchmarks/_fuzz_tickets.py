"""Mutations of safetensors files that hold a JSON document in their header."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from _fuzz_json import EDGES, hostile, mutate_bytes, mutate_json

Seal = Callable[[bytes, dict[str, Any]], None]
"""``seal(file, document)`` writes into the document the checksum that it must have."""

_TYPES = ("BOOL", "U8", "I8", "I16", "I32", "I64", "F16", "BF16", "F32", "F64", "F8_E5M2", "C64")


def mutate_safetensors(
    rng: Random, data: bytes, other: bytes, extra: Sequence[Any], entry: str, seal: Seal
) -> bytes:
    """A changed file: bytes anywhere, its table, its document or its tensors.

    Args:
        rng: Chooses.
        data: A valid file.
        other: Another one, to take parts of.
        extra: Values to put into JSON.
        entry: Key of the document in the header's metadata.
        seal: Makes documents and tensors that were changed pass the checksum.
    """
    kind = rng.randrange(6)
    if kind == 0:
        return mutate_bytes(rng, data, other)
    header, tensors = _split(data)
    if kind == 1:
        return _joined(
            rng, mutate_json(rng, header, extra).encode("utf-8", "surrogatepass"), tensors
        )
    if kind == 2:
        text = mutate_json(rng, json.loads(header["__metadata__"][entry]), extra)
        return _with_document(rng, header, entry, _sealed(text, data, seal), tensors)
    if kind == 3:
        changed = mutate_bytes(rng, tensors, other)[: len(tensors)].ljust(len(tensors), b"\0")
        whole = _joined(None, json.dumps(header).encode(), changed)
        document = _sealed(header["__metadata__"][entry], whole, seal)
        return _with_document(rng, header, entry, document, changed)
    if kind == 4:
        _change_tensor(rng, header)
        return _joined(rng, json.dumps(header).encode(), tensors)
    return _other_length(rng, data)


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _joined(rng: Random | None, header: bytes, tensors: bytes) -> bytes:
    length = len(header)
    if rng is not None and rng.random() < 0.1:
        length += rng.choice((-1, 1, 8))
    return struct.pack("<Q", max(length, 0)) + header + tensors


def _with_document(
    rng: Random, header: dict[str, Any], entry: str, document: str, tensors: bytes
) -> bytes:
    changed = header | {"__metadata__": header["__metadata__"] | {entry: document}}
    return _joined(rng, json.dumps(changed).encode(), tensors)


def _sealed(text: str, file: bytes, seal: Seal) -> str:
    try:
        document = json.loads(text)
        seal(file, document)
        return json.dumps(document)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return text  # not a document any more


def _change_tensor(rng: Random, header: dict[str, Any]) -> None:
    names = [name for name in header if name != "__metadata__"]
    if not names:
        header["new"] = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
        return
    name = rng.choice(names)
    tensor = header[name]
    change = rng.randrange(5)
    if change == 0:
        tensor["dtype"] = rng.choice(_TYPES)
    elif change == 1:
        size = rng.choice([*EDGES, -1, 2**40])
        tensor["shape"] = rng.choice(([size], [size, size], [size, 0], [1] * 40, [0, 2**63]))
    elif change == 2:
        tensor["data_offsets"] = [rng.choice(EDGES), rng.choice(EDGES)]
    elif change == 3:
        header[rng.choice((f"{name}x", "../x", "", "edge_list"))] = header.pop(name)
    else:
        tensor[rng.choice(("dtype", "shape", "data_offsets", "more"))] = hostile(rng)


def _other_length(rng: Random, data: bytes) -> bytes:
    return struct.pack("<Q", rng.choice([*EDGES, 100_000_000, 100_000_001])) + data[8:]
