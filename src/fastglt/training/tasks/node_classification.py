"""One label a node."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data

from fastglt.data.validate import validate
from fastglt.errors import InputError, ModelError, UnknownNameError
from fastglt.training.metrics import accuracy, roc_auc
from fastglt.training.task import Split, Task, describe_output


class NodeClassification(Task):
    """One label a node: cross-entropy, and accuracy or, for two classes, ROC-AUC.

    Args:
        metric: ``"accuracy"``, or ``"roc_auc"`` of class 1 against class 0.

    Raises:
        UnknownNameError: If there is no such metric.
    """

    name: ClassVar[str] = "node-classification"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "roc_auc")

    def __init__(self, metric: str = "accuracy") -> None:
        if metric not in self.metrics:
            raise UnknownNameError(f"metric of {self.name}", metric, self.metrics)
        self.metric_name = metric

    def validate(self, data: Data) -> int:
        """Check graph, masks and labels; return the number of classes."""
        num_classes = validate(data, self.name)
        if self.metric_name == "roc_auc" and num_classes != 2:
            raise InputError(
                f"metric 'roc_auc' needs two classes (got {num_classes}); use metric='accuracy'"
            )
        return num_classes

    def check_output(self, out: object, data: Data, num_outputs: int) -> None:
        """Expect float logits ``[num_nodes, num_classes]``; columns without labels are allowed."""
        check_logits(out, (int(data.num_nodes or 0), num_outputs), "node")

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

    def guidance(self, out: Tensor, target: Tensor, temperature: float) -> Tensor:
        """``T^2 * KL(teacher || out)``, mean over rows (Hinton et al., arXiv 1503.02531)."""
        return softmax_divergence(out, target, temperature)

    def profile(self, encoded: Tensor) -> Tensor:
        """Class probabilities."""
        return encoded.softmax(dim=-1)


def softmax_divergence(out: Tensor, target: Tensor, temperature: float) -> Tensor:
    """``T^2 * KL(softmax(target / T) || softmax(out / T))``, mean over rows."""
    expected = F.log_softmax(target / temperature, dim=-1)
    actual = F.log_softmax(out / temperature, dim=-1)
    kl = F.kl_div(actual, expected, reduction="batchmean", log_target=True)
    return kl * temperature**2


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
