"""Several yes-or-no labels a node."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data

from fastglt.data.validate import validate
from fastglt.errors import UnknownNameError
from fastglt.training.metrics import mean_roc_auc
from fastglt.training.task import Split, Task
from fastglt.training.tasks.node_classification import check_logits


class MultiLabelNodeClassification(Task):
    """Several yes-or-no labels a node: binary cross-entropy and mean ROC-AUC over the labels.

    ``data.y`` is ``[num_nodes, num_labels]`` of 0, 1 and NaN (unlabelled).

    Args:
        metric: ``"roc_auc"``.

    Raises:
        UnknownNameError: If there is no such metric.
    """

    name: ClassVar[str] = "multilabel-node-classification"
    metrics: ClassVar[tuple[str, ...]] = ("roc_auc",)

    def __init__(self, metric: str = "roc_auc") -> None:
        if metric not in self.metrics:
            raise UnknownNameError(f"metric of {self.name}", metric, self.metrics)
        self.metric_name = metric

    def validate(self, data: Data) -> int:
        """Check graph, masks and labels; return the number of labels."""
        return validate(data, self.name)

    def check_output(self, out: object, data: Data, num_outputs: int) -> None:
        """Expect float logits ``[num_nodes, num_labels]``."""
        check_logits(out, (int(data.num_nodes or 0), num_outputs), "node")

    def loss(self, out: Tensor, data: Data, split: Split = "train") -> Tensor:
        """Mean binary cross-entropy over the labelled entries of a split."""
        mask = data[f"{split}_mask"]
        return labelled_bce(out[mask][:, : data.y.size(1)], data.y[mask])

    def metric(self, out: Tensor, data: Data, split: Split) -> float:
        """Mean ROC-AUC over the labels, on the nodes of a split."""
        mask = data[f"{split}_mask"]
        return mean_roc_auc(out[mask][:, : data.y.size(1)], data.y[mask])

    def guidance(self, out: Tensor, target: Tensor, temperature: float) -> Tensor:
        """Binary cross-entropy against the teacher's probabilities, see :func:`soft_bce`."""
        return soft_bce(out, target, temperature)

    def profile(self, encoded: Tensor) -> Tensor:
        """Probabilities of the labels."""
        return encoded.sigmoid()


def labelled_bce(out: Tensor, y: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits where ``y`` is not NaN; both of one shape."""
    labelled = ~y.isnan()
    return F.binary_cross_entropy_with_logits(out[labelled], y[labelled].to(out.dtype))


def soft_bce(out: Tensor, target: Tensor, temperature: float) -> Tensor:
    """``T^2`` times the mean binary cross-entropy of logits against a teacher's logits."""
    soft = (target / temperature).sigmoid()
    return F.binary_cross_entropy_with_logits(out / temperature, soft) * temperature**2
