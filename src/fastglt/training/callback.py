"""Hooks into a run: progress bars, logs, a user's own."""

from __future__ import annotations


class Callback:
    """Does nothing; override what you need. All methods are called from the training thread."""

    def on_phase_start(self, phase: str, total: int) -> None:
        """A phase of ``total`` steps begins.

        Phases are ``dense``, ``teacher`` if an inductive run trains one of its own, ``pretrain``,
        ``denoise``, and ``retrain`` or ``finetune``.
        """

    def on_step(self, phase: str, step: int, val_metric: float | None) -> None:
        """Step ``step`` (from 1) has ended; ``val_metric`` is ``None`` if it was not evaluated."""

    def on_phase_end(self, phase: str) -> None:
        """A phase has ended, possibly before its last step."""
