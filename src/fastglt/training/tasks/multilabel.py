"""Several yes-or-no labels a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor
from torch_geometric.data import Data

from fastglt.training.metrics import mean_roc_auc
from fastglt.training.task import Split
from fastglt.training.tasks.base import NamedTask
from fastglt.training.tasks.losses import as_sure, labelled_bce, soft_bce


class MultiLabelNodeClassification(NamedTask):
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
        super().__init__(metric)

    def loss(self, out: Tensor, data: Data, split: Split = "train") -> Tensor:
        """Mean binary cross-entropy over the labelled entries of a split."""
        mask = data[f"{split}_mask"]
        return labelled_bce(out[mask][:, : data.y.size(1)], data.y[mask])

    def metric(self, out: Tensor, data: Data, split: Split) -> float:
        """Mean ROC-AUC over the labels, on the nodes of a split."""
        mask = data[f"{split}_mask"]
        return mean_roc_auc(out[mask][:, : data.y.size(1)], data.y[mask])

    def reads(self, data: Data, split: Split) -> Tensor | None:
        """The nodes of the split."""
        mask: Tensor | None = data.get(f"{split}_mask")
        return mask

    def guidance(self, out: Tensor, target: Tensor, temperature: float) -> Tensor:
        """Binary cross-entropy against the teacher's probabilities, see :func:`soft_bce`."""
        return soft_bce(out, target, temperature)

    def profile(self, encoded: Tensor) -> Tensor:
        """Probabilities of the labels."""
        return encoded.sigmoid()

    def labelled_share(self, data: Data) -> float:
        """Share of the training nodes that have a label."""
        return float((data.train_mask & ~data.y.isnan().all(dim=-1)).float().mean())

    def averaged(self, encoded: Tensor, average: Callable[[Tensor], Tensor]) -> Tensor:
        """Logits of averaged probabilities, as sure of themselves as those given."""
        probability = average(self.profile(encoded))
        logits = probability.logit(eps=torch.finfo(probability.dtype).eps)
        return as_sure(_as_classes(logits), _as_classes(encoded))[..., 0] * 2


def _as_classes(logits: Tensor) -> Tensor:
    """Logits of yes and no, whose softmax is the sigmoid of those given."""
    return torch.stack([logits / 2, -logits / 2], dim=-1)
