"""Locks on files that the system lets go of when a process ends, however it does."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock

NO_LOCKS = "its file system has no locks that end with their process; use a folder on another one"


@contextmanager
def file_lock(path: Path, timeout: float = -1) -> Iterator[None]:
    """Hold a lock within the context.

    Args:
        path: The file that is locked; it stays.
        timeout: Seconds to wait for another process; for ever if negative.

    Raises:
        OSError: If it cannot be locked, with ``ENOSYS`` where the file system has no such locks:
            a mere marker would stay behind a process that is killed.
        filelock.Timeout: If another process still holds it.
    """
    lock: BaseFileLock = FileLock(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the marker, which is refused below
        try:
            lock.acquire(timeout=timeout)
        except NotImplementedError as error:  # of older versions
            raise OSError(errno.ENOSYS, NO_LOCKS, os.fspath(path)) from error
    try:
        if isinstance(lock, SoftFileLock):
            raise OSError(errno.ENOSYS, NO_LOCKS, os.fspath(path))
        yield
    finally:
        lock.release()
