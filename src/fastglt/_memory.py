"""How a process of our own gets its memory from the system."""

from __future__ import annotations

import ctypes
import os
import platform

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_memory() -> None:
    """Let the process keep the memory that it frees, and torch ask for huge pages.

    By default each tensor of more than 32 MiB is fetched from the system page by page and given
    back when it is freed, which can take half of an epoch. Call it before torch is used. It
    changes the whole process, so only programs of our own do; it does nothing but on Linux with
    glibc, and leaves alone what the environment already says.
    """
    if platform.system() != "Linux":
        return
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read by torch
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for name, parameter, value in (
        ("MALLOC_MMAP_MAX_", _MMAP_MAX, 0),
        ("MALLOC_TRIM_THRESHOLD_", _TRIM_THRESHOLD, -1),
    ):
        if name not in os.environ:
            libc.mallopt(parameter, value)
