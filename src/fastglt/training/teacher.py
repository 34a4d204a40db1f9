"""Teacher guidance: the dense model's soft predictions as additional targets."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data

from fastglt.training.task import Task


@dataclass(frozen=True)
class Teacher:
    """Soft targets for every training-visible node.

    In a transductive setting these are all nodes, so unlabelled nodes are used too.

    Attributes:
        logits: ``[num_nodes, num_classes]``, the teacher's output on the full graph.
        weight: Share of the distillation term in the loss, in ``[0, 1]``.
        temperature: Softmax temperature of both sides.
    """

    logits: Tensor
    weight: float = 0.7
    temperature: float = 1.0

    def divergence(self, out: Tensor) -> Tensor:
        """``T^2 * KL(teacher || out)``, mean over nodes (Hinton et al., arXiv 1503.02531)."""
        target = F.log_softmax(self.logits / self.temperature, dim=-1)
        log_probability = F.log_softmax(out / self.temperature, dim=-1)
        kl = F.kl_div(log_probability, target, reduction="batchmean", log_target=True)
        return kl * self.temperature**2


@dataclass(frozen=True)
class Objective:
    """The training loss: the task's own, mixed with the teacher's if there is one."""

    task: Task
    teacher: Teacher | None = None

    def __call__(self, out: Tensor, data: Data) -> Tensor:
        """Scalar loss of a model's output on ``data``."""
        loss = self.task.loss(out, data)
        if self.teacher is None:
            return loss
        weight = self.teacher.weight
        return (1 - weight) * loss + weight * self.teacher.divergence(out)
