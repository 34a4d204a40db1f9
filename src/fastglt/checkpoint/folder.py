"""The folder of a run's checkpoints: one process at a time, the newest good file, the ticket."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import Timeout

from fastglt._locks import file_lock
from fastglt.checkpoint import files
from fastglt.checkpoint.files import Snapshot
from fastglt.checkpoint.identity import difference
from fastglt.checkpoint.places import FILES, LOCK, TICKET, check_folder
from fastglt.checkpoint.recorder import Recorder
from fastglt.errors import CheckpointError, OutputPathError, Terminated, TicketFileError, cut
from fastglt.ticket import Ticket
from fastglt.training.ranks import Ranks


class Session:
    """A run with a folder for its checkpoints.

    Attributes:
        recorder: Records the run.
        ticket: The ticket, once there is one.
    """

    def __init__(self, folder: Path, recorder: Recorder, ticket: Ticket | None) -> None:
        self._folder = folder
        self.recorder, self.ticket = recorder, ticket

    def finish(self, ticket: Ticket) -> Ticket:
        """Keep the ticket, and note that the run is over.

        Raises:
            OutputPathError: If the folder cannot be written.
        """
        self.ticket = ticket
        if Ranks.current().rank == 0:
            ticket.save(self._folder / TICKET)
            self.recorder.save(finished=True)
        return ticket


@contextmanager
def opened(
    path: str | os.PathLike[str],
    identity: Callable[[], dict[str, Any]],
    *,
    every: float,
    resume: bool,
) -> Iterator[Session]:
    """A session in a folder, which is made if it is not there, and locked until the context ends.

    SIGTERM ends the run at the end of the step that is being made, with a checkpoint, where this is
    the main thread. Of the ranks that share a search the first one writes and all read.

    Args:
        path: The folder.
        identity: Describes what the run depends on; called when the folder is locked.
        every: Seconds between two checkpoints, 0 for one after every step.
        resume: Whether to go on from what lies there.

    Raises:
        CheckpointError: If another process uses the folder, or what lies there is damaged, of
            another run, or there although ``resume`` is false.
        OutputPathError: If the folder cannot be written.
    """
    folder, writes = Path(path), Ranks.current().rank == 0
    check_folder(folder, resume=resume)
    with _locked(folder) if writes else nullcontext():
        if writes:
            check_folder(folder, resume=resume)  # another process may have been faster
            _clean(folder)
        store = _Store(folder)
        described = identity()
        start, ticket = store.newest()
        if start is not None:
            different = difference(start.identity, described)
            if different is not None:
                raise CheckpointError(
                    f"the checkpoint in {str(folder)!r} is of another run, which differs in "
                    f"{cut(different)}; give the same settings, model and graph, or another folder"
                )
        write = store.write if writes else _nowhere
        recorder = Recorder(described, write, every, start)
        with _on_sigterm(recorder):
            try:
                yield Session(folder, recorder, ticket)
            except Terminated:
                recorder.save_ended()
                raise


class _Store:
    """The two files, of which the older or damaged one is always the next to be written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._slot, self._generation = 0, 0

    def newest(self) -> tuple[Snapshot | None, Ticket | None]:
        """The newest good checkpoint, and the ticket if the run is over."""
        found: dict[int, tuple[Snapshot, Ticket | None]] = {}
        problems: dict[int, str] = {}
        for slot in range(len(FILES)):
            try:
                snapshot = files.read(self._folder, slot)
                if snapshot is not None:
                    found[slot] = snapshot, self._ticket(snapshot)
            except OSError as error:
                problems[slot] = error.strerror or str(error)
            except (TicketFileError, ValueError) as error:
                problems[slot] = cut(str(error))
        said = "; ".join(f"{FILES[slot]}: {problem}" for slot, problem in problems.items())
        if not found:
            if problems:
                raise CheckpointError(
                    f"no checkpoint in {str(self._folder)!r} can be used ({said}); empty the "
                    "folder to start afresh"
                )
            return None, None
        best = max(found, key=lambda slot: found[slot][0].generation)
        if problems:
            warnings.warn(
                f"a checkpoint in {str(self._folder)!r} cannot be used ({said}); going on from "
                f"{FILES[best]}",
                UserWarning,
                stacklevel=2,
            )
        self._slot, self._generation = 1 - best, found[best][0].generation
        return found[best]

    def write(self, snapshot: Snapshot) -> None:
        """Write the next generation in the place of what is not the newest good one."""
        generation = self._generation + 1
        files.write(self._folder, self._slot, replace(snapshot, generation=generation))
        self._slot, self._generation = 1 - self._slot, generation

    def _ticket(self, snapshot: Snapshot) -> Ticket | None:
        return Ticket.load(self._folder / TICKET) if snapshot.finished else None


def _nowhere(_: Snapshot) -> None:
    """Write nothing: another rank does."""


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The system lets go of the lock when the process ends, however it does."""
    with ExitStack() as held:
        try:
            held.enter_context(file_lock(folder / LOCK, timeout=0))
        except Timeout:
            raise CheckpointError(
                f"another process is running into {str(folder)!r}; wait for it, or give another "
                "folder"
            ) from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputPathError(f"{str(folder / LOCK)!r} cannot be locked: {reason}") from error
        yield


def _clean(folder: Path) -> None:
    """Remove what a process that was killed while it wrote has left."""
    for name in (*FILES, TICKET):
        stem, _, suffix = name.rpartition(".")
        for path in folder.glob(f".{stem}.*.tmp.{suffix}"):
            path.unlink(missing_ok=True)


@contextmanager
def _on_sigterm(recorder: Recorder) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: recorder.end_soon()) or signal.SIG_DFL
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
