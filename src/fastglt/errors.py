"""Every exception that fastglt raises on purpose.

All but one derive from :class:`FastGLTError`, so one ``except`` clause catches them. Those that are
caused by what the caller passed in also derive from :class:`ValueError`; the command line turns
:class:`InputError` into exit code 2 and every other :class:`FastGLTError` into exit code 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

TERMINATED: Final = 143
"""Exit code of a process that SIGTERM ended: 128 plus the signal's number, as shells have it."""

MOST_SHOWN = 200
"""Characters of a value that a message shows."""


def cut(text: str, most: int = MOST_SHOWN) -> str:
    """The beginning of a text: what came from a file may be megabytes long.

    Args:
        text: Any text.
        most: Characters to keep.
    """
    return text if len(text) <= most else f"{text[:most]}…"


def shown(value: object) -> str:
    """A value as a message shows it: the beginning of its ``repr``.

    Args:
        value: Anything.
    """
    return cut(repr(value))


class FastGLTError(Exception):
    """Base class of all exceptions of this package."""


class InputError(FastGLTError, ValueError):
    """What was passed in cannot be used; the message says what was expected and what was found."""


class BudgetError(InputError):
    """A sparsity is out of range or would leave a layer or the graph empty."""


class GraphError(InputError):
    """The graph is malformed: indices, features, labels or masks."""


class ModelError(InputError):
    """The model cannot be searched: cached normalisation, wrong output shape, nothing to prune."""


class UnknownNameError(InputError):
    """A dataset, model, method or preset of that name does not exist.

    Args:
        kind: What was looked up, e.g. ``"dataset"``.
        name: The name that was given.
        available: The names that exist.
    """

    def __init__(self, kind: str, name: str, available: Iterable[str]) -> None:
        self.kind = kind
        self.name = name
        self.available = tuple(sorted(available))
        lower = name[:MOST_SHOWN].lower()
        nearest = difflib.get_close_matches(lower, self.available, n=1, cutoff=0.5)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        available_names = ", ".join(self.available)
        super().__init__(f"unknown {kind} {shown(name)}{hint} (available: {available_names})")

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[str, str, tuple[str, ...]]]:
        return type(self), (self.kind, self.name, self.available)


class DatasetNotFoundError(FastGLTError):
    """A dataset is in none of the places that were tried; the message lists them all."""


class OutputPathError(InputError):
    """An output path cannot be written."""


class TicketFileError(InputError):
    """A ticket file is damaged, truncated, of another format or of an unknown schema version."""


class TicketMismatchError(InputError):
    """A ticket does not belong to this graph or model; the message names the difference."""


class CheckpointError(InputError):
    """A checkpoint is damaged, of another run, in use, or not to be overwritten."""


class CompileError(FastGLTError):
    """A compiled model does not give what the masked one gives."""


class NonFiniteLossError(FastGLTError):
    """The loss became NaN or infinite; the message names epoch and settings."""


class RankError(FastGLTError):
    """The processes that share a search are out of step, or one of them is gone."""


class Terminated(SystemExit):
    """The process was told to end (SIGTERM); what was saved is in the message.

    No :class:`Exception`, so that nothing swallows it wherever the signal arrives. A program that
    does not catch it ends with exit code 143.
    """

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(TERMINATED)

    def __str__(self) -> str:
        return self.message
