"""One label a node."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data

from fastglt.errors import InputError
from fastglt.training.metrics import accuracy, roc_auc
from fastglt.training.task import Split
from fastglt.training.tasks.base import NamedTask
from fastglt.training.tasks.losses import as_sure, softmax_divergence


class NodeClassification(NamedTask):
    """One label a node: cross-entropy, and accuracy or, for two classes, ROC-AUC.

    Args:
        metric: ``"accuracy"``, or ``"roc_auc"`` of class 1 against class 0.

    Raises:
        UnknownNameError: If there is no such metric.
    """

    name: ClassVar[str] = "node-classification"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "roc_auc")

    def __init__(self, metric: str = "accuracy") -> None:
        super().__init__(metric)

    def validate(self, data: Data) -> int:
        """Check graph, masks and labels; return the number of classes."""
        num_classes = super().validate(data)
        if self.metric_name == "roc_auc" and num_classes != 2:
            raise InputError(
                f"metric 'roc_auc' needs two classes (got {num_classes}); use metric='accuracy'"
            )
        return num_classes

    def loss(self, out: Tensor, data: Data, split: Split = "train") -> Tensor:
        """Mean cross-entropy over the nodes of a split."""
        mask = data[f"{split}_mask"]
        return F.cross_entropy(out[mask], data.y[mask])

    def metric(self, out: Tensor, data: Data, split: Split) -> float:
        """Accuracy or ROC-AUC over the nodes of a split."""
        mask = data[f"{split}_mask"]
        out, y = out[mask], data.y[mask]
        if self.metric_name == "accuracy":
            return accuracy(out, y)
        score = out[:, 1] - out[:, 0]
        return roc_auc(score[y == 1], score[y == 0])

    def reads(self, data: Data, split: Split) -> Tensor | None:
        """The nodes of the split."""
        mask: Tensor | None = data.get(f"{split}_mask")
        return mask

    def guidance(self, out: Tensor, target: Tensor, temperature: float) -> Tensor:
        """``T^2 * KL(teacher || out)``, mean over rows (Hinton et al., arXiv 1503.02531)."""
        return softmax_divergence(out, target, temperature)

    def profile(self, encoded: Tensor) -> Tensor:
        """Class probabilities."""
        return encoded.softmax(dim=-1)

    def classes(self, encoded: Tensor) -> Tensor:
        """The most probable class."""
        return encoded.argmax(dim=-1)

    def taught(self, encoded: Tensor, data: Data) -> Data:
        """With the teacher's classes of the nodes of no split; left as it is for ROC-AUC."""
        if self.metric_name != "accuracy":
            return data
        result = copy.copy(data)
        result.y = torch.where(data.train_mask | data.val_mask, data.y, encoded.argmax(dim=-1))
        result.val_mask = ~data.train_mask
        return result

    def labelled_share(self, data: Data) -> float:
        """Share of the training nodes; 1 where a subclass knows them by something else."""
        mask = data.get("train_mask")
        return 1.0 if mask is None else float(mask.float().mean())

    def averaged(self, encoded: Tensor, average: Callable[[Tensor], Tensor]) -> Tensor:
        """Logits of averaged class probabilities, as sure of themselves as those given."""
        probability = average(self.profile(encoded))
        logits = probability.clamp_min(torch.finfo(probability.dtype).tiny).log()
        return as_sure(logits, encoded)
