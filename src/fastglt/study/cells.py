"""Finished runs, one JSON line each, in ``cells.jsonl`` of a study's folder.

A cell is one run of ``find``: its line has the keys of ``find --json``, all settings, what the
report draws, and provenance. Cells are appended as they finish, by any number of processes, and
never computed twice.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fastglt import _strict_json
from fastglt._json_lines import end_of_whole_lines
from fastglt._locks import file_lock
from fastglt.errors import InputError, OutputPathError
from fastglt.settings import NEUTRAL, Settings, first_problem
from fastglt.study.methods import DENSE, LIKE

CELLS = "cells.jsonl"
"""Name of the file in a study's folder."""
_LOG = logging.getLogger(__name__)

Stage = Literal["compare", "search", "confirm"]
"""What a cell is for: a comparison, or the search or the confirmation of a frontier. Cells of a
search have no test metrics."""


BUDGET = ("edge_sparsity", "weight_sparsity")
"""Settings that say how much is to be pruned."""
STAGES = ("dense", "teacher", "search")
"""Stages of a run up to the masks."""


class Cell(BaseModel):
    """One finished run.

    ``spec`` is what was asked for, all of it but the seed; cells of equal ``settings_hash``
    differ by their seeds alone. Metrics are shares, ``seconds`` and ``epochs`` are by stage.
    ``analysis`` is what :func:`fastglt.study.analysis.analyse` found.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    version: Literal[1] = Field(default=1, alias="schema")
    stage: Stage
    label: str
    settings_hash: str
    spec: dict[str, Any]
    dataset: str
    title: str
    model: str
    task: str
    metric: str
    method: str
    preset: str
    seed: int
    split_seed: int
    inductive: bool
    edge_sparsity: float
    weight_sparsity: float
    val_dense: float
    val_ticket: float
    test_dense: float | None
    test_ticket: float | None
    macs_dense: int
    macs_ticket: int
    params_dense: int
    params_ticket: int
    edges_dense: int
    edges_ticket: int
    bytes_dense: int
    bytes_ticket: int
    seconds: dict[str, float]
    epochs: dict[str, float]
    notes: list[str]
    history: list[dict[str, Any]] = Field(default_factory=list)
    analysis: dict[str, Any] = Field(default_factory=dict)
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _check_keys(self) -> Cell:
        """Refuse a cell without what tables are made of."""
        _require("spec", self.spec, ("dataset", "split", "model_config", "task", "settings"))
        _require("spec.settings", all_settings(self.spec), (*BUDGET, *LIKE, *DENSE))
        for name in ("seconds", "epochs"):
            _require(name, getattr(self, name), STAGES)
        if self.settings_hash != hash_of(self.spec):
            raise ValueError("settings_hash must be that of spec")
        return self

    @property
    def settings(self) -> Mapping[str, Any]:
        """All settings but the seed."""
        return all_settings(self.spec)

    @property
    def search_seconds(self) -> float:
        """Seconds up to the masks: the dense run, a teacher of its own and the search."""
        return sum(self.seconds[stage] for stage in STAGES)

    @property
    def search_epochs(self) -> float:
        """Epochs up to the masks."""
        return sum(self.epochs[stage] for stage in STAGES)


def spec_settings(settings: Settings) -> dict[str, Any]:
    """All settings but the seed, JSON-able, as a ``spec`` has them.

    Those that were not always there are left out where they change nothing, so that a study can be
    gone on with when there are new ones.
    """
    values = settings.model_dump(mode="json", exclude={"seed"})
    return {
        name: value
        for name, value in values.items()
        if name not in NEUTRAL or value != NEUTRAL[name]
    }


def all_settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    """All settings but the seed, of a ``spec`` that may be older than some of them."""
    settings = spec["settings"]
    return NEUTRAL | settings if isinstance(settings, dict) else settings


def _require(name: str, value: object, keys: Iterable[str]) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object (got {type(value).__name__})")
    for key in keys:
        if key not in value:
            raise ValueError(f"{name} must have {key!r}")


def hash_of(spec: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that tell what was asked for from anything else.

    Args:
        spec: JSON-able; the order of keys does not matter.
    """
    text = _strict_json.dumps(dict(spec), "spec", sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def cells_file(folder: Path) -> Path:
    """The file of a study's cells; a path that ends in ``.jsonl`` is one itself."""
    return folder if folder.suffix == ".jsonl" else folder / CELLS


def read_cells(folder: Path) -> list[Cell]:
    """All finished cells, in the order of their lines; none if there is no file.

    A last line without its end, as a full disk or a killed process leaves it, is left out, and the
    log says so.

    Raises:
        InputError: If a line is no cell; the message names it.
    """
    path = cells_file(folder)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    whole, _, rest = text.rpartition(b"\n")
    if rest:
        _LOG.warning("%s: the last line has no end and is left out; its run is not finished", path)
    lines = enumerate(whole.split(b"\n"), start=1)
    return [cell_of(line, f"{path}, line {number}") for number, line in lines if line.strip()]


def append_cell(folder: Path, cell: Cell) -> None:
    """Append a cell as one line, whole, whoever else does so at the same time.

    Writers wait for each other by a lock that the system takes back when its holder dies. The rest
    of a line that a full disk or a killed writer cut off is removed first, and the log says so.
    When this returns, the line is on the disk.

    Raises:
        InputError: If a figure, such as NaN, has no JSON.
        OutputPathError: If it cannot be written, or the file system has no locks.
    """
    path = cells_file(folder)
    line = line_of(cell) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(path.with_name(f"{path.name}.lock")), path.open("ab+") as file:
            _remove_torn_line(file, path)
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputPathError(f"{str(path)!r} cannot be written: {reason}") from error


def line_of(cell: Cell) -> str:
    """A cell as strict JSON on one line, without its end.

    Raises:
        InputError: If a figure, such as NaN, has no JSON.
    """
    # Not in mode "json", which would write NaN as null.
    return _strict_json.dumps(cell.model_dump(by_alias=True), "cell")


def cell_of(line: bytes, where: str) -> Cell:
    """The cell of a line.

    Args:
        line: What :func:`line_of` made, as UTF-8.
        where: How to name it in an error.

    Raises:
        InputError: If it is no cell.
    """
    try:
        return Cell.model_validate(_strict_json.loads(line))
    except ValidationError as error:
        place, problem = first_problem(error)
        raise InputError(
            f"{where}: {place}: {problem}" if place else f"{where}: {problem}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not a cell: {error}") from None


def _remove_torn_line(file: BinaryIO, path: Path) -> None:
    size = file.seek(0, os.SEEK_END)
    end = end_of_whole_lines(file)
    if end < size:
        _LOG.warning(
            "%s: removed a last line without its end, %d bytes that a crash or a full disk left",
            path, size - end,
        )  # fmt: skip
        file.truncate(end)
