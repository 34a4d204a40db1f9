"""A task that stands for another one and changes some of what it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.training.task import Split, Task


class WrappedTask(Task):
    """Does everything as another task does it; subclasses change what they need.

    Args:
        task: The other task.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        vars(self).update(
            name=task.name,
            metric_name=task.metric_name,
            passes_edge_weight=task.passes_edge_weight,
            passes_adjacency=task.passes_adjacency,
        )

    def call(self, model: nn.Module, data: Data) -> Tensor:
        """As the other task."""
        return self.task.call(model, data)

    def keywords(self, model: nn.Module, data: Data) -> dict[str, Any]:
        """As the other task."""
        return self.task.keywords(model, data)

    def loss(self, out: Tensor, data: Data, split: Split = "train") -> Tensor:
        """As the other task."""
        return self.task.loss(out, data, split)

    def metric(self, out: Tensor, data: Data, split: Split) -> float:
        """As the other task."""
        return self.task.metric(out, data, split)

    def reads(self, data: Data, split: Split) -> Tensor | None:
        """As the other task."""
        return self.task.reads(data, split)

    def has_split(self, data: Data, split: Split) -> bool:
        """As the other task."""
        return self.task.has_split(data, split)

    def validate(self, data: Data) -> int:
        """As the other task."""
        return self.task.validate(data)

    def check_output(self, out: object, data: Data, num_outputs: int) -> None:
        """As the other task."""
        self.task.check_output(out, data, num_outputs)

    def prepare(self, data: Data) -> Data:
        """As the other task."""
        return self.task.prepare(data)

    def num_batches(self, data: Data) -> int:
        """As the other task."""
        return self.task.num_batches(data)

    def batch(self, data: Data, generator: torch.Generator) -> Data:
        """As the other task."""
        return self.task.batch(data, generator)

    def scored(self, data: Data, generator: torch.Generator) -> Data:
        """As the other task."""
        return self.task.scored(data, generator)

    def gates_edge_weight(self, model: nn.Module) -> bool:
        """As the other task."""
        return self.task.gates_edge_weight(model)

    def encode(self, model: nn.Module, data: Data, gate: Tensor | None = None) -> Tensor:
        """As the other task."""
        return self.task.encode(model, data, gate)

    def readout(self, model: nn.Module, encoded: Tensor, data: Data) -> Tensor:
        """As the other task."""
        return self.task.readout(model, encoded, data)

    def target(self, model: nn.Module, encoded: Tensor, data: Data) -> Tensor:
        """As the other task."""
        return self.task.target(model, encoded, data)

    def guidance(self, out: Tensor, target: Tensor, temperature: float) -> Tensor:
        """As the other task."""
        return self.task.guidance(out, target, temperature)

    def profile(self, encoded: Tensor) -> Tensor:
        """As the other task."""
        return self.task.profile(encoded)

    def classes(self, encoded: Tensor) -> Tensor | None:
        """As the other task."""
        return self.task.classes(encoded)

    def averaged(self, encoded: Tensor, average: Callable[[Tensor], Tensor]) -> Tensor | None:
        """As the other task."""
        return self.task.averaged(encoded, average)

    def taught(self, encoded: Tensor, data: Data) -> Data:
        """As the other task."""
        return self.task.taught(encoded, data)

    def labelled_share(self, data: Data) -> float:
        """As the other task."""
        return self.task.labelled_share(data)

    def record(self) -> dict[str, Any]:
        """As the other task."""
        return self.task.record()
