"""Teacher guidance: the dense model's soft predictions as additional targets."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from fastglt._csr import ignore_csr_warnings
from fastglt.gating import Adjacency
from fastglt.training.features import Features
from fastglt.training.task import Task

HOPS = 10
"""Steps of personalised PageRank."""


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
    """The training loss: the task's own, mixed with the teacher's if there is one.

    Attributes:
        task: What is predicted.
        teacher: Whose predictions are to be met.
        features: Hidden features that are to be resembled, added to the loss.
    """

    task: Task
    teacher: Teacher | None = None
    features: Features | None = None

    def __call__(self, out: Tensor, data: Data) -> Tensor:
        """Scalar loss of a model's predictions on ``data``."""
        loss = self.task.loss(out, data)
        if self.teacher is not None:
            weight = self.teacher.weight
            loss = (1 - weight) * loss + weight * self.divergence(out, data)
        return loss if self.features is None else loss + self.features.loss()

    def watching(self, model: nn.Module) -> AbstractContextManager[None]:
        """What has to be open while the model is trained by this loss."""
        return nullcontext() if self.features is None else self.features.watching(model)

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


@torch.no_grad()
def propagate(values: Tensor, edge_index: Tensor, share: float) -> Tensor:
    """Averages over a node and its surroundings by personalised PageRank.

    :data:`HOPS` steps of ``Z = share * A Z + (1 - share) * values``, with the symmetrically
    normalised adjacency matrix ``A`` with self-loops (Gasteiger et al., ICLR 2019, arXiv
    1810.05997), divided by the same of ones: ``A`` itself gives nodes of high degree less than an
    average.

    Args:
        values: ``[num_nodes, k]``.
        edge_index: ``[2, num_edges]``.
        share: What is taken from neighbours, in ``[0, 1)``.
    """
    num_nodes = values.size(0)
    edges, weight = gcn_norm(edge_index, num_nodes=num_nodes, dtype=values.dtype)
    adjacency = Adjacency(edges, num_nodes, num_nodes)
    start = torch.cat([values, values.new_ones(num_nodes, 1)], dim=1)
    result = start
    with ignore_csr_warnings():
        for _ in range(HOPS):
            result = adjacency.matmul(weight, result).mul_(share).add_(start, alpha=1 - share)
    return result[:, :-1] / result[:, -1:]


def propagated(teacher: Teacher, task: Task, data: Data, share: float) -> Teacher:
    """A teacher whose predictions of nodes are averaged over their surroundings.

    Neighbours tend to share a label, so the average is right more often than a prediction alone.

    Args:
        teacher: The teacher; it is returned where the task cannot average, or nothing is shared.
        task: What is predicted.
        data: The graph that the teacher may see.
        share: What is taken from neighbours, in ``[0, 1)``.
    """
    if share == 0:
        return teacher
    edge_index = data.edge_index
    encoded = task.averaged(teacher.encoded, lambda rows: propagate(rows, edge_index, share))
    return teacher if encoded is None else replace(teacher, encoded=encoded)


def loss_by_propagation(before: Teacher, after: Teacher, task: Task, data: Data) -> str | None:
    """Why a teacher is better left as it is, if it is.

    That is where neighbours rarely share a label, or a model knows all that they could tell, so
    that its validation metric would fall by more than half a standard error, that of a share among
    as many nodes. Some fall there has to be: the model's epoch was chosen by this metric.

    Args:
        before: The teacher, which has not seen the labels of the validation nodes.
        after: What :func:`propagated` made of it.
        task: What is predicted.
        data: The graph that the teacher may see.
    """
    if after is before:
        return None
    model = nn.Identity() if before.model is None else before.model
    was, becomes = (
        task.metric(task.target(model, teacher.encoded, data), data, "val")
        for teacher in (before, after)
    )
    mask = data.get("val_mask")
    count = 0 if mask is None else int(mask.sum())
    error = math.sqrt(max(was * (1 - was), 0.0) / count) if count else 0.0
    if becomes >= was - error / 2:
        return None
    return (
        f"teacher_propagation was left out: on validation it takes the teacher from {was:.4f} "
        f"to {becomes:.4f}"
    )
