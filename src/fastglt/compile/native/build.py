"""Compile ``kernels.cpp`` with the compiler of this machine, for its processor, once."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from fastglt._atomic import atomic_write
from fastglt.data.sources import cache_dir
from fastglt.errors import InputError, OutputPathError

SOURCE = Path(__file__).with_name("kernels.cpp")
SWITCH = "FASTGLT_NATIVE"
"""Environment variable; one of :data:`OFF` does without these kernels."""
OFF = ("0", "false", "no", "off")
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-ffp-contract=fast", "-fPIC", "-shared", "-w")
TUNED = ("-march=native",)
PARALLEL = ("-fopenmp",)
SECONDS = 300
"""How long the compiler may take."""


class NativeUnavailable(Exception):  # noqa: N818 - it is caught, and ends up in a report
    """Why there are no kernels of our own on this machine."""


def load() -> ctypes.CDLL:
    """The kernels, compiled now if they were not before.

    The result is kept in the user cache, by the source, the compiler and the processor.

    Raises:
        NativeUnavailable: If they are switched off, or cannot be compiled or loaded.
    """
    found = _load(os.environ.get(SWITCH, ""))
    if isinstance(found, NativeUnavailable):
        raise found
    return found


def why_not() -> str | None:
    """Why there are no kernels of our own here; ``None`` where there are."""
    found = _load(os.environ.get(SWITCH, ""))
    return str(found) if isinstance(found, NativeUnavailable) else None


@lru_cache
def _load(switch: str) -> ctypes.CDLL | NativeUnavailable:
    try:
        return _loaded(switch)
    except NativeUnavailable as reason:
        return reason


def _loaded(switch: str) -> ctypes.CDLL:
    if switch.lower() in OFF:
        raise NativeUnavailable(f"{SWITCH}={switch} is set")
    if sys.platform == "win32":
        raise NativeUnavailable("they are not built on Windows")
    compiler = _compiler()
    name = f"kernels-{_digest(compiler)}.so"
    try:
        return _cached(compiler, cache_dir() / "native" / name)
    except (InputError, OutputPathError, OSError):
        return _of_this_process(compiler, name)


def _cached(compiler: list[str], path: Path) -> ctypes.CDLL:
    """The kernels in the cache, built if they are not there or are damaged.

    Raises:
        OSError: If the cache cannot be used.
    """
    if path.exists():
        with suppress(OSError):
            return ctypes.CDLL(str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        _compile(compiler, temporary)
    return ctypes.CDLL(str(path))


def _of_this_process(compiler: list[str], name: str) -> ctypes.CDLL:
    """The kernels without a cache, built for this process alone."""
    try:
        with tempfile.TemporaryDirectory(prefix="fastglt-") as folder:
            path = Path(folder) / name
            _compile(compiler, path)
            return ctypes.CDLL(str(path))  # which needs the file no longer
    except OSError as error:
        raise NativeUnavailable(f"what {compiler[0]} made cannot be loaded: {error}") from error


def _compiler() -> list[str]:
    """The command of a compiler: that of ``$CXX``, or the first that there is."""
    if own := shlex.split(os.environ.get("CXX", "")):
        if shutil.which(own[0]) is None:
            raise NativeUnavailable(f"the compiler that $CXX names was not found ({own[0]})")
        return own
    for name in COMPILERS:
        if found := shutil.which(name):
            return [found]
    raise NativeUnavailable(f"no C++ compiler was found ({', '.join(COMPILERS)}, or $CXX)")


def _digest(compiler: list[str]) -> str:
    """Changes with the source, the compiler and the processor."""
    version = _run([*compiler, "--version"]).stdout
    flags = " ".join((*compiler[1:], *FLAGS, *TUNED, *PARALLEL))
    parts = (SOURCE.read_text(), version, flags, platform.machine(), _processor())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    """What tells processors apart that may share a cache."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor()
    told = ("flags", "Features", "model name", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(told)}))


def _compile(compiler: list[str], out: Path) -> None:
    """Tuned and parallel, else without what this compiler does not know."""
    tries = ((*TUNED, *PARALLEL), PARALLEL, TUNED, ())
    for flags in tries:
        result = _run([*compiler, *FLAGS, *flags, str(SOURCE), "-o", str(out)])
        if result.returncode == 0:
            return
    last = result.stderr.strip().splitlines()
    raise NativeUnavailable(f"{compiler[0]} failed: {last[0] if last else result.returncode}")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeUnavailable(f"{command[0]} cannot be run: {error}") from error
