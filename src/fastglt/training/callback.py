"""Hooks into a run: progress bars, logs, a user's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastglt.training.swap_event import SwapEvent


class Callback:
    """Does nothing; override what you need.

    All methods are called from the training thread, which waits for them. What they raise ends the
    run. A run calls them in this order::

        on_run_start
            on_phase_start
                on_step, and before it on_event where that step swapped
            on_phase_end
            ... the next phase
        on_run_end, or on_error where the run ends by an exception
    """

    def on_run_start(self, settings: Mapping[str, Any]) -> None:
        """A run of :func:`fastglt.find` begins.

        Args:
            settings: Can be written as JSON; as in ``ticket.settings``, and ``goal`` where the
                sparsities are chosen by one.
        """

    def on_phase_start(self, phase: str, total: int) -> None:
        """A phase of ``total`` steps begins.

        Phases are ``dense``, ``teacher`` if an inductive run trains one of its own, ``pretrain``,
        ``denoise`` or the name of another search method, and ``retrain`` or ``finetune``. Where
        sparsities are chosen by a goal there are several of each but the first two.
        """

    def on_step(self, phase: str, step: int, val_metric: float | None) -> None:
        """Step ``step`` (from 1) has ended; ``val_metric`` is ``None`` if it was not evaluated."""

    def on_event(self, event: SwapEvent) -> None:
        """Denoising has swapped components; the :meth:`on_step` of ``event.step`` follows."""

    def on_phase_end(self, phase: str) -> None:
        """A phase has ended, possibly before its last step."""

    def on_run_end(self, metrics: Mapping[str, Any]) -> None:
        """The run has ended well, with ``ticket.metrics``, which can be written as JSON."""

    def on_error(self, error: BaseException) -> None:
        """The run ends by an exception, Ctrl-C included; it goes on its way afterwards.

        The run may have ended before :meth:`on_run_start` came to this callback.
        """


class Callbacks(Callback):
    """Several callbacks as one: each method calls theirs, in the order given.

    Args:
        callbacks: Whom to tell.
    """

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        self.callbacks = tuple(callbacks)

    def on_run_start(self, settings: Mapping[str, Any]) -> None:
        """Tell all."""
        for callback in self.callbacks:
            callback.on_run_start(settings)

    def on_phase_start(self, phase: str, total: int) -> None:
        """Tell all."""
        for callback in self.callbacks:
            callback.on_phase_start(phase, total)

    def on_step(self, phase: str, step: int, val_metric: float | None) -> None:
        """Tell all."""
        for callback in self.callbacks:
            callback.on_step(phase, step, val_metric)

    def on_event(self, event: SwapEvent) -> None:
        """Tell all."""
        for callback in self.callbacks:
            callback.on_event(event)

    def on_phase_end(self, phase: str) -> None:
        """Tell all."""
        for callback in self.callbacks:
            callback.on_phase_end(phase)

    def on_run_end(self, metrics: Mapping[str, Any]) -> None:
        """Tell all."""
        for callback in self.callbacks:
            callback.on_run_end(metrics)

    def on_error(self, error: BaseException) -> None:
        """Tell all."""
        for callback in self.callbacks:
            callback.on_error(error)
