"""The cells of a study: which there are, and how one is run."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fastglt.cli import summary
from fastglt.cli.inputs import (
    build_model,
    check_model,
    check_source,
    choose_task,
    load_dataset,
    model_record,
    narrow_model,
)
from fastglt.cli.options import (
    CHOSEN_BY_STUDY,
    DataOptions,
    LinkOptions,
    ModelOptions,
    TaskOptions,
    for_sampler,
    link_options,
    validated,
)
from fastglt.cli.records import DatasetRecord, recorded_name
from fastglt.errors import InputError
from fastglt.models import absolute_spec, is_own_model, model_file, resolve_config
from fastglt.search import METHOD_VERSION
from fastglt.search.presets import resolve_settings
from fastglt.settings import Settings
from fastglt.study.cells import Cell, Stage, all_settings, hash_of, spec_settings
from fastglt.study.jobs import Job
from fastglt.study.methods import Choice

if TYPE_CHECKING:
    from fastglt.data import LoadedDataset

_CHUNK = 1 << 20
"""Bytes that are read at a time."""


class StudyInputs(NamedTuple):
    """What all runs of a study share: graph, task, model and settings."""

    data: DataOptions
    task: TaskOptions
    links: LinkOptions
    model: ModelOptions
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> StudyInputs:
        """What options say, checked as far as that is possible without loading anything.

        Args:
            values: Option name (with underscores) to value.

        Raises:
            InputError: If something cannot be used.
        """
        names = set(Settings.model_fields) - set(CHOSEN_BY_STUDY)
        inputs = cls(
            validated(DataOptions, values),
            validated(TaskOptions, values),
            link_options(values),
            validated(ModelOptions, values),
            {name: value for name, value in for_sampler(values).items() if name in names},
        )
        check_source(inputs.data)
        check_model(inputs.model)
        if inputs.settings.get("recover", "rewind") != "rewind":
            raise InputError(
                "a study retrains from the initial weights, so recover must be 'rewind' (got "
                f"{inputs.settings['recover']!r})"
            )
        return inputs

    def check(self, *, here: bool = True) -> None:
        """Load the graph and build the model once, so that what fails every run fails at once.

        Args:
            here: Whether the runs are made on this machine; others may have a device that it lacks.

        Raises:
            FastGLTError: If graph, task or model cannot be used.
        """
        data = self._anchored
        dataset = _loaded(data if here else data.model_copy(update={"device": "cpu"}))
        task = choose_task(self.task, dataset, self.links)
        build_model(self.model, dataset, task, seed=0)

    def jobs(self, stage: Stage, choices: Iterable[Choice], seeds: Iterable[int]) -> list[Job]:
        """One job for each seed and method, seeds outermost so that early stops stay balanced."""
        specs = [(choice.label, self._spec(choice)) for choice in choices]
        return [
            Job(stage, label, spec, seed, self._split_seed(seed), self._options)
            for seed in seeds
            for label, spec in specs
        ]

    def _spec(self, choice: Choice) -> dict[str, Any]:
        return {
            "dataset": _dataset_spec(self.data),
            "split": {"kind": self.data.split, "seed": self._fixed_split},
            "model_config": _model_spec(self.model),
            "task": self.task.model_dump() | self.links.model_dump(),
            "settings": spec_settings(choice.settings),
            "method_version": METHOD_VERSION,
        }

    @property
    def _options(self) -> dict[str, Any]:
        """What a worker needs to run a job, in whatever folder it is."""
        return {
            "data": self._anchored.model_dump(),
            "task": self.task.model_dump(),
            "links": self.links.model_dump(),
            "model": self.model.model_dump() | {"model": absolute_spec(self.model.model)},
        }

    @property
    def _anchored(self) -> DataOptions:
        places = {name: getattr(self.data, name) for name in ("root", "data")}
        return self.data.model_copy(
            update={name: path.absolute() for name, path in places.items() if path is not None}
        )

    @property
    def _fixed_split(self) -> int | None:
        """The split seed that was asked for; ``None`` lets each seed have a split of its own."""
        return self.data.split_seed if "split_seed" in self.data.model_fields_set else None

    def _split_seed(self, seed: int) -> int:
        """The seed of the split that goes with a seed: the same for all where there is but one."""
        if self._fixed_split is not None:
            return self._fixed_split
        from fastglt.data import CATALOGUE

        if self.data.data is not None:
            return seed if self.data.split is not None or _lacks_masks(self.data.data) else 0
        entry = CATALOGUE.get(str(self.data.dataset))
        if entry.num_splits and self.data.split is None:
            return seed % entry.num_splits
        return seed if entry.split or self.data.split is not None else 0


def run_job(job: Job) -> Cell:
    """One run of ``find``, in whatever process this is.

    Raises:
        FastGLTError: Whatever ``find`` raises.
    """
    from fastglt.api.evidence import find_with_evidence
    from fastglt.study.provenance import run_provenance

    options = job.options
    data = DataOptions(**{**options["data"], "split_seed": job.split_seed})
    model_options = ModelOptions(**options["model"])
    _check_files(job, data, model_options)
    dataset = _loaded(data)
    task = choose_task(TaskOptions(**options["task"]), dataset, LinkOptions(**options["links"]))
    settings = resolve_settings({**all_settings(job.spec), "seed": job.seed})
    ticket, figures = find_with_evidence(
        build_model(model_options, dataset, task, job.seed),
        dataset.data,
        task,
        settings,
        narrow=narrow_model(model_options, dataset, task),
        reads_test=job.stage != "search",
    )
    is_own = data.data is not None
    ticket.settings["dataset"] = DatasetRecord.of(dataset, own=is_own).model_dump()
    ticket.settings["model"] = model_record(
        model_options, dataset, ticket.metrics.get("width")
    ).model_dump()
    return Cell(
        stage=job.stage,
        label=job.label,
        settings_hash=hash_of(job.spec),
        spec=dict(job.spec),
        split_seed=job.split_seed,
        history=ticket.history,
        provenance=run_provenance(dataset.data.edge_index.device),
        **summary.result(ticket),
        **figures,
    )


def _check_files(job: Job, data: DataOptions, model: ModelOptions) -> None:
    """Refuse files that are not those of the study: on another machine, or changed meanwhile."""
    files: list[tuple[Path, Mapping[str, Any]]] = []
    if data.data is not None:
        files.append((data.data, job.spec["dataset"]))
    if is_own_model(model.model):
        files.append((model_file(model.model), job.spec["model_config"]))
    for path, asked in files:
        if _digest(path) != asked["sha256"]:
            raise InputError(f"{str(path)!r} is not the file that the study was begun with")


@functools.lru_cache(maxsize=2)
def _loaded(options: DataOptions) -> LoadedDataset:
    """A graph, kept for the next job of this process."""
    return load_dataset(options)


def _dataset_spec(options: DataOptions) -> dict[str, str]:
    if options.data is None:
        return {"name": str(options.dataset).lower()}
    return {"name": options.data.name, "sha256": _digest(options.data)}


def _model_spec(options: ModelOptions) -> dict[str, Any]:
    if is_own_model(options.model):
        digest = _digest(model_file(options.model))
        return {"name": recorded_name(options.model), "sha256": digest, "hidden": options.hidden}
    config = resolve_config(options.model, options).model_dump()
    return {"name": options.model.lower(), **config}


def _digest(path: Path) -> str:
    """Of the contents of a file, or of the names and contents of the arrays in a folder."""
    try:
        if path.is_dir():
            files = [(file.name, _digest(file)) for file in sorted(path.glob("*.npy"))]
            listed = "".join(f"{name} {digest}\n" for name, digest in files)
            return hashlib.sha256(listed.encode()).hexdigest()
        state = path.stat()
        return _digest_of(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror}") from error


@functools.lru_cache(maxsize=64)
def _digest_of(path: Path, *_state: int) -> str:
    """Kept for the next job, as long as size and time of change are the same."""
    digest = hashlib.sha256()
    with path.open("rb") as reader:
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _lacks_masks(path: Path) -> bool:
    import numpy as np

    if path.is_dir():
        return not (path / "train_mask.npy").exists()
    try:
        with np.load(path) as file:
            return "train_mask" not in file.files
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} cannot be read as a .npz file: {error}") from error
