"""A run in TensorBoard."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastglt.errors import InputError, OutputPathError
from fastglt.training.callback import Callback
from fastglt.training.swap_event import SwapEvent

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardLog(Callback):
    """Writes a run into a folder that ``tensorboard --logdir`` shows.

    Scalars are ``val_metric/PHASE`` by step, ``swap/FIELD`` of every :class:`fastglt.SwapEvent` by
    its step, and at the end ``final/METRIC`` of the ticket's figures; texts are ``settings``, and
    ``error`` of a run that failed. Use one folder a run. Needs the extra ``tensorboard``.

    Args:
        folder: Is made if it is not there.

    Raises:
        InputError: If the package ``tensorboard`` is missing.
        OutputPathError: From the run, if the folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        _check_installed()
        self.folder = Path(folder)
        self._writer: SummaryWriter | None = None

    def on_run_start(self, settings: Mapping[str, Any]) -> None:
        """Open the folder and write the settings."""
        from torch.utils.tensorboard import SummaryWriter

        self._close()
        with self._writing():
            self._writer = SummaryWriter(str(self.folder))
        self._text("settings", _as_code(json.dumps(settings, indent=2, allow_nan=False)))

    def on_step(self, phase: str, step: int, val_metric: float | None) -> None:
        """Write the metric, where it was evaluated."""
        if val_metric is not None:
            self._scalar(f"val_metric/{phase}", val_metric, step)

    def on_event(self, event: SwapEvent) -> None:
        """Write all numbers of a swap."""
        for name, value in asdict(event).items():
            if name != "step" and value is not None:
                self._scalar(f"swap/{name}", value, event.step)

    def on_phase_end(self, phase: str) -> None:
        """Let the files show what has happened so far."""
        if self._writer is not None:
            with self._writing():
                self._writer.flush()

    def on_run_end(self, metrics: Mapping[str, Any]) -> None:
        """Write the ticket's figures and close the files."""
        for name, value in metrics.items():
            if isinstance(value, int | float):
                self._scalar(f"final/{name}", value, 0)
        self._close()

    def on_error(self, error: BaseException) -> None:
        """Write what happened and close the files."""
        with suppress(OutputPathError):  # what happened first is what is to be seen
            self._text("error", _as_code(f"{type(error).__name__}: {error}"))
        with suppress(OutputPathError):
            self._close()

    def _scalar(self, tag: str, value: float, step: int) -> None:
        if self._writer is not None:
            with self._writing():
                self._writer.add_scalar(tag, value, step)

    def _text(self, tag: str, text: str) -> None:
        if self._writer is not None:
            with self._writing():
                self._writer.add_text(tag, text)

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with self._writing():
                writer.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Name the folder if the disk is full or cannot be written."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputPathError(
                f"folder {str(self.folder)!r} for TensorBoard cannot be written: {reason}"
            ) from error


def _check_installed() -> None:
    # find_spec would do for a missing package, but not for one that torch cannot use.
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise InputError(
            "this needs the package tensorboard, which is not installed or too old "
            f"(got: {error}); run: pip install 'fastglt[tensorboard]'"
        ) from error


def _as_code(text: str) -> str:
    """Markdown that shows a text as it is."""
    return "".join(f"    {line}\n" for line in text.splitlines())
