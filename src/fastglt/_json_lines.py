"""Files of one JSON document a line, to which lines are appended."""

from __future__ import annotations

import os
from typing import BinaryIO

_BLOCK = 1 << 16


def end_of_whole_lines(file: BinaryIO) -> int:
    """Where the last line that has an end ends; what follows a killed writer left behind.

    Args:
        file: Open for reading; its position is changed.

    Returns:
        int: Offset in bytes.
    """
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
