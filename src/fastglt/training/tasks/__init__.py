"""The tasks that have a name.

To add one, write its class, a :class:`~fastglt.training.tasks.base.NamedTask`, and enter it in
:data:`TASKS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch_geometric.data import Batch, Data
from torch_geometric.data.data import BaseData

from fastglt.errors import GraphError, InputError, UnknownNameError
from fastglt.training.task import Task
from fastglt.training.tasks.graph_classification import GraphClassification as GraphClassification
from fastglt.training.tasks.link_prediction import LinkPrediction as LinkPrediction
from fastglt.training.tasks.multilabel import (
    MultiLabelNodeClassification as MultiLabelNodeClassification,
)
from fastglt.training.tasks.node_classification import NodeClassification as NodeClassification

TASKS: dict[str, type[Any]] = {
    task.name: task
    for task in (
        NodeClassification,
        MultiLabelNodeClassification,
        LinkPrediction,
        GraphClassification,
    )
}


def make_task(
    task: str | Task | Mapping[str, Any] | None,
    data: Data,
    *,
    metric: str | None = None,
    **options: Any,
) -> Task:
    """The task of that name, or the one that the data is made for.

    Data with pairs to tell apart (``val_pos_edge_label_index``) is for link prediction, a
    :class:`~torch_geometric.data.Batch` with a label each graph for graph classification, a
    two-dimensional ``y`` means several labels, and all else is node classification.

    Args:
        task: A name in :data:`TASKS`, a task, what a ticket records of one
            (:meth:`~fastglt.Task.record`), or ``None`` to go by the data.
        data: The graph.
        metric: What to measure; ``None`` takes the task's usual metric.
        options: Further arguments of the task's class; those that are ``None`` are left out.

    Raises:
        GraphError: If ``data`` is no graph.
        UnknownNameError: If there is no such task or metric.
        InputError: If the task has no such option, or is given ready-made together with options.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if metric is not None:
        given["metric"] = metric
    if isinstance(task, Task):
        if given:
            raise InputError(f"{min(given)} must be given to the task itself, {task.name!r}")
        return task
    if isinstance(task, Mapping):
        given = {name: value for name, value in task.items() if name != "name"} | given
        task = str(task["name"])
    name = task or _natural_task(data)
    if name not in TASKS:
        raise UnknownNameError("task", name, TASKS)
    if name == GraphClassification.name and metric is None and _has_many_labels(data):
        given["metric"] = "roc_auc"
    try:
        made: Task = TASKS[name](**given)
    except TypeError as error:
        raise InputError(f"task {name!r} does not take all of {sorted(given)}: {error}") from None
    return made


def _natural_task(data: Data) -> str:
    if not isinstance(data, BaseData):
        raise GraphError(
            f"data must be a torch_geometric.data.Data (got {type(data).__name__}); graphs of a "
            "list or dataset become one with fastglt.data.from_graph_splits"
        )
    if data.get("val_pos_edge_label_index") is not None:
        return LinkPrediction.name
    y = data.get("y")
    if isinstance(data, Batch) and y is not None and len(y) == data.num_graphs:
        return GraphClassification.name
    return MultiLabelNodeClassification.name if _has_many_labels(data) else NodeClassification.name


def _has_many_labels(data: Data) -> bool:
    y = data.get("y")
    return y is not None and y.dim() == 2 and y.is_floating_point()
