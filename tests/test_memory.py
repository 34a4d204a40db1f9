"""Processes of our own keep their memory; what the environment says wins."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fastglt import _memory
from fastglt.errors import InputError

NAMES = ("THP_MEM_ALLOC_ENABLE", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_")


class _Library:
    def __init__(self):
        self.calls = []

    def mallopt(self, parameter, value):
        self.calls.append((parameter, value))


@pytest.fixture
def library(monkeypatch):
    found = _Library()
    monkeypatch.setattr(_memory.ctypes, "CDLL", lambda _: found)
    monkeypatch.setattr(_memory.platform, "system", lambda: "Linux")
    monkeypatch.setattr(_memory.platform, "libc_ver", lambda: ("glibc", "2.36"))
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    yield found
    os.environ.pop(NAMES[0], None)


def test_on_linux_with_glibc(library):
    _memory.keep_memory()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "1"
    assert library.calls == [(-4, 0), (-1, -1)]


def test_the_environment_wins(library, monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, "0")
    _memory.keep_memory()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"
    assert library.calls == []


def test_other_libraries_are_left_alone(library, monkeypatch):
    monkeypatch.setattr(_memory.platform, "libc_ver", lambda: ("", ""))
    _memory.keep_memory()
    assert library.calls == []


def test_other_systems_are_left_alone(library, monkeypatch):
    monkeypatch.setattr(_memory.platform, "system", lambda: "Darwin")
    _memory.keep_memory()
    assert library.calls == []
    assert "THP_MEM_ALLOC_ENABLE" not in os.environ


def test_free_memory_is_known_on_linux_and_bounds_what_is_taken(monkeypatch):
    if sys.platform.startswith("linux"):
        available = _memory.available_bytes()
        assert 0 < available < 2**50
        _memory.check_fits(1, "a byte")
        with pytest.raises(InputError, match="the moon needs about"):
            _memory.check_fits(2**50, "the moon")
    monkeypatch.setattr(sys, "platform", "other")
    assert _memory.available_bytes() is None
    _memory.check_fits(2**60, "anything, where the system does not say")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_limit_on_the_address_space_counts():
    program = (
        "import resource\n"
        "from fastglt import _memory\n"
        "from pathlib import Path\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**27, resource.RLIM_INFINITY))\n"
        "print(_memory.available_bytes())\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(result.stdout) <= 2**27
