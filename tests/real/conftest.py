"""Real datasets for the tests in this folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fastglt.data import CATALOGUE, LoadedDataset, load, sources
from fastglt.errors import DatasetNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module", autouse=True)
def _shared_cache(shared_cache: Path) -> Iterator[None]:
    """Commands that these tests start share one cache, so that a download is made only once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTGLT_CACHE", str(shared_cache))
        yield


@pytest.fixture(scope="session")
def real_dataset(shared_cache: Path) -> Callable[..., LoadedDataset]:
    """Load a dataset of the catalogue by name, with the keywords of :func:`fastglt.data.load`.

    With FASTGLT_DATA set, a dataset that is not there is a failure. Without it, the cache and the
    mirrors are tried, and the test is skipped if they do not have it.
    """
    absent: dict[str, str] = {}

    def load_or_skip(name: str, **keywords: object) -> LoadedDataset:
        if os.environ.get("FASTGLT_DATA"):
            root = sources.root_dir()
            assert root is not None
            lacking = sources.missing_files(CATALOGUE.get(name), root)
            assert not lacking, f"FASTGLT_DATA={root} lacks {name}: {lacking}"
        if name in absent:
            pytest.skip(absent[name])
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("FASTGLT_CACHE", str(shared_cache))
                return load(name, **keywords)
        except DatasetNotFoundError as error:
            absent[name] = str(error)
            pytest.skip(absent[name])

    return load_or_skip
