"""A loop that tells a recorder of its steps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Protocol

from fastglt.checkpoint.files import Record
from fastglt.checkpoint.parts import as_part
from fastglt.checkpoint.tree import copied
from fastglt.training.progress import Loop, Parts


class Listener(Protocol):
    """What a loop tells of its steps."""

    def open_loop(self, path: str, live: Callable[[], Record] | None) -> int:
        """It begins; returns how many loops and scopes it is in."""

    def after_step(self, path: str, nested: Record | None) -> None:
        """A step has been made, and others follow."""

    def after_loop(self, path: str, ended: Callable[[], Record], depth: int) -> None:
        """The last step has been made."""


class RecordedLoop(Loop):
    """A loop that can be taken up after each of its steps.

    Args:
        listener: Told of the steps.
        path: Its name, after those of what it is in.
        total: The last step.
        parts: What it changes.
        keep: Those of them that are read afterwards.
        nests: Whether steps have loops of their own.
        done: Steps that have been made.
    """

    def __init__(
        self,
        listener: Listener,
        path: str,
        total: int,
        parts: Parts,
        keep: Collection[str],
        nests: bool,
        done: int = 0,
    ) -> None:
        super().__init__(total, done)
        self._listener, self._path, self._nests = listener, path, nests
        self._parts, self._keep = parts, keep
        self._depth = 0

    def __iter__(self) -> Iterator[int]:
        """Numbers of steps that are left."""
        self._depth = self._listener.open_loop(self._path, None if self._nests else self._now)
        yield from super().__iter__()

    def on_step(self) -> None:
        """Say so, with copies of the states where the next step may be a long one."""
        self._listener.after_step(self._path, _copied(self._now()) if self._nests else None)

    def on_end(self) -> None:
        """Say so; parts that are read afterwards are kept."""
        self._listener.after_loop(self._path, self._at_end, self._depth)

    def _now(self) -> Record:
        return Record(self.done, False, self._states(self._parts))

    def _at_end(self) -> Record:
        names = [name for name in self._parts if name in self._keep]
        return _copied(Record(self.done, True, self._states(names)))

    def _states(self, names: Collection[str]) -> dict[str, object]:
        return {name: as_part(self._parts[name]).state_dict() for name in names}


def _copied(record: Record) -> Record:
    """A record that training does not change."""
    return Record(record.done, record.ended, copied(record.state))
