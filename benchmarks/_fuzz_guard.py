"""Reads one untrusted file under limits, and says what a reader did that it must not do.

The limits end the process or make the reader fail; so this belongs in a child process. It needs
Linux.
"""

from __future__ import annotations

import hashlib
import json
import resource
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from _fuzz_targets import Target
from fastglt.errors import FastGLTError

CPU_SECONDS = 5.0
"""A reader that computes for longer hangs."""
WALL_SECONDS = 60.0
"""A reader that takes longer waits for something; other work on the machine counts too."""
MEMORY = 256 << 20
"""Bytes that a reader may take beyond what the process has; no file here is a tenth as large."""

COUNTERS = ("inputs", "taken", "refused", "failures")
_HARMLESS = (
    "sys._getframe",
    "object.__getattr__",
    "object.__setattr__",
    "compile",
    "marshal.loads",
)
_SYSTEM = ("/proc/meminfo", "/proc/self/statm", "/sys/fs/cgroup/memory.")
"""Where the free memory is read from."""
_WATCHED = (
    "open", "exec", "import", "os.", "subprocess.", "socket.", "pickle.", "ctypes.dlopen",
    "shutil.", "glob.", "urllib.", "http.", "tempfile.", "webbrowser.", "code.",
)  # fmt: skip


class Guard:
    """Reads files of one target; numbers and what went wrong are kept in a folder.

    Args:
        target: What is read.
        folder: Gets ``current`` (the file that is being read), ``counts`` and ``failures.jsonl``
            with the files that went wrong beside it.
    """

    def __init__(self, target: Target, folder: Path) -> None:
        self._target, self._folder = target, folder
        self._file = folder / f"current{target.suffix}"
        self._scratch = folder / "scratch"
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._counts = np.memmap(folder / "counts", np.int64, "r+", shape=len(COUNTERS))
        self._seen: set[str] = set()
        self._events: list[str] | None = None
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        sys.addaudithook(self._audit)

    def warm_up(self, seeds: list[bytes]) -> None:
        """Read valid files, so that all imports are done; they must be taken."""
        for seed in seeds:
            self._file.write_bytes(seed)
            self._target.read(self._file, self._scratch)

    def check(self, data: bytes) -> bool:
        """Read one file and count it; whether it was taken."""
        self._file.write_bytes(data)
        self._counts[0] += 1
        problem, taken = self._read()
        self._counts[1 if taken else 2] += 1
        if problem is not None:
            self._counts[3] += 1
            self._keep(data, problem)
        return taken

    def _read(self) -> tuple[str | None, bool]:
        self._events = []
        _start_limits()
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                self._target.read(self._file, self._scratch)
            taken, problem = True, None
        except FastGLTError as error:
            taken, problem = False, _unclear(error)
        except Exception as error:  # noqa: BLE001  whatever it is, it is what is looked for
            _stop_limits()
            place = traceback.extract_tb(error.__traceback__)
            ours = [frame for frame in place if "/fastglt/" in frame.filename] or place
            where = f"{Path(ours[-1].filename).name}:{ours[-1].name}"
            problem, taken = f"{type(error).__name__} in {where}: {error}"[:500], False
        finally:
            _stop_limits()
            events, self._events = self._events, None
        if problem is None and events:
            problem = f"did {events[0]}"
        if problem is None and warned:
            problem = f"warned: {warned[0].message}"[:500]
        return problem, taken

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._events is None or event in _HARMLESS or not event.startswith(_WATCHED):
            return
        if event == "import" and arguments[0] in sys.modules:
            return
        if event == "exec" and str(getattr(arguments[0], "co_filename", "")).startswith("<__array"):
            return
        path = str(arguments[0]) if arguments else ""
        if path.startswith((str(self._folder), *_SYSTEM)) and "/../" not in path:
            return
        self._events.append(f"{event} {path}"[:200])

    def _keep(self, data: bytes, problem: str) -> None:
        kind = problem.partition(":")[0]
        if kind in self._seen:
            return
        self._seen.add(kind)
        record_failure(self._folder, data, problem, self._target.suffix)


def record_failure(folder: Path, data: bytes, problem: str, suffix: str) -> None:
    """Keep a file that went wrong, and what went wrong."""
    name = hashlib.sha256(data).hexdigest()[:16] + suffix
    (folder / name).write_bytes(data)
    with (folder / "failures.jsonl").open("a") as lines:
        lines.write(json.dumps({"file": name, "problem": problem}) + "\n")


def _unclear(error: FastGLTError) -> str | None:
    """What is wrong with a message, if anything: it must say something, and not pages."""
    text = str(error)
    if not 10 <= len(text) <= 5000:
        return f"message of {len(text)} characters in {type(error).__name__}: {text[:100]}"
    return None


def _start_limits() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)


def _stop_limits() -> None:
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
