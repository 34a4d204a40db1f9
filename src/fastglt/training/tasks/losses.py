"""Losses of logits against labels and against a teacher's logits."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def labelled_bce(out: Tensor, y: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits where ``y`` is not NaN; both of one shape."""
    labelled = ~y.isnan()
    return F.binary_cross_entropy_with_logits(out[labelled], y[labelled].to(out.dtype))


def soft_bce(out: Tensor, target: Tensor, temperature: float) -> Tensor:
    """``T^2`` times the mean binary cross-entropy of logits against a teacher's logits."""
    soft = (target / temperature).sigmoid()
    return F.binary_cross_entropy_with_logits(out / temperature, soft) * temperature**2


def softmax_divergence(out: Tensor, target: Tensor, temperature: float) -> Tensor:
    """``T^2 * KL(softmax(target / T) || softmax(out / T))``, mean over rows."""
    expected = F.log_softmax(target / temperature, dim=-1)
    actual = F.log_softmax(out / temperature, dim=-1)
    kl = F.kl_div(actual, expected, reduction="batchmean", log_target=True)
    return kl * temperature**2
