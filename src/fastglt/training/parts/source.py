"""What cuts a graph into parts, and how it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch_geometric.data import Data

from fastglt.training.parts.cut import Cut

LoaderFactory = Callable[[Data], Iterable[Data]]
"""``loader(data)`` gives the batches of one pass over a graph, which may be a pruned one: what
PyG's ``NeighborLoader`` and ``NodeLoader`` yield, or others with ``n_id`` and ``e_id``. The graph
comes without features, which are taken from the whole one by ``n_id``."""


@dataclass(frozen=True)
class Sampling:
    """How a graph is cut into parts.

    Attributes:
        kind: A name in :data:`SOURCES`.
        fanout: Incoming edges that a node draws, by hop from the seeds; -1 takes all.
        batch_size: Seeds in a step.
        num_clusters: Clusters that the graph is cut into.
        batch_clusters: Clusters in a step.
        loader: The user's own.
        keeps_loops: Whether a node's own loop is no edge to draw, but always in the part.
    """

    kind: str
    fanout: tuple[int, ...] = (15, 10)
    batch_size: int = 1024
    num_clusters: int = 100
    batch_clusters: int = 10
    loader: LoaderFactory | None = None
    keeps_loops: bool = False


class PartSource(Protocol):
    """Cuts one graph, whose edges do not change, into parts."""

    def renewed(self, data: Data) -> PartSource:
        """The same for the graph with other edges."""

    def scored(self, kept: Tensor) -> PartSource:
        """The same for scoring all edges, ``[num_edges]`` bool of which are kept."""

    def num_parts(self, num_seeds: int) -> int:
        """Parts that a pass over so many seeds takes."""

    def order(self, strata: Sequence[Tensor], seed: int) -> list[Tensor]:
        """The seeds of each part of a pass: nodes, or whatever :meth:`cut` takes.

        Args:
            strata: Disjoint sets of seeds, of each of which every part gets its share.
            seed: Of the order.
        """

    def cut(self, seeds: Tensor, seed: int) -> Cut:
        """One part."""


def dealt(strata: Sequence[Tensor], count: int, seed: int) -> list[Tensor]:
    """Disjoint sets, each shuffled and dealt evenly to ``count`` parts, ascending in each part.

    Args:
        strata: ``[n]`` int64 each.
        count: Parts.
        seed: Of the order.
    """
    generator = torch.Generator().manual_seed(seed)
    parts: list[list[Tensor]] = [[] for _ in range(count)]
    for turn, stratum in enumerate(strata):
        shuffled = stratum[torch.randperm(len(stratum), generator=generator)]
        dealt_out = shuffled.tensor_split(count)
        # Larger shares come first: in every other set they go to the last parts.
        for part, some in zip(parts, dealt_out[:: -1 if turn % 2 else 1], strict=True):
            part.append(some)
    return [torch.cat(part).sort().values for part in parts]


def share_of(seeds: Tensor, rank: int, ranks: int) -> Tensor:
    """The seeds of a part that one of several ranks takes."""
    return seeds[rank::ranks]
