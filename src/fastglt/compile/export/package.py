"""AOTInductor packages: machine code, which ``torch._inductor.aoti_load_package`` runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor
from torch.export import ExportedProgram

from fastglt.compile.export.program import deflate
from fastglt.compile.export.quiet import quietly
from fastglt.errors import InputError


def check() -> None:
    """Make sure that there is a C++ compiler.

    Raises:
        InputError: If torch finds none.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except RuntimeError as error:
        raise InputError(
            "a package is machine code, and no C++ compiler was found to make it; install g++, or "
            "name another one in the environment variable CXX"
        ) from error


def write(program: ExportedProgram, path: Path) -> None:
    """Compile a program for the machine at hand."""
    import torch._inductor

    with quietly():
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    deflate(path)


def load(path: Path) -> Callable[..., Tensor]:
    """What was written, as a function of the same inputs."""
    import torch._inductor

    compiled: Callable[..., Tensor] = torch._inductor.aoti_load_package(str(path))
    return compiled
