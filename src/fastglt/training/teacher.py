"""Teacher guidance: the dense model's soft predictions as additional targets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.training.task import Task


@dataclass(frozen=True)
class Teacher:
    """Soft targets for everything that is visible in training.

    In a transductive setting these are all nodes, so unlabelled nodes are used too.

    Attributes:
        encoded: What the teacher's :meth:`Task.encode` gave for the whole graph; for node tasks
            its logits ``[num_nodes, num_outputs]``.
        weight: Share of the distillation term in the loss, in ``[0, 1]``.
        temperature: Temperature of both sides.
        model: The teacher, for tasks that read predictions out of what it encoded.
        schedule: How ``weight`` changes over a phase: it is ``"constant"``, ``"rising"`` from 0, or
            ``"falling"`` to 0.
    """

    encoded: Tensor
    weight: float = 0.7
    temperature: float = 1.0
    model: nn.Module | None = None
    schedule: str = "constant"


@dataclass(frozen=True)
class Objective:
    """The training loss: the task's own, mixed with the teacher's if there is one."""

    task: Task
    teacher: Teacher | None = None

    def __call__(self, out: Tensor, data: Data) -> Tensor:
        """Scalar loss of a model's predictions on ``data``."""
        loss = self.task.loss(out, data)
        if self.teacher is None:
            return loss
        weight = self.teacher.weight
        return (1 - weight) * loss + weight * self.divergence(out, data)

    def at(self, progress: float) -> Objective:
        """The loss after a share of a phase, from 0 to 1."""
        if self.teacher is None or self.teacher.schedule == "constant":
            return self
        share = progress if self.teacher.schedule == "rising" else 1 - progress
        now = replace(self.teacher, weight=share * self.teacher.weight, schedule="constant")
        return replace(self, teacher=now)

    def divergence(self, out: Tensor, data: Data) -> Tensor:
        """How far predictions on ``data`` are from the teacher's, a scalar; 0 without one."""
        teacher = self.teacher
        if teacher is None:
            return out.new_zeros(())
        model = nn.Identity() if teacher.model is None else teacher.model
        with torch.no_grad():
            target = self.task.target(model, teacher.encoded, data)
        return self.task.guidance(out, target, teacher.temperature)
