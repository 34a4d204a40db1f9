"""Options of the commands as pydantic models, so that nothing is declared twice.

:mod:`fastglt.cli.signature` makes a model's fields options of the command line. An option that is
not given is absent, not its default, so that a config file, a preset or a ticket can supply it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from fastglt.data.catalogue import CATALOGUE
from fastglt.data.entry import GRAPH_CLASSIFICATION, TASKS
from fastglt.models import BACKBONES
from fastglt.models.config import BackboneConfig
from fastglt.search import METHODS as METHOD_ENTRIES
from fastglt.settings import BATCH_SIZE, Settings, as_input_error

Spec = type[BaseModel]
_Model = TypeVar("_Model", bound=BaseModel)

METHODS = tuple(METHOD_ENTRIES)
MODELS = tuple(BACKBONES)
GRAPH_TASKS = tuple(task for task in TASKS if task != GRAPH_CLASSIFICATION)
"""Tasks on one graph; datasets of many graphs are for Python."""
DENOISING_METHODS = frozenset(name for name, entry in METHOD_ENTRIES.items() if entry.denoises)
"""Methods whose tickets have a history to plot."""


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
        description="graph of your own: a .npz file with edge_index, x and y, among others "
        "('python -m pydoc fastglt.data.npz' describes all of them), or a folder of .npy files, "
        "which are mapped into memory ('python -m pydoc fastglt.data.mapped')",
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
    device: str = Field(
        default="cpu",
        description="where to compute, by torch's name for it: cpu, cuda, cuda:1",
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
        description=BATCH_SIZE,
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


class CompileOptions(ResultOptions):
    """What ``compile`` writes."""

    out: Path = Field(
        default=Path("model.pt2"),
        description="file for the model: a program of torch (.pt2) or an ONNX model (.onnx)",
    )
    kind: Literal["program", "onnx", "package"] | None = Field(
        default=None,
        description="what to write, if not by the suffix: a package (.pt2) is machine code by "
        "AOTInductor, which needs a C++ compiler",
    )
    weights: Literal["float", "int8"] = Field(
        default="float",
        description="int8 rounds the weights of linear maps, which makes the file smaller and "
        "changes outputs",
    )


class BenchOptions(ResultOptions):
    """How ``bench`` measures."""

    repeats: int = Field(default=20, ge=2, description="timed calls of each way, in turn")
    dtype: Literal["bfloat16", "float16"] | None = Field(
        default=None, description="lower precision that the compiled model computes in"
    )


class FindOptions(ResultOptions):
    """What ``find`` writes."""

    out: Path = Field(default=Path("ticket.safetensors"), description="file for the ticket")
    plot: Path | None = Field(
        default=None, description="file for a plot of the denoising run (.png, .pdf or .svg)"
    )
    log: Path | None = Field(
        default=None,
        description="file that a line of JSON is appended to for every step and swap, as they "
        "happen",
    )
    tensorboard: Path | None = Field(
        default=None,
        description="folder for TensorBoard, one a run; needs the extra tensorboard",
    )


class CheckpointOptions(_Options):
    """How ``find`` is saved as it goes."""

    checkpoint: Path | None = Field(
        default=None,
        description="folder where the run is saved as it goes, so that it can be killed at any "
        "time; default: none",
    )
    checkpoint_every: float = Field(
        default=60.0, ge=0, description="seconds between two checkpoints; 0: after every step"
    )
    resume: bool = Field(
        default=False,
        description="go on from the checkpoint, if there is one, to the result of a run that was "
        "never interrupted",
    )


class GoalOptions(_Options):
    """What ``find`` chooses the sparsities by, where they are not given."""

    max_drop: float | None = Field(
        default=None,
        ge=0,
        description="prune as far as the ticket loses at most so many points on validation",
    )
    target_macs: float | None = Field(
        default=None,
        gt=0,
        description="prune until an inference takes so few multiply-accumulates; below 1, a share "
        "of the dense model's",
    )
    target_latency_ms: float | None = Field(
        default=None, gt=0, description="prune until an inference takes so few milliseconds here"
    )
    axis: Literal["edges", "weights", "joint"] = Field(
        default="joint", description="what is pruned to get there"
    )
    resolution: float = Field(
        default=1.0,
        gt=0,
        description="how closely to look, in rounds of 5 % of the remaining edges and 20 % of the "
        "remaining weights",
    )


class TeacherOptions(_Options):
    """A teacher of one's own."""

    teacher_file: Path | None = Field(
        default=None,
        description="predictions of a teacher of your own, a .npy file with the logits of all "
        "nodes, a row each; they guide in place of the dense model's",
    )


