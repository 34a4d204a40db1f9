"""Memory: what is free, and how a process of our own gets it from the system."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path

from fastglt.errors import InputError

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


def available_bytes() -> int | None:
    """Memory that this process can still get, or ``None`` where the system does not say (Linux).

    The least of what is free, what the control group has left and what the limit on the address
    space leaves.
    """
    if not sys.platform.startswith("linux"):
        return None
    found = [value for value in (_free(), _left_in_group(), _left_of_limit()) if value is not None]
    return min(found, default=None)


def check_fits(num_bytes: int, what: str) -> None:
    """Refuse what does not fit into memory, before the system ends the process for it.

    Args:
        num_bytes: What is needed.
        what: For what, e.g. ``"the array 'x'"``.

    Raises:
        InputError: If so much is not available.
    """
    available = available_bytes()
    if available is not None and num_bytes > available:
        raise InputError(
            f"{what} needs about {num_bytes / 2**30:.3g} GiB of memory (got "
            f"{available / 2**30:.3g} GiB available); free some, or use a smaller graph"
        )


def _free() -> int | None:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _left_in_group() -> int | None:
    # Version 2 of control groups, as it is seen from inside a container.
    group = "/sys/fs/cgroup/memory"
    limit, used = _lines(f"{group}.max"), _lines(f"{group}.current")
    if not limit or not used or not limit[0].isdigit():
        return None
    # Cached files count as used, though the system drops them where memory is needed.
    cached = [line.split()[1] for line in _lines(f"{group}.stat") if line.startswith("inactive_f")]
    return max(0, int(limit[0]) - int(used[0]) + sum(map(int, cached)))


def _left_of_limit() -> int | None:
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _lines("/proc/self/statm")
    if limit == resource.RLIM_INFINITY or not pages:
        return None
    return max(0, limit - int(pages[0].split()[0]) * resource.getpagesize())


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii").splitlines()
    except OSError:
        return []
