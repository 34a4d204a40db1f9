"""What a folder of checkpoints holds, and whether one can be made there; imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from fastglt._atomic import check_writable
from fastglt.errors import CheckpointError, OutputPathError

FILES = ("checkpoint-0.safetensors", "checkpoint-1.safetensors")
"""The checkpoints, which take turns."""
TICKET = "ticket.safetensors"
"""The ticket of a run that is over."""
LOCK = "lock"
"""Held by the process that writes."""


def check_folder(folder: Path, *, resume: bool) -> None:
    """Refuse at once a folder that cannot be written, or that holds what is not to be resumed.

    Args:
        folder: It; it is made if it is not there.
        resume: Whether to go on from what lies there.

    Raises:
        CheckpointError: If there is a checkpoint although ``resume`` is false.
        OutputPathError: If the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputPathError(
            f"checkpoint folder {str(folder)!r} cannot be made: {reason}"
        ) from error
    check_writable(folder / FILES[0])
    if not resume and any((folder / name).exists() for name in FILES):
        raise CheckpointError(
            f"{str(folder)!r} already holds a checkpoint; add --resume (resume=True) to go on from "
            "it, or give another folder"
        )
