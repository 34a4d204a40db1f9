"""How values lie in memory, and which memory is used again."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

CACHE_BYTES = 1 << 23
"""Values that are larger are in no cache of one core."""
LINE_BYTES = 64
"""Of a cache."""
ALIGNED_LINES = 4
"""Lines in a row from which on rows of large values are aligned."""


class Memory:
    """Memory for large values, which is used again.

    Fresh memory is dear: the system clears it page by page when it is first written. What is given
    out is not held on to, so that a value that is never given back costs nothing.
    """

    def __init__(self) -> None:
        self._free: dict[tuple[int, int, torch.dtype], list[Tensor]] = defaultdict(list)

    def new(self, like: Tensor, rows: int, channels: int) -> Tensor:
        """Values ``[rows, channels]`` to be written, of the kind of others.

        Where they are many, rows begin where a line of a cache begins, so that parts of them can be
        read without their neighbours.
        """
        if not is_large(like, rows, channels):
            return like.new_empty(rows, channels)
        line = LINE_BYTES // like.element_size()
        width = channels if channels < ALIGNED_LINES * line else -(-channels // line) * line
        free = self._free[rows, width, like.dtype]
        # Another thread may have been faster.
        try:
            whole = free.pop()
        except IndexError:
            whole = like.new_empty(rows, width)
        return whole[:, :channels]

    def give_back(self, value: Tensor) -> None:
        """Let a value that nobody reads any more be overwritten."""
        rows, width = value.size(0), value.stride(0)
        whole = rows * width * value.element_size() == value.untyped_storage().nbytes()
        if is_large(value, rows, value.size(1)) and whole and value.stride(1) == 1:
            key = (rows, width, value.dtype)
            self._free[key].append(value.as_strided((rows, width), (width, 1), 0))

    def num_bytes(self) -> int:
        """Bytes that are kept for the next call."""
        return sum(value.nbytes for free in self._free.values() for value in free)


def is_large(like: Tensor, rows: int, channels: int) -> bool:
    """Whether values ``[rows, channels]`` of the kind of others are too large for fresh memory."""
    return like.device.type == "cpu" and rows * channels * like.element_size() >= CACHE_BYTES
