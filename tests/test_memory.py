"""Processes of our own keep their memory; what the environment says wins."""

from __future__ import annotations

import os

import pytest

from fastglt import _memory

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
