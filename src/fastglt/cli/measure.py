"""What a ticket's model scores now, and whether that is what the ticket claims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastglt.errors import TicketFileError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch_geometric.data import Data

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


def measure(ticket: Ticket, model: nn.Module, data: Data, task: Task) -> list[Check]:
    """Measure on validation and test, where there are any.

    Args:
        ticket: What was applied.
        model: The model under the ticket.
        data: The graph under the ticket.
        task: What is measured; figures of another metric are not compared.

    Raises:
        GraphError: If the graph is not fit for the task.
        ModelError: If the model's output is not what the task expects.
        TicketFileError: If a recorded figure is no number.
    """
    from fastglt.training.inputs import with_sparse_inputs
    from fastglt.training.loop import predict

    num_outputs = task.validate(data)
    data = with_sparse_inputs(model, task.prepare(data), task)
    out = predict(task, model, data)
    task.check_output(out, data, num_outputs)
    same = ticket.metrics.get("metric") in (None, task.metric_name)
    checks = []
    for split in SPLITS:
        if task.has_split(data, split):
            measured = task.metric(out, data, split)
            recorded = _recorded(ticket, f"{split}_ticket") if same else None
            slack = rounding_slack(task, out, data, split, measured)
            checks.append(Check(split, measured, recorded, EXACT + slack))
    return checks


def rounding_slack(task: Task, out: Tensor, data: Data, split: Split, measured: float) -> float:
    """How far rounding may move a metric, by trial.

    Sparse or dense inputs, thread counts and machines add in different orders.

    Args:
        task: What is measured.
        out: The model's predictions.
        data: The graph.
        split: Where it is measured.
        measured: The metric of ``out``.
    """
    import torch

    scale = ROUNDING * float(out.abs().max()) if out.numel() else 0.0
    generator = torch.Generator().manual_seed(0)

    def moved() -> float:
        noise = 2 * torch.rand(out.shape, generator=generator) - 1
        return task.metric(out + scale * noise.to(out), data, split)

    return 2 * max(abs(moved() - measured) for _ in range(TRIALS))


def _recorded(ticket: Ticket, name: str) -> float | None:
    value = ticket.metrics.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TicketFileError(f"the ticket's metric {name} must be a number (got {value!r})")
    return float(value)
