"""How a command ends: the message and the exit code of every kind of failure.

0 done; 2 bad usage or input; 1 another failure that fastglt foresees; 130 interrupted; 141 the
reader of a pipe went away (as for any program that SIGPIPE ends). Other exceptions are bugs and
keep their traceback.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fastglt.errors import FastGLTError, InputError

FAILURE: Final = 1
BAD_INPUT: Final = 2
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141


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
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)  # noqa: T201
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        _discard_stdout()
        raise SystemExit(BROKEN_PIPE) from None


@contextmanager
def immediate_interrupts() -> Iterator[None]:
    """Within the context Ctrl-C ends the process at once, without an exception.

    For the import of torch and PyG: extension modules swallow a KeyboardInterrupt and fail later.
    Nothing is being written then.
    """

    def leave(*_: object) -> None:
        os.write(2, b"interrupted\n")
        os._exit(INTERRUPTED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _discard_stdout() -> None:
    """Let what is still buffered go nowhere, or Python complains when it flushes at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
