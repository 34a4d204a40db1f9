"""Sorting of integer keys, lean enough for 10^8 edges."""

from __future__ import annotations

import torch
from torch import Tensor

_INT64_BITS = 63


def stable_sort(keys: Tensor, bound: int) -> tuple[Tensor, Tensor]:
    """Sort integers; equal ones keep their order.

    Key and position are packed into one integer where both fit, because sorting plain integers
    takes a fraction of the time and memory that sorting with indices takes.

    Args:
        keys: ``[n]`` int64, each in ``[0, bound)``.
        bound: A number above every key.

    Returns:
        The sorted keys and the positions that they came from, ``[n]`` int64 each.
    """
    position_bits = max(keys.numel() - 1, 0).bit_length()
    if max(bound - 1, 0).bit_length() + position_bits > _INT64_BITS:
        result = torch.sort(keys, stable=True)
        return result.values, result.indices
    packed = keys << position_bits
    packed += torch.arange(keys.numel(), device=keys.device)
    packed = _sort_in_place(packed)
    return packed >> position_bits, packed.bitwise_and_((1 << position_bits) - 1)


def _sort_in_place(values: Tensor) -> Tensor:
    if values.device.type != "cpu":
        return values.sort().values
    values.numpy().sort()  # vectorised, unlike torch's
    return values
