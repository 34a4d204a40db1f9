"""How raw files become a graph: one function for each family of datasets.

A loader is called with the folder that holds the family (for ``planetoid/Cora`` that is
``planetoid``) and returns the graph as PyG's own loader makes it, before any transform of ours.
The folder is a private copy of the raw files, so PyG may write ``processed/`` into it.
PyG is imported inside the functions: the catalogue must be listable without it.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from torch_geometric.data import Data


def planetoid(folder: Path, name: str) -> Data:
    """Load a Planetoid graph with its public split.

    Args:
        folder: The folder that holds ``<name>/raw/ind.<name>.*``.
        name: ``"Cora"``, ``"CiteSeer"`` or ``"PubMed"``.

    Returns:
        A graph with ``x``, ``y``, ``edge_index`` and the three masks.
    """
    from torch_geometric.datasets import Planetoid

    return _first_graph(Planetoid, folder, name)


def amazon(folder: Path, name: str) -> Data:
    """Load an Amazon co-purchase graph; it has no split of its own.

    Args:
        folder: The folder that holds ``<name>/raw/amazon_electronics_<name>.npz``.
        name: ``"Computers"`` or ``"Photo"``.

    Returns:
        A graph with ``x``, ``y`` and ``edge_index``.
    """
    from torch_geometric.datasets import Amazon

    return _first_graph(Amazon, folder, name)


def coauthor(folder: Path, name: str) -> Data:
    """Load a co-author graph; it has no split of its own.

    Args:
        folder: The folder that holds ``<name>/raw/ms_academic_<first three letters>.npz``.
        name: ``"CS"`` or ``"Physics"``.

    Returns:
        A graph with ``x``, ``y`` and ``edge_index``.
    """
    from torch_geometric.datasets import Coauthor

    return _first_graph(Coauthor, folder, name)


def citation_full(folder: Path, name: str) -> Data:
    """Load a full citation graph, made undirected as PyG does; it has no split of its own.

    Args:
        folder: The folder that holds ``<name in lower case>/raw/<name in lower case>.npz``.
        name: A name of PyG's ``CitationFull``, e.g. ``"DBLP"`` or ``"Cora_ML"``.

    Returns:
        A graph with ``x``, ``y`` and ``edge_index``.
    """
    from torch_geometric.datasets import CitationFull

    return _first_graph(CitationFull, folder, name)


def heterophilous(folder: Path, name: str) -> Data:
    """Load a heterophilous graph with its ten official splits.

    Args:
        folder: The folder that holds ``<name>/raw/<name>.npz``, the name in PyG's spelling:
            lower case with underscores.
        name: A name of PyG's ``HeterophilousGraphDataset``, e.g. ``"Roman-empire"``.

    Returns:
        A graph with ``x``, ``y``, ``edge_index`` and the three masks ``[num_nodes, 10]``.
    """
    from torch_geometric.datasets import HeterophilousGraphDataset

    return _first_graph(HeterophilousGraphDataset, folder, name)


def _first_graph(dataset_class: Any, folder: Path, name: str) -> Data:
    # PyG installs a process-wide warning filter while it reads; keep it from leaking out.
    with warnings.catch_warnings():
        dataset = _quiet(dataset_class)(root=str(folder), name=name)
    return dataset[0]


def _quiet(dataset_class: Any) -> Any:
    """PyG prints "Processing..." unless ``log`` is false, but these classes do not take ``log``."""

    class Quiet(dataset_class):  # type: ignore[misc]
        log = property(lambda _: False, lambda _self, _value: None)

    return Quiet
