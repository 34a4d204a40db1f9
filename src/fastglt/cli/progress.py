"""Progress on stderr while a command works; nothing at all where stderr is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fastglt.cli.formats import percent
from fastglt.training.callback import Callback


class Bars(Callback):
    """One bar a phase, with the last validation metric.

    Args:
        progress: Draws the bars; shows the field ``metric`` of its tasks.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def on_phase_start(self, phase: str, total: int) -> None:
        """Add a bar."""
        self._tasks[phase] = self._progress.add_task(phase, total=total, metric="")

    def on_step(self, phase: str, step: int, val_metric: float | None) -> None:
        """Move the bar; between evaluations the last metric stays."""
        self._progress.update(self._tasks[phase], completed=step)
        if val_metric is not None:
            self._progress.update(self._tasks[phase], metric=f"validation {percent(val_metric)}")

    def on_phase_end(self, phase: str) -> None:
        """Fill the bar, also where early stopping ended the phase."""
        task = self._tasks[phase]
        done = next(each.completed for each in self._progress.tasks if each.id == task)
        self._progress.update(task, total=done)


@contextmanager
def progress_bars() -> Iterator[Callback]:
    """A callback that shows bars with metric and ETA as long as the context lasts."""
    if not sys.stderr.isatty():
        yield Callback()
        return
    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[metric]}"),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield Bars(progress)


@contextmanager
def working(text: str) -> Iterator[None]:
    """A spinner for work whose length is not known."""
    if not sys.stderr.isatty():
        yield
        return
    with Console(stderr=True).status(text):
        yield
