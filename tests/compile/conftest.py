from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_sweeps(monkeypatch):
    """Which kernels are chosen for graphs as small as these does not matter, and time does."""
    monkeypatch.setattr("fastglt.compile.timing.SWEPT_BYTES", 1)
