"""The checkpoint files of a run as something to fuzz."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import safetensors.torch
import torch

from _fuzz_tickets import mutate_safetensors
from fastglt.checkpoint.files import DOCUMENT_KEY, Record, Snapshot, read, write
from fastglt.checkpoint.places import FILES
from fastglt.errors import CheckpointError, cut
from fastglt.ticket.packing import checksum


def seeds() -> list[bytes]:
    """A checkpoint in the middle of a run, and one of a run that is over."""
    weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    state = {
        "model": {"weight": weight.detach()},
        "optimizer": optimizer.state_dict(),
        "mask": torch.tensor([True, False, True]),
        "random": torch.get_rng_state()[:64],
        "best": (1, float("-inf"), None, [0.5, "x"]),
    }
    records = {"dense": Record(4, True, {}), "denoise": Record(7, False, state)}
    made = (
        Snapshot({"seed": 0, "settings": {"lr": 0.01}}, records, {"dense": 0.5}, 1.5, False, 3),
        Snapshot({"seed": 0}, {}, {}, 2.5, True, 4),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for slot, snapshot in enumerate(made):
            write(folder, slot, snapshot)
        return [(folder / file).read_bytes() for file in FILES]


def read_one(file: Path, scratch: Path) -> None:
    """Read a file as the first of a folder."""
    shutil.copyfile(file, scratch / FILES[0])
    try:
        snapshot = read(scratch, 0)
    except CheckpointError:
        raise
    except ValueError as error:  # which the folder of a run makes such an error, too
        raise CheckpointError(f"the checkpoint cannot be used: {cut(str(error))}") from error
    if snapshot is None:
        raise AssertionError("the checkpoint was not there")
    write(scratch, 1, snapshot)
    first = (scratch / FILES[1]).read_bytes()
    again = read(scratch, 1)
    if again is None:
        raise AssertionError("the checkpoint was not there")
    write(scratch, 1, again)
    if (scratch / FILES[1]).read_bytes() != first:
        raise AssertionError("the checkpoint is another one after it was written and read again")


def mutate(rng: Random, data: bytes, other: bytes, extra: Sequence[Any]) -> bytes:
    """A changed file, see :func:`_fuzz_tickets.mutate_safetensors`."""
    return mutate_safetensors(rng, data, other, extra, DOCUMENT_KEY, _seal)


def _seal(file: bytes, document: dict[str, Any]) -> None:
    document.pop("sha256", None)
    document["sha256"] = checksum(document, safetensors.torch.load(file))
