"""How far a run has come: the loops it is made of, each with a name, so that one can be resumed.

A run is resumed by being run again. What is not in a loop is computed anew, which has to give the
same; a loop that had ended is not run again, one that was interrupted goes on where it was. The
classes here do nothing of the kind, and cost nothing; :class:`fastglt.checkpoint.Recorder` does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

Parts = Mapping[str, Any]
"""What a loop changes, by name: modules, optimizers, generators, parameters, or anything with
``state_dict()`` and ``load_state_dict()``, of tensors, numbers, text and containers of them."""
T = TypeVar("T")


class Loop:
    """The numbers of the steps that are left of a loop.

    A loop that ends before its last step has to say so::

        for epoch in (epochs := progress.loop("dense", 200, {"model": model})):
            ...
            if stop:
                epochs.finish()
                break

    Args:
        total: The last step.
        done: Steps that have been made.
        ended: Whether it is over.

    Attributes:
        done: Steps that have been made, this one not included.
    """

    def __init__(self, total: int, done: int = 0, *, ended: bool = False) -> None:
        self.done, self._total, self._ended = done, total, ended
        self._in_step = False

    def __iter__(self) -> Iterator[int]:
        """Numbers of steps, from 1 where nothing has been made."""
        while not self._ended and self.done < self._total:
            self._in_step = True
            yield self.done + 1
            self._end_step()
            if not self._ended and self.done < self._total:
                self.on_step()
        self.finish()

    def finish(self) -> None:
        """The step that is being made is the last one."""
        self._end_step()
        if not self._ended:
            self._ended = True
            self.on_end()

    def on_step(self) -> None:
        """A step has been made, and others follow."""

    def on_end(self) -> None:
        """The last step has been made."""

    def _end_step(self) -> None:
        self.done += self._in_step
        self._in_step = False


class Stopwatch:
    """Seconds that something took, those of earlier processes included.

    Args:
        earlier: Seconds of earlier processes.
    """

    def __init__(self, earlier: float = 0.0) -> None:
        self._earlier, self._start = earlier, time.perf_counter()
        self._stopped: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds up to now, or up to :meth:`stop`."""
        end = time.perf_counter() if self._stopped is None else self._stopped
        return self._earlier + end - self._start

    def stop(self) -> None:
        """Count no further."""
        self._stopped = time.perf_counter()


class Progress:
    """A run that nobody records: all loops start at their first step."""

    @property
    def earlier_seconds(self) -> float:
        """Seconds that earlier processes spent on the run."""
        return 0.0

    def loop(
        self,
        name: str,
        total: int,
        parts: Parts,
        *,
        keep: Collection[str] | None = None,
        nests: bool = False,
    ) -> Loop:
        """The steps that are left of a loop, whose parts are as the last of the others left them.

        torch's global random state is one of the parts, so that the loop has to lie in a context
        that restores it, such as :func:`fastglt.training.seeding.seeded`.

        Args:
            name: What no other loop of the run, or of the scope, is called.
            total: The last step, counted from 1.
            parts: What the loop changes and something reads later, in the loop or after it.
            keep: Those that something reads after the loop; ``None`` means all.
            nests: Whether steps have loops of their own. The global random state is not one of the
                parts of such a loop.
        """
        return Loop(total)

    def once(
        self,
        name: str,
        compute: Callable[[], T],
        *,
        parts: Parts | None = None,
        pack: Callable[[T], Any] | None = None,
        unpack: Callable[[Any], T] | None = None,
    ) -> T:
        """What ``compute`` returns, or has returned in an earlier process.

        Args:
            name: As in :meth:`loop`.
            compute: May have loops of its own.
            parts: What it changes and something reads later.
            pack: Makes of its result what can be kept, see :data:`Parts`; ``None`` if it cannot
                be, and is to be computed again.
            unpack: Undoes it.
        """
        return compute()

    def scope(self, name: str) -> AbstractContextManager[None]:
        """Names of loops within the context are their own."""
        return nullcontext()

    def timed(self, name: str) -> AbstractContextManager[Stopwatch]:
        """A stopwatch that is stopped when the context ends."""
        return running(Stopwatch())


@contextmanager
def running(stopwatch: Stopwatch) -> Iterator[Stopwatch]:
    """Stop a stopwatch when the context ends."""
    try:
        yield stopwatch
    finally:
        stopwatch.stop()


NO_CHECKPOINT = Progress()
"""What runs go by that nobody records."""


def stateful(**objects: Any) -> dict[str, Any]:
    """Those of the given objects that have a state to be kept: a task mostly has none."""
    return {name: each for name, each in objects.items() if hasattr(each, "state_dict")}
