"""How values lie in memory."""

from __future__ import annotations

from torch import Tensor

CACHE_BYTES = 1 << 23
"""Values that are larger are in no cache of one core."""
LINE_BYTES = 64
"""Of a cache."""
ALIGNED_LINES = 4
"""Lines in a row from which on rows are aligned."""


def is_aligned(rows: int, channels: int, num_bytes: int) -> bool:
    """Whether rows are to begin where lines of a cache do: parts of them are read without others.

    Args:
        rows: Number of rows.
        channels: Numbers in a row.
        num_bytes: Of a number.
    """
    long = channels * num_bytes >= ALIGNED_LINES * LINE_BYTES
    return long and rows * channels * num_bytes >= CACHE_BYTES


def new_values(like: Tensor, rows: int, channels: int) -> Tensor:
    """Values ``[rows, channels]`` to be written, of the kind of others, aligned if need be."""
    if not is_aligned(rows, channels, like.element_size()):
        return like.new_empty(rows, channels)
    line = LINE_BYTES // like.element_size()
    return like.new_empty(rows, -(-channels // line) * line)[:, :channels]
