"""Where raw files come from: the order of places, verification, and an untouched root."""

from __future__ import annotations

import multiprocessing
import os
import stat
import time
from pathlib import Path

import pytest
from conftest import CONTENT, make_entry, write_files

from fastglt.data import downloads, sources
from fastglt.errors import DatasetNotFoundError, InputError


def staged(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder / "family/Tiny")): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
