"""Programs of ``torch.export``, which ``torch.export.load(path).module()`` reads."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram


def check() -> None:
    """Nothing is needed but torch."""


def write(program: ExportedProgram, path: Path) -> None:
    """Write a program, deflated."""
    torch.export.save(program, path)
    deflate(path)


def load(path: Path) -> Callable[..., Tensor]:
    """What was written, as a function of the same inputs."""
    module: Callable[..., Tensor] = torch.export.load(path).module()
    return module


def deflate(path: Path) -> None:
    """Compress the members of an archive of torch, which stores them as they are.

    The folder that all of them lie in is called ``model``, not by the name of a temporary file.
    Older versions of torch write archives without such a folder.
    """
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    in_folder = len({name.partition("/")[0] for name in members}) == 1
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in members.items():
            renamed = f"model/{name.partition('/')[2]}" if in_folder else name
            # By itself the time of writing would be recorded.
            archive.writestr(zipfile.ZipInfo(renamed), content, zipfile.ZIP_DEFLATED)
