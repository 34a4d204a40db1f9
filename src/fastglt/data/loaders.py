"""How raw files become a graph, for the datasets that PyG reads; OGB's have a module of their own.

A loader is called with the folder that holds the family (for ``planetoid/Cora`` that is
``planetoid``) and returns the graph as PyG's own loader makes it, before any transform of ours.
The folder is a private copy of the raw files, so PyG may write ``processed/`` into it.
PyG is imported inside the function: the catalogue must be listable without it.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from torch_geometric.data import Data


def pyg(folder: Path, name: str, dataset: str) -> Data:
    """Load the graph of one of PyG's dataset classes.

    Args:
        folder: The folder that holds ``<name>/raw``, with the name spelled as that class does.
        name: Which of its graphs, e.g. ``"Cora"``.
        dataset: The class in ``torch_geometric.datasets``, e.g. ``"Planetoid"``.

    Returns:
        A graph with ``x``, ``y``, ``edge_index`` and, where the class has a split, the three masks
        ``[num_nodes]``, or ``[num_nodes, num_splits]`` for several splits.
    """
    import torch_geometric.datasets

    dataset_class = _quiet(getattr(torch_geometric.datasets, dataset))
    # PyG installs a process-wide warning filter while it reads; keep it from leaking out.
    with warnings.catch_warnings():
        graphs = dataset_class(root=str(folder), name=name)
    return graphs[0]


def _quiet(dataset_class: Any) -> Any:
    """PyG prints "Processing..." unless ``log`` is false, but these classes do not take ``log``."""

    class Quiet(dataset_class):  # type: ignore[misc]  # a class that is known at run time
        log = property(lambda _: False, lambda _self, _value: None)

    return Quiet
