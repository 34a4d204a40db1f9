"""FastGLT's regularisers of trained edge gates."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_absolute_difference(values: Tensor) -> Tensor:
    """Mean of ``|v_i - v_j|`` over all ordered pairs, a scalar; ``values`` is ``[n]``.

    Sorted, the k-th smallest value (from 0) counts ``2k - n + 1`` times, which takes O(n log n)
    time and O(n) memory instead of O(n^2) of both.
    """
    count = values.numel()
    ordered = values.sort().values
    factor = 2 * torch.arange(count, device=values.device, dtype=values.dtype) - count + 1
    return 2 * (factor * ordered).sum() / count**2


def gate_penalty(gate: Tensor, l1: float, diversity: float) -> Tensor:
    """``l1 * |m|_1 + diversity * (exp(-mean|m_i - m_j| / 2) - log var(m))``, a scalar.

    The regulariser of FastGLT's trained edge gates ``m`` (arXiv 2412.07605 and its public code):
    it drives the gates apart.
    """
    penalty = l1 * gate.abs().sum()
    if diversity and gate.numel() > 1:
        spread = torch.exp(-mean_absolute_difference(gate) / 2)
        penalty = penalty + diversity * (spread - torch.log(gate.var()))
    return penalty
