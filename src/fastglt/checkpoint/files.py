"""Two files that take turns, so that one good checkpoint is there whatever happens to the other.

Each is a safetensors file whose header holds a JSON document, with a checksum over itself and the
tensors. No code is executed and no path in a file is followed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import safetensors.torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from fastglt import _strict_json
from fastglt._atomic import atomic_write
from fastglt.checkpoint.places import FILES
from fastglt.checkpoint.tree import flatten, unflatten
from fastglt.errors import InputError, OutputPathError, cut
from fastglt.settings import first_problem
from fastglt.ticket.document import DTYPES
from fastglt.ticket.packing import checksum
from fastglt.ticket.safetensors_header import read_header

if TYPE_CHECKING:
    from typing import BinaryIO

DOCUMENT_KEY = "fastglt-checkpoint"
Count = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Record:
    """What is kept of a loop.

    Attributes:
        done: Steps that have been made.
        ended: Whether it is over.
        state: The states of its parts.
    """

    done: int
    ended: bool
    state: dict[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """What a file holds.

    Attributes:
        identity: What the run depends on.
        records: Of loops, by name.
        seconds: That stages took, by name.
        elapsed: Seconds that the whole run took up to here.
        finished: Whether the run is over.
        generation: Number of the checkpoint, from 1.
    """

    identity: dict[str, Any]
    records: dict[str, Record] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    elapsed: float = 0.0
    finished: bool = False
    generation: int = 0


class _Document(BaseModel):
    """The JSON of a file; no conversions and no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    version: Literal[1]
    generation: Count
    finished: bool
    elapsed: Seconds
    seconds: dict[str, Seconds]
    identity: dict[str, Any]
    records: dict[str, _RecordForm]
    tensors: list[_TensorForm]
    sha256: Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]


class _TensorForm(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    dtype: str
    shape: list[Count]


class _RecordForm(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    done: Count
    ended: bool
    state: Any


def write(folder: Path, slot: int, snapshot: Snapshot) -> None:
    """Replace one of the files; it is the old one or the whole new one at any time.

    Args:
        folder: Where they lie.
        slot: 0 or 1, which of them.
        snapshot: What to write.

    Raises:
        InputError: If a state holds what a checkpoint cannot.
        OutputPathError: If it cannot be written.
    """
    path = folder / FILES[slot]
    document, tensors = _encode(snapshot)
    metadata = {DOCUMENT_KEY: _strict_json.dumps(document, "checkpoint")}
    payload = safetensors.torch.save(tensors, metadata=metadata)
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(payload)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputPathError(
            f"checkpoint {str(path)!r} cannot be written: {reason}; {_left(folder)}"
        ) from error


def _left(folder: Path) -> str:
    """What is in the folder when a checkpoint could not be written."""
    if any((folder / name).exists() for name in FILES):
        return "the last good one was left as it is"
    return "there is none before it"


def read(folder: Path, slot: int) -> Snapshot | None:
    """Read one of the files, believing nothing in it before it was checked.

    Returns:
        Snapshot | None: What it holds, tensors on the CPU; ``None`` if there is no such file.

    Raises:
        ValueError: If it is damaged, truncated or no checkpoint.
        OSError: If it cannot be read.
    """
    path = folder / FILES[slot]
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is not a regular file")
        with path.open("rb") as file:
            return _decode(file)
    except FileNotFoundError:
        return None
    except SafetensorError as error:
        raise ValueError(cut(str(error))) from error


def _encode(snapshot: Snapshot) -> tuple[dict[str, Any], dict[str, Tensor]]:
    found: list[Tensor] = []
    records = {
        name: {"done": record.done, "ended": record.ended, "state": flatten(record.state, found)}
        for name, record in snapshot.records.items()
    }
    tensors = _unshared(found)
    document: dict[str, Any] = {
        "version": 1,
        "generation": snapshot.generation,
        "finished": snapshot.finished,
        "elapsed": snapshot.elapsed,
        "seconds": snapshot.seconds,
        "identity": snapshot.identity,
        "records": records,
        "tensors": [
            {"dtype": str(tensor.dtype), "shape": list(tensor.shape)} for tensor in tensors.values()
        ],
    }
    document["sha256"] = checksum(document, tensors)
    return document, tensors


def _unshared(found: list[Tensor]) -> dict[str, Tensor]:
    """The tensors by their places, on the CPU; those that share memory are copied."""
    tensors, seen = {}, set()
    for place, tensor in enumerate(found):
        if tensor.dtype not in DTYPES.values():
            raise InputError(f"a checkpoint cannot hold tensors of type {tensor.dtype}")
        here = tensor.detach().to("cpu").contiguous()
        storage = here.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != here.nbytes:
            here = here.clone()
        seen.add(here.untyped_storage().data_ptr())
        tensors[str(place)] = here
    return tensors


def _decode(file: BinaryIO) -> Snapshot:
    size = os.fstat(file.fileno()).st_size
    header = read_header(file, required_entry=DOCUMENT_KEY)
    for name, stored in header.tensors.items():
        if stored.dtype not in DTYPES:
            raise ValueError(
                f"tensor {name!r} is of type {stored.dtype}, which no checkpoint holds"
            )
    value = _strict_json.loads(header.metadata[DOCUMENT_KEY])
    try:
        document = _Document.model_validate(value)
    except ValidationError as error:
        place, problem = first_problem(error)
        raise ValueError(f"its document is not one of a checkpoint: {place}: {problem}") from None
    file.seek(0)
    tensors = safetensors.torch.load(file.read(size))
    listed = {str(place): (each.dtype, each.shape) for place, each in enumerate(document.tensors)}
    found = {name: (str(tensor.dtype), list(tensor.shape)) for name, tensor in tensors.items()}
    if listed != found:
        raise ValueError("its tensors are not those that its document lists")
    content = {name: entry for name, entry in value.items() if name != "sha256"}
    if checksum(content, tensors) != document.sha256:
        raise ValueError("it was damaged or changed after it was written (checksum mismatch)")
    ordered = [tensors[str(place)] for place in range(len(tensors))]
    return Snapshot(
        document.identity,
        {
            name: Record(form.done, form.ended, _state(unflatten(form.state, ordered)))
            for name, form in document.records.items()
        },
        document.seconds,
        document.elapsed,
        document.finished,
        document.generation,
    )


def _state(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("the state of a loop must have names")
    return value
