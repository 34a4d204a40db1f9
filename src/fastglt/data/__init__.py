"""Datasets: the catalogue and its sources, the user's own graph, validation and splits.

Importing this package imports neither torch nor PyG, so that datasets can be listed quickly.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fastglt.data.catalogue import CATALOGUE as CATALOGUE
from fastglt.data.entry import DatasetEntry as DatasetEntry
from fastglt.data.loading import DatasetRow as DatasetRow
from fastglt.data.loading import LoadedDataset as LoadedDataset
from fastglt.data.loading import listing as listing
from fastglt.data.loading import load as load

if TYPE_CHECKING:
    from fastglt.data.graphs import from_graph_splits as from_graph_splits
    from fastglt.data.links import from_link_splits as from_link_splits
    from fastglt.data.links import random_link_split as random_link_split
    from fastglt.data.mapped import load_mapped as load_mapped
    from fastglt.data.mapped import save_mapped as save_mapped
    from fastglt.data.npz import load_npz as load_npz
    from fastglt.data.npz import save_npz as save_npz
    from fastglt.data.synthetic import csbm as csbm

_NEED_TORCH = {
    "csbm": "synthetic",
    "from_graph_splits": "graphs",
    "from_link_splits": "links",
    "load_mapped": "mapped",
    "load_npz": "npz",
    "random_link_split": "links",
    "save_mapped": "mapped",
    "save_npz": "npz",
}

__all__ = [
    "CATALOGUE",
    "DatasetEntry",
    "DatasetRow",
    "LoadedDataset",
    "csbm",
    "from_graph_splits",
    "from_link_splits",
    "listing",
    "load",
    "load_mapped",
    "load_npz",
    "random_link_split",
    "save_mapped",
    "save_npz",
]


def __getattr__(name: str) -> Any:
    if name in _NEED_TORCH:
        module = importlib.import_module(f"fastglt.data.{_NEED_TORCH[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
