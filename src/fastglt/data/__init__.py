"""Datasets: the catalogue and its sources, a synthetic generator, validation and splits.

Importing this package imports neither torch nor PyG, so that datasets can be listed quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastglt.data.catalogue import CATALOGUE as CATALOGUE
from fastglt.data.catalogue import DatasetEntry as DatasetEntry
from fastglt.data.loading import DatasetRow as DatasetRow
from fastglt.data.loading import LoadedDataset as LoadedDataset
from fastglt.data.loading import listing as listing
from fastglt.data.loading import load as load

if TYPE_CHECKING:
    from fastglt.data.synthetic import csbm as csbm

__all__ = [
    "CATALOGUE",
    "DatasetEntry",
    "DatasetRow",
    "LoadedDataset",
    "csbm",
    "listing",
    "load",
]


def __getattr__(name: str) -> Any:
    if name == "csbm":
        from fastglt.data.synthetic import csbm

        return csbm
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
