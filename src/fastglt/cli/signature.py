"""The signature that typer reads the options of a command from, made from pydantic models.

A model's field becomes the option ``--field-name``; type, choices, help and default are the
field's own.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from fastglt.cli.options import GRAPH_TASKS, METHODS, Spec, option_fields
from fastglt.search.presets import PRESETS
from fastglt.settings import Settings

_NAMES: dict[str, tuple[str, ...]] = {
    "method": METHODS,
    "preset": tuple(PRESETS),
    "task": GRAPH_TASKS,
}
_METAVARS = {"task": "NAME", "split": "TRAIN,VAL"}


def parameters(
    specs: tuple[Spec, ...], arguments: Mapping[str, Any], leave_out: Container[str] = ()
) -> inspect.Signature:
    """The signature of a command, for typer.

    Args:
        specs: Models whose fields become options; a model's own fields come before inherited ones.
        arguments: Positional arguments: name to annotation.
        leave_out: Fields that are no options of this command.
    """
    kind = inspect.Parameter.KEYWORD_ONLY
    entries = [
        inspect.Parameter(name, kind, annotation=annotation)
        for name, annotation in arguments.items()
    ]
    for spec in specs:
        for name, field in option_fields(spec):
            if name in leave_out or name in {entry.name for entry in entries}:
                continue
            kind_or_none: Any = _plain_type(field) | None
            annotation: Any = Annotated[kind_or_none, _option(name, field)]
            entries.append(inspect.Parameter(name, kind, default=None, annotation=annotation))
    return inspect.Signature(entries)


def _option(name: str, field: FieldInfo) -> Any:
    flag = f"--{name.replace('_', '-')}"
    if _plain_type(field) is bool and name != "json":  # that one no config file can switch on
        flag = f"{flag}/--no-{name.replace('_', '-')}"
    return typer.Option(
        flag, help=_help(name, field), metavar=_metavar(name, field), show_default=False
    )


def _plain_type(field: FieldInfo) -> Any:
    """The type that typer parses: choices are checked with everything else, by the model."""
    kind = _without_none(field.annotation)
    if get_origin(kind) is Literal or kind in (tuple[str, ...], tuple[int, ...]):
        return str
    if kind not in (str, int, float, bool, Path):
        raise TypeError(f"no command-line option can be made for a setting of type {kind}")
    return kind


def _without_none(kind: Any) -> Any:
    if get_origin(kind) not in (Union, types.UnionType):
        return kind
    (only,) = (part for part in get_args(kind) if part is not types.NoneType)
    return only


def _metavar(name: str, field: FieldInfo) -> str | None:
    if name in _METAVARS:
        return _METAVARS[name]
    kind = _without_none(field.annotation)
    if get_origin(kind) is Literal:
        return "|".join(str(choice) for choice in get_args(kind))
    if kind == tuple[str, ...]:
        return "PATTERNS"
    if kind == tuple[int, ...]:
        return "NUMBERS"
    return {Path: "PATH", str: "NAME", int: "INTEGER", float: "NUMBER"}.get(kind)


def _help(name: str, field: FieldInfo) -> str:
    text = field.description or ""
    if name in _NAMES:
        text += f": {', '.join(_NAMES[name])}"
    if field.default is None or field.default is False or field.default == ():
        return text
    by_preset = {
        preset: values[name]
        for preset, values in PRESETS.items()
        if name in Settings.model_fields
        and _shown(values.get(name, field.default)) != _shown(field.default)
    }
    text += f"; default: {_shown(field.default)}"
    if by_preset:
        differing = ", ".join(f"{preset}: {_shown(value)}" for preset, value in by_preset.items())
        text += f" ({differing})"
    return text


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
