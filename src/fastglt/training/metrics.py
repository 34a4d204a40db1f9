"""Metrics of predictions. All are in ``[0, 1]`` and higher is better."""

from __future__ import annotations

import re

import torch
from scipy.stats import mannwhitneyu
from torch import Tensor
from torchmetrics.functional.classification import binary_average_precision, multiclass_accuracy

from fastglt.errors import InputError

_HITS = re.compile(r"hits@([1-9][0-9]*)")


def accuracy(out: Tensor, y: Tensor) -> float:
    """Share of rows whose largest logit is at the label.

    Args:
        out: Logits ``[n, num_classes]``.
        y: Labels ``[n]``.
    """
    share = multiclass_accuracy(out.argmax(dim=-1), y, out.size(-1), average="micro")
    # torchmetrics answers in float32; the share itself is exact in float64.
    return round(float(share) * len(y)) / len(y)


def roc_auc(positive: Tensor, negative: Tensor) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative.

    Equal scores count one half (Mann & Whitney, 1947), which is the area under the curve.

    Args:
        positive: Scores of the positives ``[n]``.
        negative: Scores of the negatives ``[m]``.

    Raises:
        InputError: If there are no positives or no negatives.
    """
    if not (positive.numel() and negative.numel()):
        raise InputError(
            "ROC-AUC needs both positives and negatives among what it is taken of (got "
            f"{positive.numel()} and {negative.numel()})"
        )
    pair = (positive.detach().cpu().double().numpy(), negative.detach().cpu().double().numpy())
    statistic = mannwhitneyu(*pair, method="asymptotic").statistic
    return float(statistic) / (positive.numel() * negative.numel())


def mean_roc_auc(out: Tensor, y: Tensor) -> float:
    """Mean area under the ROC curve over the labels, as OGB's evaluator has it.

    Unlabelled entries are left out, and so are labels with only positives or only negatives.

    Args:
        out: Scores ``[n, num_labels]``.
        y: 0, 1, or NaN where unlabelled, ``[n, num_labels]``.

    Raises:
        InputError: If no label has both positives and negatives.
    """
    areas = [
        roc_auc(scores[truth == 1], scores[truth == 0])
        for scores, truth in zip(out.unbind(1), y.unbind(1), strict=True)
        if bool((truth == 1).any()) and bool((truth == 0).any())
    ]
    if not areas:
        raise InputError("ROC-AUC needs a label with both positives and negatives (got none)")
    return sum(areas) / len(areas)


def average_precision(positive: Tensor, negative: Tensor) -> float:
    """Average precision of ranking positives above negatives, scores ``[n]`` and ``[m]``."""
    scores = torch.cat([positive, negative]).detach()
    truth = torch.cat([torch.ones_like(positive), torch.zeros_like(negative)]).long()
    # Ranks instead of scores: torchmetrics would squash scores through a sigmoid, making ties.
    ranks = torch.unique(scores, return_inverse=True)[1].to(torch.float64)
    return float(binary_average_precision(ranks / max(1.0, float(ranks.max())), truth))


def hits_at(k: int, positive: Tensor, negative: Tensor) -> float:
    """Share of positives that score above the k-th best negative, as OGB's evaluator has it.

    With fewer than ``k`` negatives it is 1.

    Args:
        k: At least 1.
        positive: Scores of the positives ``[n]``.
        negative: Scores of the negatives ``[m]``.
    """
    if negative.numel() < k:
        return 1.0
    threshold = torch.topk(negative, k).values[-1]
    return int((positive > threshold).sum()) / positive.numel()


def hits_k(name: str) -> int | None:
    """The ``K`` of a metric called ``hits@K``, else ``None``."""
    match = _HITS.fullmatch(name)
    return int(match[1]) if match else None
