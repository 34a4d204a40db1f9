"""A run as a file of JSON lines."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fastglt import _strict_json
from fastglt._json_lines import end_of_whole_lines
from fastglt.errors import OutputPathError
from fastglt.training.callback import Callback
from fastglt.training.swap_event import SwapEvent

_LINE_START = b'{"event":'


class JsonLinesLog(Callback):
    """Appends a line of strict JSON for everything that happens in a run.

    Every line has ``event`` (``run_start``, ``phase_start``, ``step``, ``swap``, ``phase_end``,
    ``run_end`` or ``error``), ``time`` (UTC, ISO 8601), ``elapsed`` (seconds since the run's start
    in this process) and what the :class:`fastglt.Callback` method of that event is told. It is in
    the file before the run goes on, so of a process that is killed at most the last line is torn,
    and the next run that logs into the file removes that one. What is there already is kept; a
    file that ends in the middle of a line of something else is refused.

    Args:
        path: The file, in a folder that is there. It is opened when a run starts.

    Raises:
        InputError: From the run, if something has no strict JSON form, as a metric that is NaN.
        OutputPathError: From the run, if the file cannot be written or is no log.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._start = time.monotonic()

    def on_run_start(self, settings: Mapping[str, Any]) -> None:
        """Drop a torn last line, then log the settings."""
        self._start = time.monotonic()
        try:
            with self.path.open("ab+") as file:
                end = end_of_whole_lines(file)
                file.seek(end)
                if not _LINE_START.startswith(file.read(len(_LINE_START))):
                    raise OutputPathError(
                        f"log {str(self.path)!r} ends in the middle of a line that no log has; "
                        "choose another file"
                    )
                file.truncate(end)
        except OSError as error:
            raise self._unwritable(error) from error
        self._write("run_start", settings=dict(settings))

    def on_phase_start(self, phase: str, total: int) -> None:
        """Log a phase and its number of steps."""
        self._write("phase_start", phase=phase, total=total)

    def on_step(self, phase: str, step: int, val_metric: float | None) -> None:
        """Log a step and its metric, ``null`` where it was not evaluated."""
        self._write("step", phase=phase, step=step, val_metric=val_metric)

    def on_event(self, event: SwapEvent) -> None:
        """Log the fields of a :class:`fastglt.SwapEvent`."""
        self._write("swap", **asdict(event))

    def on_phase_end(self, phase: str) -> None:
        """Log the end of a phase."""
        self._write("phase_end", phase=phase)

    def on_run_end(self, metrics: Mapping[str, Any]) -> None:
        """Log the metrics."""
        self._write("run_end", metrics=dict(metrics))

    def on_error(self, error: BaseException) -> None:
        """Log type and message of the exception."""
        message = str(error).encode("utf-8", "backslashreplace").decode()
        self._write("error", type=type(error).__name__, message=message)

    def _write(self, event: str, **fields: Any) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        elapsed = round(time.monotonic() - self._start, 3)
        line = _strict_json.dumps({"event": event, "time": now, "elapsed": elapsed} | fields, event)
        payload = (line + "\n").encode()
        try:
            # Unbuffered, so that it is one call of the system: lines of two runs never mix.
            with self.path.open("ab", buffering=0) as file:
                written = file.write(payload)
        except OSError as error:
            raise self._unwritable(error) from error
        if written != len(payload):
            raise OutputPathError(
                f"log {str(self.path)!r} took {written} of {len(payload)} bytes; is the disk full?"
            )

    def _unwritable(self, error: OSError) -> OutputPathError:
        reason = error.strerror or str(error)
        return OutputPathError(f"log {str(self.path)!r} cannot be written: {reason}")
