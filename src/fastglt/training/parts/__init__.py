"""Parts of a graph that a training step sees: sampled neighbourhoods, clusters, a user's own.

To add a way to cut a graph, write a class with :class:`PartSource`'s methods and enter it in
:data:`SOURCES`, and its name in the setting ``sampler``.
"""

from __future__ import annotations

from collections.abc import Callable

from torch_geometric.data import Data

from fastglt.training.parts.cluster import ClusterParts
from fastglt.training.parts.cut import Cut, averaging_share, cut_out, in_degree
from fastglt.training.parts.given import GivenParts
from fastglt.training.parts.neighbor import NeighborParts
from fastglt.training.parts.source import LoaderFactory, PartSource, Sampling, dealt, share_of

SOURCES: dict[str, Callable[[Data, Sampling], PartSource]] = {
    "neighbor": NeighborParts,
    "cluster": ClusterParts,
    "given": GivenParts,
}
"""Every way to cut a graph by the name that people type."""

__all__ = [
    "SOURCES",
    "ClusterParts",
    "Cut",
    "GivenParts",
    "LoaderFactory",
    "NeighborParts",
    "PartSource",
    "Sampling",
    "averaging_share",
    "cut_out",
    "dealt",
    "in_degree",
    "share_of",
]
