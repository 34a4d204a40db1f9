"""Sparsities and the selection of exact counts."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

import numpy as np
import torch
from torch import Tensor

from fastglt.errors import BudgetError
from fastglt.masks.histogram import Cut

_MANY: Final = 1 << 20
"""From how many scores on histograms are faster than copying and partitioning."""


def check_sparsity(value: float, name: str) -> float:
    """Return ``value`` as a float if it is a sparsity.

    Raises:
        BudgetError: If it is not a number in ``[0, 1)``.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0.0 <= number < 1.0:
        raise BudgetError(f"{name} must be in [0, 1) (got {value})")
    return number


def num_removed(total: int, sparsity: float) -> int:
    """Number of components that a sparsity removes: ``floor(sparsity * total)``.

    The sparsity is taken as the decimal that was written, not as its binary neighbour, so
    ``num_removed(100, 0.29)`` is 29 although ``0.29 * 100 < 29`` in floating point.

    Raises:
        BudgetError: If ``sparsity`` is not in ``[0, 1)``.
    """
    return math.floor(Fraction(str(check_sparsity(sparsity, "sparsity"))) * total)


def select_top(score: Tensor, count: int, among: Tensor | None = None) -> Tensor:
    """Mask of exactly ``count`` entries with the highest score, ties broken by index order.

    Runs in O(n). Besides scores and result, large inputs need a constant amount of memory.

    Args:
        score: Scores of any shape, higher = keep. May hold infinities, but no NaN.
        count: How many entries to select, from 0 to as many as there are.
        among: Boolean, of the shape of ``score``: the entries that may be selected; the scores of
            others are not looked at. None for all.

    Returns:
        Boolean tensor of the shape of ``score`` with ``count`` entries set.

    Raises:
        ValueError: If ``count`` is out of range or a score is NaN.
    """
    flat = score.detach().reshape(-1)
    pool = None if among is None else among.reshape(-1)
    size = flat.numel() if pool is None else int(pool.count_nonzero())
    if not 0 <= count <= size:
        raise ValueError(f"count must be in [0, {size}] (got {count})")
    if flat.numel() >= _MANY:
        return _select_by_histograms(flat, count, pool).view(score.shape)
    if pool is None:
        return _select_few(flat, count).view(score.shape)
    result = pool.clone()
    result[pool] = _select_few(flat[pool], count)
    return result.view(score.shape)


def num_grown(keep: Tensor, share: float, target: int) -> int:
    """How many components :func:`swap` regrows."""
    kept = int(keep.count_nonzero())  # a sum would make wide integers of them first
    return min(int(share * kept) + max(target - kept, 0), keep.numel() - kept, target)


def swap(keep: Tensor, drop_score: Tensor, grow_score: Tensor, share: float, target: int) -> Tensor:
    """Exchange the worst kept components for the best pruned ones.

    ``floor(share * kept)`` of those that were pruned before are regrown, and so many more that
    ``target`` can be reached, but no more than there are or than ``target``. Of the kept ones so
    many are dropped that ``target`` are left.

    Args:
        keep: Mask of any shape.
        drop_score: Of the shape of ``keep``; the lowest kept ones are dropped.
        grow_score: Of the shape of ``keep``; the highest pruned ones are regrown.
        share: Share of the kept components to regrow, in ``[0, 1]``.
        target: Number of components kept afterwards.

    Returns:
        The new mask, a new tensor.
    """
    grown = num_grown(keep, share, target)
    result = select_top(drop_score, target - grown, keep)
    result |= select_top(grow_score, grown, ~keep)
    return result


def _select_by_histograms(flat: Tensor, count: int, pool: Tensor | None) -> Tensor:
    cut = Cut.start(flat.dtype, count)
    while not cut.is_final:
        cut = cut.narrowed(cut.counts(flat, pool))
    return cut.mask(flat, cut.wanted, pool)


def _select_few(flat: Tensor, count: int) -> Tensor:
    if bool(flat.isnan().any()):
        raise ValueError("scores must not be NaN")
    if count in (0, flat.numel()):
        return torch.full_like(flat, count > 0, dtype=torch.bool)
    threshold = _kth_smallest(flat, flat.numel() - count)
    selected = flat > threshold
    missing = count - int(selected.count_nonzero())
    ties = (flat == threshold).nonzero().view(-1)
    selected[ties[:missing]] = True
    return selected


def _kth_smallest(values: Tensor, position: int) -> float | int:
    """The value at a position, counted from 0, of the sorted values."""
    if values.device.type == "cpu" and values.dtype in (torch.float32, torch.float64):
        # Vectorised, and without the index array that kthvalue fills.
        partitioned = np.partition(values.numpy(), position)
        found: float | int = partitioned[position].item()
    else:
        found = values.kthvalue(position + 1).values.item()
    return found
