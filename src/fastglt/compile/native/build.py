"""Compile ``kernels.cpp`` with the compiler of this machine, for its processor, once."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

from fastglt._atomic import atomic_write
from fastglt.data.sources import cache_dir
from fastglt.errors import InputError, OutputPathError

SOURCE = Path(__file__).with_name("kernels.cpp")
SWITCH = "FASTGLT_NATIVE"
"""Environment variable; ``0`` does without these kernels."""
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
    if switch == "0":
        raise NativeUnavailable(f"{SWITCH}=0 is set")
    if sys.platform == "win32":
        raise NativeUnavailable("they are not built on Windows")
    compiler = _compiler()
    name = f"kernels-{_digest(compiler)}.so"
    try:
        path = cache_dir() / "native" / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as temporary:
                _compile(compiler, temporary)
    except (InputError, OutputPathError, OSError):
        # Without a cache that can be written, every process compiles for itself.
        path = Path(tempfile.mkdtemp(prefix="fastglt-")) / name
        _compile(compiler, path)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeUnavailable(f"what {compiler} made cannot be loaded: {error}") from error


def _compiler() -> str:
    for name in (os.environ.get("CXX", ""), *COMPILERS):
        if name and (found := shutil.which(name)):
            return found
    raise NativeUnavailable(f"no C++ compiler was found ({', '.join(COMPILERS)}, or $CXX)")


def _digest(compiler: str) -> str:
    """Changes with the source, the compiler and the processor."""
    version = _run([compiler, "--version"]).stdout
    flags = " ".join((*FLAGS, *TUNED, *PARALLEL))
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


def _compile(compiler: str, out: Path) -> None:
    """Tuned and parallel, else without what this compiler does not know."""
    tries = ((*TUNED, *PARALLEL), PARALLEL, TUNED, ())
    for flags in tries:
        result = _run([compiler, *FLAGS, *flags, str(SOURCE), "-o", str(out)])
        if result.returncode == 0:
            return
    last = result.stderr.strip().splitlines()
    raise NativeUnavailable(f"{compiler} failed: {last[0] if last else result.returncode}")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeUnavailable(f"{command[0]} cannot be run: {error}") from error
