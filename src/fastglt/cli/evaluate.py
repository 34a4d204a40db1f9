"""``fastglt eval``."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fastglt._atomic import check_writable
from fastglt.cli import formats
from fastglt.cli.config_file import with_config
from fastglt.cli.inputs import build_model, check_names, load_dataset, use_threads
from fastglt.cli.options import (
    DataOptions,
    ModelOptions,
    ResultOptions,
    TaskOptions,
    validated,
)
from fastglt.cli.output import STDOUT, Output, write_json
from fastglt.cli.records import DatasetRecord, ModelRecord, TaskRecord, read_record
from fastglt.errors import FastGLTError, InputError, TicketFileError
from fastglt.models import is_own_model

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch_geometric.data import Data

    from fastglt.data import LoadedDataset
    from fastglt.ticket import Ticket
    from fastglt.training.task import Split, Task

EXACT = 1e-6
"""Metrics closer than this are equal."""
ROUNDING = 1e-4
"""Rounding may move outputs by this share of the largest one."""
TRIALS = 4
SPLITS: tuple[Split, ...] = ("val", "test")


@dataclass(frozen=True)
class Check:
    """One metric, measured again.

    Attributes:
        split: ``"val"`` or ``"test"``.
        measured: The metric now.
        recorded: The metric in the ticket, if it has it.
        tolerance: How far rounding may move it.
    """

    split: str
    measured: float
    recorded: float | None
    tolerance: float

    @property
    def agrees(self) -> bool | None:
        """Whether the ticket's claim holds; ``None`` where it claims nothing."""
        if self.recorded is None:
            return None
        return abs(self.measured - self.recorded) <= self.tolerance


def run(ticket: str, given: Mapping[str, Any]) -> None:
    """Apply a ticket and measure again what it claims.

    Graph and model are those recorded in the ticket, unless other ones are named.
    """
    from fastglt.ticket import Ticket

    values = with_config(given)
    results = validated(ResultOptions, values)
    if results.json_file not in (None, STDOUT):
        check_writable(results.json_file)
    use_threads(results)
    path = Path(ticket)
    content = Ticket.load(path)
    data_options, dataset_record = _dataset_of(content, values)
    model_options = _model_of(content, values)
    check_names(model=model_options.model)
    dataset = load_dataset(data_options, dataset_record)
    task = _task_of(content, dataset, validated(TaskOptions, values))
    model = build_model(model_options, dataset, seed=0)
    checks = _measure(content, *_applied(content, model, dataset.data), task)
    _report(path, _Names(dataset.title or dataset.name, model_options.model, task), checks, results)


class _Names(NamedTuple):
    """What was measured on what."""

    dataset: str
    model: str
    task: Task


def _dataset_of(
    ticket: Ticket, values: Mapping[str, Any]
) -> tuple[DataOptions, DatasetRecord | None]:
    """The graph that is named, else the recorded one; the record only if it is about that one."""
    options = validated(DataOptions, values)
    record = read_record(DatasetRecord, "dataset", ticket.settings)
    if options.dataset is None and options.data is None:
        if record is None:
            raise InputError(
                "this ticket does not say which dataset it was found on; name it with --dataset "
                "or --data"
            )
        if record.own:
            raise InputError(
                f"this ticket was found on a graph of your own, {record.name!r}; give its file "
                "with --data"
            )
        options = options.model_copy(update={"dataset": record.name})
    is_other = record is not None and (
        record.own != (options.data is not None)
        or (not record.own and record.name.lower() != str(options.dataset).lower())
    )
    # Who asks for another split wants that one, not the recorded one.
    asks_for_split = bool({"split_seed", "split"} & values.keys())
    return options, None if is_other or asks_for_split else record


