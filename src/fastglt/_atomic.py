"""Writing files so that a crash, a full disk or Ctrl-C never leaves half a file behind."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fastglt.errors import OutputPathError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file under a temporary name and rename it to ``path`` when all went well.

    The temporary file lies in the same folder and keeps the suffix of ``path`` (plotting libraries
    choose the format by it). A reader sees either the old file or the whole new one. A symbolic
    link is followed: its target is replaced, the link stays.

    Args:
        path: The file to create or replace.

    Yields:
        Path: The temporary file, existing and empty, to be written by the body.

    Raises:
        OutputPathError: The folder or ``path`` cannot be written.
    """
    target = _checked_target(path)
    temporary = _temporary_beside(target)
    try:
        _create_exclusively(temporary, path)
        yield temporary
        try:
            _flush(temporary)
            temporary.replace(target)
            _flush_folder(target.parent)
        except OSError as error:
            raise _unwritable(path, _reason(error)) from error
    finally:
        _remove(temporary)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Fill a folder under a temporary name and rename it to ``path`` when all went well.

    Args:
        path: The folder to create; nothing but an empty folder may be there.

    Yields:
        Path: The temporary folder, beside ``path``, for files only.

    Raises:
        OutputPathError: ``path`` exists, or the folder around it cannot be written.
    """
    try:
        target = Path(os.path.realpath(path))
        taken = target.exists() and not (target.is_dir() and not any(target.iterdir()))
        temporary = _temporary_beside(target)
        if not taken:
            temporary.mkdir()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise _unwritable(path, _reason(error)) from error
    if taken:
        raise _unwritable(path, "it exists; give the name of a new folder")
    try:
        yield temporary
        for file in temporary.iterdir():
            _flush(file)
        _flush_folder(temporary)
        temporary.replace(target)
        _flush_folder(target.parent)
    except OSError as error:
        raise _unwritable(path, _reason(error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Make sure that ``path`` can be written, before hours are spent on what goes into it.

    A temporary file is really created in the folder and removed again, because permission bits say
    nothing about read-only file systems, full disks or the superuser.

    Args:
        path: The file that is to be written later; it is neither created nor changed.

    Raises:
        OutputPathError: The folder is missing, is not a folder or cannot be written, or ``path`` is
            itself a folder or a device.
    """
    temporary = _temporary_beside(_checked_target(path))
    try:
        _create_exclusively(temporary, path)
    finally:
        _remove(temporary)


def _checked_target(path: str | os.PathLike[str]) -> Path:
    """The real file behind ``path``, after every check that needs no writing."""
    try:
        target = Path(os.path.realpath(path))
        folder = _mode(target.parent)
        present = _mode(target)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise _unwritable(path, _reason(error)) from error
    if folder is None:
        raise _unwritable(path, f"the folder {target.parent} does not exist; create it first")
    if not stat.S_ISDIR(folder):
        raise _unwritable(path, f"{target.parent} is not a folder")
    if present is not None and stat.S_ISDIR(present):
        raise _unwritable(path, "it is a folder; give the name of a file")
    if present is not None and not stat.S_ISREG(present):
        # Renaming over a device such as /dev/null would replace the device for everybody.
        raise _unwritable(path, "it is a device or a pipe; give the name of a regular file")
    return target


def _mode(path: Path) -> int | None:
    """The mode bits of ``path``, or None where nothing of that name exists."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return None


def _temporary_beside(target: Path) -> Path:
    # Cut short, so that the longest name a file system allows still has room for the token.
    name = f".{target.stem[:20]}.{secrets.token_hex(8)}.tmp{target.suffix[-20:]}"
    return target.with_name(name)


def _create_exclusively(temporary: Path, path: str | os.PathLike[str]) -> None:
    # Not tempfile.mkstemp: its files are private (0600), the final file shall follow the umask.
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise _unwritable(path, _reason(error)) from error


def _remove(temporary: Path) -> None:
    # On a disk that cannot be written nothing was made, and even that cannot be removed.
    with suppress(OSError):
        temporary.unlink(missing_ok=True)


def _flush(file: Path) -> None:
    with file.open("rb+") as handle:
        os.fsync(handle.fileno())


def _flush_folder(folder: Path) -> None:
    """Make the rename itself durable, on systems where a folder can be opened."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(handle)


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _unwritable(path: str | os.PathLike[str], reason: str) -> OutputPathError:
    return OutputPathError(f"output path {os.fspath(path)!r} cannot be written: {reason}")
