"""Sorting of integer keys, lean enough for 10^8 edges."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csc_array
from torch import Tensor

_INT64_BITS = 63


def counting_sort(keys: Tensor, bound: int, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sort by small integers in time linear in both; equal ones keep their order.

    Args:
        keys: ``[n]``, each in ``[0, bound)``; ``n`` and ``bound`` below 2**31.
        bound: A number above every key.
        values: ``[n]`` integers below 2**31 to bring into the same order.

    Returns:
        Where each key starts, ``[bound + 1]``, the positions that the sorted keys came from, and
        the values in their order, ``[n]``; all int32.
    """
    if keys.device.type != "cpu":
        _, position = stable_sort(keys, bound)
        starts = torch.zeros(bound + 1, dtype=torch.int32, device=keys.device)
        starts[1:] = torch.bincount(keys, minlength=bound).cumsum(0)
        return starts, position.to(torch.int32), values[position].to(torch.int32)
    # A matrix with one entry a column, turned from columns to rows.
    columns = np.arange(keys.numel() + 1, dtype=np.int32)
    entries = (values.to(torch.int32).numpy(), keys.to(torch.int32).numpy(), columns)
    rows = csc_array(entries, shape=(bound, keys.numel())).tocsr()
    starts, position, ordered = map(torch.from_numpy, (rows.indptr, rows.indices, rows.data))
    return starts, position, ordered


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