def _model_of(ticket: Ticket, values: Mapping[str, Any]) -> ModelOptions:
    """The model that is named, completed by the recorded one."""
    record = read_record(ModelRecord, "model", ticket.settings)
    recorded = {} if record is None else record.model_dump(exclude_none=True)
    name = recorded.pop("name", None)
    if name is not None:
        if is_own_model(name) and "model" not in values:
            raise InputError(
                f"this ticket's model is one of your own, {name!r}; give its file with --model"
            )
        recorded["model"] = name
    if str(values.get("model", name)).lower() != str(name).lower():
        # The sizes of another backbone say nothing about this one.
        recorded = {}
    return validated(ModelOptions, {**recorded, **values})


def _task_of(ticket: Ticket, dataset: LoadedDataset, options: TaskOptions) -> Task:
    """The task that is named, else the recorded one, else that of the dataset."""
    from fastglt.training.tasks import make_task

    record = read_record(TaskRecord, "task", ticket.settings)
    name = record.name if record else dataset.task
    metric: str | None = record.metric if record else dataset.metric
    if options.task is not None and options.task != name:
        name, metric = options.task, None
    return make_task(name, dataset.data, metric=options.metric or metric)


def _applied(ticket: Ticket, model: nn.Module, data: Data) -> tuple[nn.Module, Data]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        applied = ticket.apply(model, data)
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)  # noqa: T201
    return applied


def _measure(ticket: Ticket, model: nn.Module, data: Data, task: Task) -> list[Check]:
    from fastglt.training.loop import predict
    from fastglt.training.teacher import Objective

    task.validate(data)
    data = task.prepare(data)
    out = predict(model, data, Objective(task))
    same = ticket.metrics.get("metric") in (None, task.metric_name)
    return [
        Check(
            split,
            task.metric(out, data, split),
            _recorded(ticket, f"{split}_ticket") if same else None,
            EXACT + _rounding_slack(task, out, data, split),
        )
        for split in SPLITS
        if task.has_split(data, split)
    ]


def _recorded(ticket: Ticket, name: str) -> float | None:
    value = ticket.metrics.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TicketFileError(f"the ticket's metric {name} must be a number (got {value!r})")
    return float(value)


def _rounding_slack(task: Task, out: Tensor, data: Data, split: Split) -> float:
    """How far rounding may move a metric, by trial.

    Sparse or dense inputs, thread counts and machines add in different orders.
    """
    import torch

    scale = ROUNDING * float(out.abs().max()) if out.numel() else 0.0
    generator = torch.Generator().manual_seed(0)
    exact = task.metric(out, data, split)
    moved = (
        task.metric(out + scale * (2 * torch.rand(out.shape, generator=generator) - 1), data, split)
        for _ in range(TRIALS)
    )
    return 2 * max(abs(value - exact) for value in moved)


def _report(path: Path, measured: _Names, checks: list[Check], results: ResultOptions) -> None:
    """Print and write the outcome.

    Raises:
        FastGLTError: If the ticket claims what does not hold.
    """
    wrong = [check for check in checks if check.agrees is False]
    compared = [check for check in checks if check.agrees is not None]
    if results.json_file is not None:
        document: dict[str, Any] = {
            "file": str(path),
            "dataset": measured.dataset,
            "model": measured.model,
            "metric": measured.task.metric_name,
        }
        for check in checks:
            document[f"{check.split}_ticket"] = check.measured
            document[f"{check.split}_recorded"] = check.recorded
        document["agrees"] = not wrong if compared else None
        write_json(document, results.json_file)
    output = Output(sys.stderr if results.json_file == STDOUT else None)
    metric = measured.task.metric_name
    names = {"val": f"validation {metric}", "test": f"test {metric}"}
    output.table(
        ("", "measured", "recorded"),
        [
            (
                names[check.split],
                formats.percent(check.measured),
                formats.cell(check.recorded, formats.percent),
            )
            for check in checks
        ],
    )
    if wrong:
        raise FastGLTError(
            "the ticket claims what does not hold here: "
            + "; ".join(
                f"{names[check.split]} {check.recorded:.6f} recorded, {check.measured:.6f} measured"
                for check in wrong
            )
        )
    output.line(
        "measured and recorded figures agree"
        if compared
        else "the ticket records no metrics to compare with"
    )
