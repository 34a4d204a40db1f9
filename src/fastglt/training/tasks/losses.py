"""Losses of logits against labels and against a teacher's logits."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

_OCTAVES = 6.0
"""Logits are made up to ``2 ** 6`` times as large or as small."""
_HALVINGS = 30
"""Steps of the bisection for the factor."""


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


def as_sure(logits: Tensor, like: Tensor) -> Tensor:
    """Logits times a factor, such that their mean entropy is that of others.

    Averages of predictions are less sure than predictions are; to learn from them as they are would
    be to learn doubt.

    Args:
        logits: ``[..., num_classes]``.
        like: Of the same shape; where all of it is certain, the factor has an end.
    """
    wanted = _mean_entropy(like)
    low, high = -_OCTAVES, _OCTAVES
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _mean_entropy(logits * 2.0**middle) > wanted:
            low = middle
        else:
            high = middle
    factor: float = 2.0**low
    return logits * factor


def _mean_entropy(logits: Tensor) -> float:
    log_p = F.log_softmax(logits, dim=-1)
    return -float((log_p.exp() * log_p).sum(dim=-1).mean())
