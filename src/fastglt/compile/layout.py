"""How values lie in memory, and which memory is used again."""

from __future__ import annotations

import torch
from torch import Tensor

REUSED_BYTES = 1 << 16
"""Values from this size on are written where others were."""
CACHE_BYTES = 1 << 23
"""Values that are larger are in no cache of one core."""
MOST_FREE = 4
"""Values of a shape that are kept for the next call."""
LINE_BYTES = 64
"""Of a cache."""
ALIGNED_LINES = 4
"""Lines in a row from which on rows of large values are aligned."""


class Memory:
    """Memory for values that are not small, which is used again.

    Fresh memory is dear: the system clears it page by page when it is first written. What is given
    out is not held on to, so that a value that is never given back costs nothing.
    """

    def __init__(self) -> None:
        self._free: dict[tuple[int, int, torch.dtype], list[Tensor]] = {}
        self._lent: set[int] = set()

    def new(self, like: Tensor, rows: int, channels: int) -> Tensor:
        """Values ``[rows, channels]`` to be written, of the kind of others.

        Where they are in no cache, rows begin where a line of a cache begins, so that parts of them
        can be read without their neighbours.
        """
        if not is_reused(like, rows, channels):
            return like.new_empty(rows, channels)
        free = self._free.get((rows, channels, like.dtype))
        try:
            value = free.pop() if free else _fresh(like, rows, channels)
        except IndexError:  # another thread was faster
            value = _fresh(like, rows, channels)
        self._lent.add(value.data_ptr())
        return value

    def give_back(self, value: Tensor) -> None:
        """Let a value that nobody reads any more be overwritten, if it was made here."""
        if self.hand_over(value):
            key = (value.size(0), value.size(1), value.dtype)
            free = self._free.setdefault(key, [])
            if len(free) < MOST_FREE:  # or as many threads as ever called would be provided for
                free.append(value)

    def hand_over(self, value: Tensor) -> bool:
        """Leave a value to the caller for good; whether it was made here."""
        place = value.data_ptr()
        made = place in self._lent
        self._lent.discard(place)
        return made

    def num_bytes(self) -> int:
        """Bytes that are kept for the next call."""
        return sum(
            value.untyped_storage().nbytes() for free in self._free.values() for value in free
        )


def _fresh(like: Tensor, rows: int, channels: int) -> Tensor:
    line, width = LINE_BYTES // like.element_size(), channels
    if rows * channels * like.element_size() >= CACHE_BYTES and width >= ALIGNED_LINES * line:
        width = -(-channels // line) * line
    return like.new_empty(rows, width)[:, :channels]


def is_reused(like: Tensor, rows: int, channels: int) -> bool:
    """Whether values ``[rows, channels]`` of the kind of others are too large for fresh memory."""
    return like.device.type == "cpu" and rows * channels * like.element_size() >= REUSED_BYTES
