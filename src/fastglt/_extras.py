"""Packages that only some uses need."""

from __future__ import annotations

import importlib
from types import ModuleType

from fastglt.errors import InputError


def require(package: str, extra: str) -> ModuleType:
    """Import a package that an extra of ours installs.

    Args:
        package: Name of the package.
        extra: Name of the extra.

    Raises:
        InputError: If it is not installed; the message says how to.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package.partition(".")[0]:
            raise
        raise InputError(
            f"this needs the package {package}, which is not installed; "
            f'run: pip install "fastglt[{extra}]"'
        ) from error
