"""Recording how far a run has come, and going on from there."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from fastglt.checkpoint.files import Record, Snapshot
from fastglt.checkpoint.loops import RecordedLoop
from fastglt.checkpoint.parts import RandomState, as_part, restore
from fastglt.checkpoint.tree import copied
from fastglt.errors import CheckpointError, Terminated
from fastglt.training.progress import Loop, Parts, Progress, Stopwatch, running

T = TypeVar("T")
RANDOM, VALUE = "global random state", "value"
"""Names of states that no part has."""


@dataclass
class _Open:
    """A loop, a computation or a scope that the run is in.

    Attributes:
        path: Its name, after those that it is in.
        live: States of a loop without loops in it, at the end of a step.
    """

    path: str
    live: Callable[[], Record] | None = None


class Recorder(Progress):
    """Saves a run between steps of its loops, and takes up one that was saved.

    Args:
        identity: What the run depends on.
        write: Writes a checkpoint, under a generation of its own.
        every: Seconds between two of them, 0 for one after every step.
        start: The checkpoint to go on from.
    """

    def __init__(
        self,
        identity: dict[str, Any],
        write: Callable[[Snapshot], None],
        every: float,
        start: Snapshot | None = None,
    ) -> None:
        start = Snapshot(identity) if start is None else start
        self._identity, self._write, self._every = identity, write, every
        self._records = dict(start.records)
        self._seconds = dict(start.seconds)
        self._stopwatches: dict[str, Stopwatch] = {}
        self._earlier, self._total = start.elapsed, Stopwatch(start.elapsed)
        self._open: list[_Open] = []
        self._used: set[str] = set()
        self._saved_at = time.monotonic()
        self._is_saved = True
        self._wants_end = self._in_critical = False

    @property
    def earlier_seconds(self) -> float:
        """Seconds that earlier processes spent on the run, up to their last checkpoint."""
        return self._earlier

    @property
    def _can_wait(self) -> bool:
        """Whether the end of a step is near, at which a checkpoint can be written."""
        return self._in_critical or bool(self._open and self._open[-1].live is not None)

    def end_soon(self) -> None:
        """Write a checkpoint at the end of the step that is being made, and end; or end at once.

        For handlers of signals. Outside of a step it ends at once, as it does when it is called
        again.

        Raises:
            Terminated: Here, or at the end of the step.
        """
        if not self._can_wait or self._wants_end:
            raise Terminated("terminated; go on with --resume")
        self._wants_end = True

    def loop(
        self,
        name: str,
        total: int,
        parts: Parts,
        *,
        keep: Collection[str] | None = None,
        nests: bool = False,
    ) -> Loop:
        """See :meth:`Progress.loop`.

        Raises:
            CheckpointError: If what was kept of the loop is not of it.
        """
        path = self._enter(name)
        if not nests:
            parts = {**parts, RANDOM: RandomState()}
        keep = set(parts if keep is None else (*keep, RANDOM))
        record = self._records.get(path)
        if record is None:
            return RecordedLoop(self, path, total, parts, keep, nests)
        ended = record.ended
        wanted = [each for each in parts if each in keep] if ended else list(parts)
        self._restore(path, {each: parts[each] for each in wanted}, record)
        if record.done > total:
            raise CheckpointError(f"{path} has {record.done} steps in it (expected {total})")
        if ended:
            return Loop(total, record.done, ended=True)
        return RecordedLoop(self, path, total, parts, keep, nests, record.done)

    def once(
        self,
        name: str,
        compute: Callable[[], T],
        *,
        parts: Parts | None = None,
        pack: Callable[[T], Any] | None = None,
        unpack: Callable[[Any], T] | None = None,
    ) -> T:
        """See :meth:`Progress.once`.

        Raises:
            CheckpointError: If what was kept is not of it.
        """
        path, parts = self._enter(name), parts or {}
        record = self._records.get(path)
        if record is not None:
            self._restore(path, parts, record)
            packed = copied(record.state.get(VALUE))
            try:
                return packed if unpack is None else unpack(packed)
            except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
                raise CheckpointError(f"{path} cannot be taken back: {error}") from error
        with self._inside(_Open(path)):
            value = compute()
        packed = value if pack is None else pack(value)
        if packed is not None:
            states = {each: as_part(part).state_dict() for each, part in parts.items()}
            self._keep(path, Record(1, True, copied(states | {VALUE: packed})))
        return value

    def scope(self, name: str) -> AbstractContextManager[None]:
        """See :meth:`Progress.scope`."""
        return self._inside(_Open(self._path(name)))

    @contextmanager
    def timed(self, name: str) -> Iterator[Stopwatch]:
        """See :meth:`Progress.timed`."""
        path = self._path(name)
        stopwatch = Stopwatch(self._seconds.get(path, 0.0))
        self._stopwatches[path] = stopwatch
        with running(stopwatch):
            yield stopwatch

    def save(self, *, finished: bool = False) -> None:
        """Write a checkpoint.

        Args:
            finished: Whether the run is over; loops are of no use then.

        Raises:
            OutputPathError: If it cannot be written.
        """
        records: Mapping[str, Record] = {} if finished else self._records
        if not finished and self._open and self._open[-1].live is not None:
            records = {**records, self._open[-1].path: self._open[-1].live()}
        for path, stopwatch in self._stopwatches.items():
            self._seconds[path] = stopwatch.seconds
        elapsed = self._total.seconds
        self._write(Snapshot(self._identity, dict(records), dict(self._seconds), elapsed, finished))
        self._is_saved, self._saved_at = True, time.monotonic()

    def save_ended(self) -> None:
        """Write a checkpoint of what has ended since the last one, unless a step is being made."""
        if not (self._is_saved or self._can_wait):
            self.save()

    def open_loop(self, path: str, live: Callable[[], Record] | None) -> int:
        """The run is in a loop from now on; how many loops and scopes that one is in."""
        self._open.append(_Open(path, live))
        return len(self._open) - 1

    def after_step(self, path: str, nested: Record | None) -> None:
        """A step of a loop has been made, whose states are given if steps have loops in them."""
        with self._critical():
            if nested is None:
                self._save_if_due()
            else:
                self._keep(path, nested)

    def after_loop(self, path: str, ended: Callable[[], Record], depth: int) -> None:
        """The last step of a loop has been made, which is in so many others."""
        with self._critical():
            record = ended()
            del self._open[depth:]
            self._keep(path, record)

    def _enter(self, name: str) -> str:
        path = self._path(name)
        if path in self._used:
            raise RuntimeError(f"two loops of a run are called {path!r}")
        if self._open and self._open[-1].live is not None:
            raise RuntimeError(f"{self._open[-1].path!r} has a loop in it: give nests=True")
        self._used.add(path)
        return path

    def _path(self, name: str) -> str:
        return f"{self._open[-1].path}/{name}" if self._open else name

    @contextmanager
    def _inside(self, entry: _Open) -> Iterator[None]:
        depth = len(self._open)
        self._open.append(entry)
        try:
            yield
        finally:
            del self._open[depth:]

    def _restore(self, path: str, parts: Parts, record: Record) -> None:
        """Let parts take copies of what was kept, since training changes them in place."""
        for name, part in parts.items():
            if name not in record.state:
                raise CheckpointError(f"{path} has no {name!r} in it")
            restore(part, copied(record.state[name]), f"{name} of {path}")

    def _keep(self, path: str, record: Record) -> None:
        """Remember what has ended, in place of what it was made of, and save if it is time."""
        with self._critical():
            inner = f"{path}/"
            self._records = {
                name: each for name, each in self._records.items() if not name.startswith(inner)
            }
            self._used = {name for name in self._used if not name.startswith(inner)}
            self._records[path] = record
            self._is_saved = False
            self._save_if_due()

    def _save_if_due(self) -> None:
        if self._wants_end:
            self.save()
            raise Terminated("terminated; a checkpoint was written: go on with --resume")
        if time.monotonic() - self._saved_at >= self._every:
            self.save()

    @contextmanager
    def _critical(self) -> Iterator[None]:
        """A request to end waits until the context ends."""
        before, self._in_critical = self._in_critical, True
        try:
            yield
        finally:
            self._in_critical = before
