"""How a command ends: the message and the exit code of every kind of failure.

0 done; 2 bad usage, input or place for output, a full disk included; 1 another failure that fastglt
foresees, such as running out of memory; 130 interrupted; 141 the reader of a pipe went away; 143
terminated (128 plus the number of the signal that ends other programs, for schedulers to see).
Other exceptions are bugs and keep their traceback.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fastglt.errors import TERMINATED, FastGLTError, InputError, Terminated

FAILURE: Final = 1
BAD_INPUT: Final = 2
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Errors of files that cannot be foreseen before a command is run."""


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn the exceptions that are foreseen into a message on stderr and an exit code.

    Raises:
        SystemExit: In place of those exceptions.
    """
    try:
        yield
        # Here, while a broken pipe can still be handled, and not when the interpreter ends.
        sys.stdout.flush()
    except FastGLTError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(BAD_INPUT if isinstance(error, InputError) else FAILURE) from None
    except Terminated as error:
        print(error, file=sys.stderr)  # noqa: T201
        raise SystemExit(TERMINATED) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)  # noqa: T201
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        _discard_stdout()
        raise SystemExit(BROKEN_PIPE) from None
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        print(f"error: out of memory: {_first_line(error)}", file=sys.stderr)  # noqa: T201
        raise SystemExit(FAILURE) from None
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        place = f" ({error.filename})" if error.filename else ""
        print(f"error: {error.strerror}{place}", file=sys.stderr)  # noqa: T201
        raise SystemExit(BAD_INPUT) from None


@contextmanager
def terminations() -> Iterator[None]:
    """Within the context SIGTERM raises :class:`Terminated`, so that what is open is cleaned up."""

    def leave(*_: object) -> None:
        raise Terminated("terminated")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, leave) or signal.SIG_DFL
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def immediate_interrupts() -> Iterator[None]:
    """Within the context Ctrl-C and SIGTERM end the process at once, without an exception.

    For the import of torch and PyG: extension modules swallow a KeyboardInterrupt and fail later.
    Nothing is being written then.
    """

    def leave(number: int, _: object) -> None:
        os.write(2, b"interrupted\n" if number == signal.SIGINT else b"terminated\n")
        os._exit(INTERRUPTED if number == signal.SIGINT else TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, leave) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether Python, numpy or torch asked for memory that there is not."""
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    text = str(error)
    return known or "memory: you tried to allocate" in text or text == "std::bad_alloc"


def _first_line(error: Exception) -> str:
    """The first line of a message, without the place in torch's code that it may begin with."""
    line = next(iter(str(error).splitlines()), type(error).__name__)
    return line[max(0, line.find("DefaultCPUAllocator")) :]


def _discard_stdout() -> None:
    """Let what is still buffered go nowhere, or Python complains when it flushes at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
