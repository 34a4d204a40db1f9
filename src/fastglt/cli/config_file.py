"""``--config file.toml``: options from a file."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from fastglt.cli.options import FIND_SPECS, option_names
from fastglt.errors import InputError, UnknownNameError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FIND_NAMES = option_names(*FIND_SPECS)
"""Names of the options of ``find``."""


def with_config(given: Mapping[str, Any], known: Collection[str] = FIND_NAMES) -> dict[str, Any]:
    """Options of the command line, completed by those of its ``--config`` file.

    Args:
        given: Option name to value, as given on the command line.
        known: Names that the file may hold, with underscores.

    Raises:
        InputError: If the file cannot be read, is not TOML or has a key twice.
        UnknownNameError: If a key is not the name of an option.
    """
    options = dict(given)
    path = options.pop("config", None)
    return options if path is None else {**read_config(path, known), **options}


def read_config(path: Path, known: Collection[str] = FIND_NAMES) -> dict[str, Any]:
    """Read a config file: options by name, with dashes or underscores.

    Args:
        path: A TOML file.
        known: Names of the options, with underscores.

    Raises:
        InputError: If the file cannot be read, is not TOML or has a key twice.
        UnknownNameError: If a key is not the name of an option.
    """
    options: dict[str, Any] = {}
    for key, value in _parsed(path).items():
        name = key.replace("-", "_")
        if name not in known:
            raise UnknownNameError(f"option in {path}", key, known)
        if name in options:
            raise InputError(f"{path} has {name!r} twice, with a dash and with an underscore")
        options[name] = value
    return options


def _parsed(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"config file {str(path)!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"config file {str(path)!r} is not UTF-8 text: {error}") from error
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits
        raise InputError(f"config file {str(path)!r} is not valid TOML: {error}") from error
    return content
