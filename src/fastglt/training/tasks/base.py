"""What the tasks that have a name share."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from torch_geometric.data import Data

from fastglt.data.validate import validate
from fastglt.errors import InputError, ModelError, UnknownNameError
from fastglt.training.task import Task, describe_output


class NamedTask(Task):
    """A task that a ticket can be read for again: by name, metric and options.

    Attributes:
        metrics: Names of the metrics.
        options: Further arguments of the constructor, which are attributes too, with their
            defaults.

    Args:
        metric: What is measured.

    Raises:
        UnknownNameError: If there is no such metric.
    """

    metrics: ClassVar[tuple[str, ...]]
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, metric: str) -> None:
        if not self.has_metric(metric):
            raise UnknownNameError(f"metric of {self.name}", metric, self.metrics)
        self.metric_name = metric

    @classmethod
    def has_metric(cls, metric: str) -> bool:
        """Whether there is a metric of that name."""
        return metric in cls.metrics

    def validate(self, data: Data) -> int:
        """Check graph, splits and labels; return the number of classes or labels."""
        return validate(data, self.name)

    def check_output(self, out: object, data: Data, num_outputs: int) -> None:
        """Expect float logits ``[num_nodes, num_outputs]``; columns without labels are allowed."""
        check_logits(out, (int(data.num_nodes or 0), num_outputs), "node")

    def record(self) -> dict[str, Any]:
        """Name, metric and the options that differ from their defaults."""
        chosen = {name: getattr(self, name) for name in self.options}
        changed = {name: value for name, value in chosen.items() if value != self.options[name]}
        return super().record() | changed


def check_batch_size(batch_size: int | None) -> None:
    """Refuse an impossible batch size; ``None`` leaves it to the task.

    Raises:
        InputError: If it is below 1.
    """
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size must be at least 1 (got {batch_size})")


def check_logits(out: object, shape: tuple[int, int], row: str) -> None:
    """Check that a model returned logits, one row a node or graph.

    Raises:
        ModelError: If ``out`` is no float tensor of that shape; more columns are allowed.
    """
    expected = f"a float tensor of shape {shape}: one row a {row}, one column an output"
    if (
        not isinstance(out, Tensor)
        or not out.is_floating_point()
        or out.dim() != 2
        or out.size(0) != shape[0]
        or out.size(1) < shape[1]
    ):
        raise ModelError(f"the model must return {expected} (got {describe_output(out)})")
