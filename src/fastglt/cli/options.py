"""Options of the commands, made from pydantic models so that nothing is declared twice.

A model's field becomes the option ``--field-name``; type, choices, help and default are the
field's own. An option that is not given is absent, not its default, so that a config file, a
preset or a ticket can supply it.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from fastglt.data.catalogue import CATALOGUE
from fastglt.data.entry import GRAPH_CLASSIFICATION, TASKS
from fastglt.models import BACKBONES
from fastglt.models.config import BackboneConfig
from fastglt.search import METHOD_MODULES
from fastglt.settings import PRESETS, Settings, as_input_error

Spec = type[BaseModel]
_Model = TypeVar("_Model", bound=BaseModel)

METHODS = tuple(METHOD_MODULES)
MODELS = tuple(BACKBONES)
GRAPH_TASKS = tuple(task for task in TASKS if task != GRAPH_CLASSIFICATION)
"""Tasks on one graph; datasets of many graphs are for Python."""
DENOISING_METHODS = frozenset({"fastglt"})
"""Methods whose tickets have a history to plot."""

_NAMES: dict[str, tuple[str, ...]] = {
    "method": METHODS,
    "preset": tuple(PRESETS),
    "task": GRAPH_TASKS,
}
_METAVARS = {"task": "NAME", "split": "TRAIN,VAL"}


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RootOptions(_Options):
    """Where datasets lie."""

    root: Path | None = Field(
        default=None,
        description="folder with the datasets, only ever read; default: $FASTGLT_DATA, if it is "
        "set; then come cache and download",
    )


class DataOptions(RootOptions):
    """The graph."""

    dataset: str | None = Field(
        default=None, description=f"graph: {', '.join(entry.name for entry in CATALOGUE)}"
    )
    data: Path | None = Field(
        default=None,
        description="graph of your own: a .npz file with edge_index, x and y, among others; "
        "'python -m pydoc fastglt.data.npz' describes all of them",
    )
    split_seed: int = Field(
        default=0,
        ge=0,
        description="seed of the split of graphs without a public one; of ten official splits, "
        "the one to use",
    )
    split: str | None = Field(
        default=None,
        description="split to draw instead of the usual one: nodes of each class (20,30) or "
        "shares (0.6,0.2)",
    )


class TaskOptions(_Options):
    """What is predicted and measured."""

    task: Literal[GRAPH_TASKS] | None = Field(  # type: ignore[valid-type]
        default=None, description="what is predicted, if not what the graph is made for"
    )
    metric: str | None = Field(
        default=None,
        description="accuracy, roc_auc, average_precision or hits@K; default: the usual one of "
        "graph or task",
    )


class LinkOptions(_Options):
    """How link prediction is trained."""

    batch_size: int | None = Field(
        default=None,
        ge=1,
        description="link prediction: training positives in a step; default: a tenth of them, at "
        "most 65536",
    )
    keep_positives: bool = Field(
        default=False,
        description="link prediction: leave the positives of a step among its messages",
    )

    @property
    def options(self) -> dict[str, Any]:
        """Further arguments of the task's class; what was not asked for is left out."""
        return self.model_dump(exclude_defaults=True)


class ModelOptions(BackboneConfig):
    """The model."""

    model: str = Field(
        default="gcn",
        description=f"named backbone ({', '.join(MODELS)}), or a model of your own as "
        "path/to/file.py:build, called as build(num_features, num_classes); in link prediction "
        "the second is the width of the node embeddings that it returns, hidden or else 64",
    )


class ResultOptions(_Options):
    """What every long command has."""

    json_file: Path | None = Field(
        default=None, alias="json", description="file for the figures as JSON; - is stdout"
    )
    threads: int | None = Field(
        default=None, ge=1, description="threads to compute with; default: torch's choice"
    )


class FindOptions(ResultOptions):
    """What ``find`` writes."""

    out: Path = Field(default=Path("ticket.safetensors"), description="file for the ticket")
    plot: Path | None = Field(
        default=None, description="file for a plot of the denoising run (.png, .pdf or .svg)"
    )


FIND_SPECS: tuple[Spec, ...] = (
    DataOptions,
    TaskOptions,
    LinkOptions,
    ModelOptions,
    Settings,
    FindOptions,
)
"""All options of ``find``, which are also those that a config file may hold."""


class ConfigOptions(_Options):
    """Options from a file."""

    config: Path | None = Field(
        default=None, description="TOML file with any of these options; the command line wins"
    )


class JsonFlag(_Options):
    """Print JSON."""

    as_json: bool = Field(default=False, alias="json", description="print JSON, not tables")


def parameters(specs: tuple[Spec, ...], arguments: Mapping[str, Any]) -> inspect.Signature:
    """The signature of a command, for typer.

    Args:
        specs: Models whose fields become options; a model's own fields come before inherited ones.
        arguments: Positional arguments: name to annotation.
    """
    kind = inspect.Parameter.KEYWORD_ONLY
    entries = [
        inspect.Parameter(name, kind, annotation=annotation)
        for name, annotation in arguments.items()
    ]
    for spec in specs:
        for name, field in _fields(spec):
            kind_or_none: Any = _plain_type(field) | None
            annotation: Any = Annotated[kind_or_none, _option(name, field)]
            entries.append(inspect.Parameter(name, kind, default=None, annotation=annotation))
    return inspect.Signature(entries)


def option_names(*specs: Spec) -> list[str]:
    """Names of all options of some models, with underscores."""
    return [name for spec in specs for name, _ in _fields(spec)]


def validated(spec: type[_Model], values: Mapping[str, Any]) -> _Model:
    """The options of one model, checked.

    Args:
        spec: The model; what it does not have is left out.
        values: Option name (with underscores) to value.

    Raises:
        InputError: If a value is of the wrong type or out of range.
    """
    names = option_names(spec)
    try:
        return spec(**{name: values[name] for name in names if name in values})
    except ValidationError as error:
        raise as_input_error(error) from None


def _fields(spec: Spec) -> Iterator[tuple[str, FieldInfo]]:
    own = spec.__annotations__
    for name, field in sorted(spec.model_fields.items(), key=lambda item: item[0] not in own):
        yield field.alias or name, field


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
    if get_origin(kind) is Literal or kind == tuple[str, ...]:
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
        if name in Settings.model_fields and values.get(name, field.default) != field.default
    }
    text += f"; default: {_shown(field.default)}"
    if by_preset:
        differing = ", ".join(f"{preset}: {_shown(value)}" for preset, value in by_preset.items())
        text += f" ({differing})"
    return text


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
