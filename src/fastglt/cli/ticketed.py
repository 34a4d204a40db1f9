"""What a ticket is put to use on: the graph, task and model that it records, or other ones."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastglt.cli.inputs import (
    build_model,
    check_model,
    check_source,
    choose_task,
    load_dataset,
)
from fastglt.cli.options import GRAPH_TASKS, DataOptions, ModelOptions, TaskOptions, validated
from fastglt.cli.records import (
    DatasetRecord,
    ModelRecord,
    TaskRecord,
    read_record,
    recorded_name,
)
from fastglt.errors import InputError, TicketMismatchError
from fastglt.models import is_own_model

if TYPE_CHECKING:
    from torch import nn
    from torch_geometric.data import Data

    from fastglt.data import LoadedDataset
    from fastglt.ticket import Ticket
    from fastglt.training.task import Task

_SPLIT_OPTIONS = frozenset({"split_seed", "split"})


@dataclass(frozen=True)
class Inputs:
    """What a ticket is put to use on.

    Attributes:
        dataset: The graph.
        task: What is predicted.
        model: A model of the ticket's architecture.
        model_name: Its name.
        other_split: Whether the split is another one than the ticket's.
    """

    dataset: LoadedDataset
    task: Task
    model: nn.Module
    model_name: str
    other_split: bool


def inputs_of(ticket: Ticket, values: Mapping[str, Any]) -> Inputs:
    """What is named, completed by what the ticket records.

    Args:
        ticket: The ticket.
        values: Options of data, task and model.

    Raises:
        InputError: If something is neither named nor recorded.
        TicketMismatchError: If the graph is obviously another one.
    """
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
    other = record is not None and list(dataset.transforms) != record.transforms
    name = recorded_name(model_options.model)
    return Inputs(dataset, task, model, name, asks_for_split and other)


def applied(ticket: Ticket, model: nn.Module, data: Data) -> tuple[nn.Module, Data]:
    """The ticket in force; what it warns of goes to stderr."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = ticket.apply(model, data)
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)  # noqa: T201
    return result


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
