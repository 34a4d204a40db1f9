"""``fastglt eval``."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastglt._atomic import check_writable
from fastglt.cli import formats, summary
from fastglt.cli.config_file import with_config
from fastglt.cli.inputs import (
    build_model,
    check_model,
    check_source,
    choose_task,
    load_dataset,
    use_threads,
)
from fastglt.cli.measure import Check, measure
from fastglt.cli.options import (
    GRAPH_TASKS,
    DataOptions,
    ModelOptions,
    ResultOptions,
    TaskOptions,
    validated,
)
from fastglt.cli.output import STDOUT, Output, write_json
from fastglt.cli.records import (
    DatasetRecord,
    ModelRecord,
    TaskRecord,
    read_record,
    recorded_name,
)
from fastglt.errors import FastGLTError, InputError, TicketMismatchError
from fastglt.models import is_own_model

if TYPE_CHECKING:
    from torch import nn
    from torch_geometric.data import Data

    from fastglt.data import LoadedDataset
    from fastglt.ticket import Ticket

_SPLIT_OPTIONS = frozenset({"split_seed", "split"})


@dataclass(frozen=True)
class _Measurement:
    """What was measured on what.

    Attributes:
        path: The ticket file.
        dataset: Name of the graph.
        title: The name that results are reported under.
        model: Name of the model.
        task: What was predicted.
        metric: What was measured.
        checks: Outcome by split.
        silence: Why nothing is compared, where nothing is.
    """

    path: Path
    dataset: str
    title: str
    model: str
    task: str
    metric: str
    checks: list[Check]
    silence: str


def run(ticket: str, given: Mapping[str, Any]) -> None:
    """Apply a ticket and measure again what it claims.

    Graph, task and model are those recorded in the ticket, unless other ones are named.
    """
    from fastglt.ticket import Ticket

    values = with_config(given)
    results = validated(ResultOptions, values)
    if results.json_file not in (None, STDOUT):
        check_writable(results.json_file)
    use_threads(results)
    path = Path(ticket)
    _report(_measured(Ticket.load(path), path, values), results)


def _measured(ticket: Ticket, path: Path, values: Mapping[str, Any]) -> _Measurement:
    record = read_record(DatasetRecord, "dataset", ticket.settings)
    data_options = _dataset_of(record, validated(DataOptions, values))
    task_options = _task_of(ticket, validated(TaskOptions, values))
    model_options = _model_of(ticket, values)
    check_source(data_options)
    check_model(model_options)
    # Who asks for another split wants that one, not the recorded one.
    asks_for_split = bool(_SPLIT_OPTIONS & values.keys())
    replayed = None if asks_for_split or not _is_about(record, data_options) else record
    dataset = load_dataset(data_options, replayed)
    _check_size(ticket, dataset)
    task = choose_task(task_options, dataset)
    model = build_model(model_options, dataset, task, seed=0)
    checks = measure(ticket, *_applied(ticket, model, dataset.data), task)
    silence = ""
    if asks_for_split and record is not None and list(dataset.transforms) != record.transforms:
        silence = "measured on another split than the ticket's; nothing is compared"
        checks = [replace(check, recorded=None) for check in checks]
    elif all(check.recorded is None for check in checks):
        silence = f"the ticket records no {task.metric_name} to compare with"
    names = (dataset.name, dataset.title or dataset.name, recorded_name(model_options.model))
    return _Measurement(path, *names, task.name, task.metric_name, checks, silence)


def _dataset_of(record: DatasetRecord | None, options: DataOptions) -> DataOptions:
    """The graph that is named, else the recorded one."""
    if options.dataset is not None or options.data is not None:
        return options
    if record is None:
        raise InputError(
            "this ticket does not say which dataset it was found on; name it with --dataset or "
            "--data"
        )
    if record.own:
        raise InputError(
            f"this ticket was found on a graph of your own, {record.name!r}; give its file with "
            "--data"
        )
    return options.model_copy(update={"dataset": record.name})


def _check_size(ticket: Ticket, dataset: LoadedDataset) -> None:
    """Refuse an obviously different graph before a model is made for it."""
    recorded, here = ticket.graph.get("num_nodes"), dataset.data.num_nodes
    if recorded != here:
        raise TicketMismatchError(
            f"this ticket belongs to another graph: it was found on {recorded} nodes, and "
            f"{dataset.name} has {here}"
        )


def _is_about(record: DatasetRecord | None, options: DataOptions) -> bool:
    """Whether a record may be replayed on a graph; a file may have got another name."""
    if record is None or record.own != (options.data is not None):
        return False
    return record.own or record.name.lower() == str(options.dataset).lower()


def _task_of(ticket: Ticket, options: TaskOptions) -> TaskOptions:
    """The task that is named, else the recorded one; each with the metric that belongs to it."""
    record = read_record(TaskRecord, "task", ticket.settings)
    if record is None or options.task not in (None, record.name):
        return options
    if record.name not in GRAPH_TASKS:
        raise InputError(
            f"this ticket's task, {record.name!r}, is none of the command line's "
            f"({', '.join(GRAPH_TASKS)}); name one with --task, or measure in Python"
        )
    return TaskOptions(task=record.name, metric=options.metric or record.metric)


def _model_of(ticket: Ticket, values: Mapping[str, Any]) -> ModelOptions:
    """The model that is named, completed by the recorded one."""
    record = read_record(ModelRecord, "model", ticket.settings)
    if record is None:
        return validated(ModelOptions, values)
    recorded = record.model_dump(exclude={"name"}, exclude_none=True)
    named = values.get("model")
    if named is None:
        if is_own_model(record.name):
            raise InputError(
                f"this ticket's model is one of your own, {record.name!r}; give its file with "
                "--model"
            )
        return validated(ModelOptions, {**recorded, **values, "model": record.name})
    both_own = is_own_model(str(named)) and is_own_model(record.name)
    if both_own or str(named).lower() == record.name.lower():
        return validated(ModelOptions, {**recorded, **values})
    # The sizes of another backbone say nothing about this one.
    return validated(ModelOptions, values)


def _applied(ticket: Ticket, model: nn.Module, data: Data) -> tuple[nn.Module, Data]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        applied = ticket.apply(model, data)
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)  # noqa: T201
    return applied


def _report(found: _Measurement, results: ResultOptions) -> None:
    """Print and write the outcome.

    Raises:
        FastGLTError: If the ticket claims what does not hold.
    """
    wrong = [check for check in found.checks if check.agrees is False]
    if results.json_file is not None:
        write_json(_document(found), results.json_file)
    output = Output(sys.stderr if results.json_file == STDOUT else None)
    names = {"val": f"validation {found.metric}", "test": f"test {found.metric}"}
    output.line(summary.heading(found.model, found.title, found.task, found.metric))
    output.table(
        ("", "measured", "recorded"),
        [
            (
                names[check.split],
                formats.percent(check.measured),
                formats.cell(check.recorded, formats.percent),
            )
            for check in found.checks
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
    output.line(found.silence or "measured and recorded figures agree")


def _document(found: _Measurement) -> dict[str, Any]:
    document: dict[str, Any] = {
        "file": str(found.path),
        "dataset": found.dataset,
        "title": found.title,
        "model": found.model,
        "task": found.task,
        "metric": found.metric,
    }
    for check in found.checks:
        document[f"{check.split}_ticket"] = check.measured
        document[f"{check.split}_recorded"] = check.recorded
    verdicts = [check.agrees for check in found.checks if check.agrees is not None]
    document["agrees"] = all(verdicts) if verdicts else None
    return document