class StudyOptions(_Options):
    """Where a study lies, and what its runs share."""

    out: Path = Field(
        default=Path("study"),
        description="folder of the study; what is finished there is not run again",
    )
    seeds: int = Field(default=10, ge=1, description="number of seeds")
    first_seed: int = Field(default=0, ge=0, lt=2**30, description="the first of them")
    margin: float = Field(
        default=0.5, ge=0, description="largest loss that still counts as none, in points"
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        description="processes that share the threads, and a device; default: one a core",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        description="threads of all of them together, default: one a core; on Ray of each run, "
        "default: one",
    )
    ray: str | None = Field(
        default=None,
        description="make the runs on a cluster of Ray instead: auto joins the one that runs here "
        "or starts one, host:port and ray://host:port join another; default: no",
    )
    json_file: Path | None = Field(
        default=None, alias="json", description="file for the result as JSON; - is stdout"
    )


class CompareOptions(StudyOptions):
    """What is compared."""

    methods: str | None = Field(
        default=None,
        description="methods with commas between them, ugs:paper being ugs with preset paper; a "
        "dense model under the same teacher is always added; default: "
        "fastglt,random,reinit,small-dense",
    )
    max_seeds: int | None = Field(
        default=None,
        ge=1,
        description="go on with as many seeds again, up to so many in all, where a comparison is "
        "inconclusive; default: no",
    )


class FrontierOptions(StudyOptions):
    """What is searched for."""

    axis: Literal["edges", "weights", "joint"] = Field(
        default="joint", description="what is pruned"
    )
    search_seeds: int = Field(
        default=5, ge=2, description="seeds of the search on validation, others than those of test"
    )
    resolution: float = Field(
        default=1.0,
        gt=0,
        description="how closely to look, in rounds of 5 % of the remaining edges and 20 % of the "
        "remaining weights",
    )
    max_seeds: int = Field(
        default=30,
        ge=1,
        description="go on with as many seeds again, up to so many in all, where the confirmation "
        "is inconclusive",
    )


class ReportOptions(_Options):
    """What a report is made of."""

    out: Path = Field(default=Path("report.html"), description="file for the report")
    plots: Path | None = Field(
        default=None, description="folder for all plots as PNG and SVG; default: none"
    )


RUN_SPECS: tuple[Spec, ...] = (DataOptions, TaskOptions, LinkOptions, ModelOptions, Settings)
"""What a run of ``find`` depends on."""
FIND_SPECS: tuple[Spec, ...] = (
    *RUN_SPECS,
    GoalOptions,
    TeacherOptions,
    FindOptions,
    CheckpointOptions,
)
"""All options of ``find``, which are also those that its config file may hold."""
COMPARE_SPECS: tuple[Spec, ...] = (*RUN_SPECS, CompareOptions)
"""All options of ``compare``, likewise."""
FRONTIER_SPECS: tuple[Spec, ...] = (*RUN_SPECS, FrontierOptions)
"""All options of ``frontier``, likewise."""
CHOSEN_BY_STUDY = ("method", "seed")
"""Settings that ``compare`` chooses itself."""


class ConfigOptions(_Options):
    """Options from a file."""

    config: Path | None = Field(
        default=None, description="TOML file with any of these options; the command line wins"
    )


class JsonFlag(_Options):
    """Print JSON."""

    as_json: bool = Field(default=False, alias="json", description="print JSON, not tables")


def option_fields(spec: Spec) -> Iterator[tuple[str, FieldInfo]]:
    """Option name (with underscores) and field, a model's own before inherited ones."""
    own = spec.__annotations__
    for name, field in sorted(spec.model_fields.items(), key=lambda item: item[0] not in own):
        yield field.alias or name, field


def option_names(*specs: Spec) -> list[str]:
    """Names of all options of some models, with underscores."""
    return [name for spec in specs for name, _ in option_fields(spec)]


def for_sampler(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without ``batch_size`` where it is for link prediction and not for a sampler."""
    has_sampler = values.get("sampler", "none") != "none"
    return {name: value for name, value in values.items() if has_sampler or name != "batch_size"}


def link_options(values: Mapping[str, Any]) -> LinkOptions:
    """Options of link prediction, without ``batch_size`` where it is for a sampler."""
    has_sampler = values.get("sampler", "none") != "none"
    own = {name: value for name, value in values.items() if name != "batch_size"}
    return validated(LinkOptions, own if has_sampler else values)


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
