"""Sampled neighbourhoods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.loader import NeighborLoader, NodeLoader
from torch_geometric.typing import WITH_PYG_LIB

from fastglt.training.parts.cut import Cut, SelfLoops, cut_of, in_degree
from fastglt.training.parts.source import Sampling, dealt
from fastglt.training.sampling import NeighborSampler
from fastglt.training.seeding import seeded


class NeighborParts:
    """Neighbourhoods of random seeds.

    They come from PyG's ``NeighborLoader`` where ``pyg-lib`` is installed, else from
    :class:`~fastglt.training.sampling.NeighborSampler` under its ``NodeLoader``.

    Args:
        data: The graph.
        sampling: How it is cut.
        stratum: ``[num_edges]`` bool, two strata of edges, of each of which a node draws as many.
    """

    def __init__(self, data: Data, sampling: Sampling, stratum: Tensor | None = None) -> None:
        self._sampling = sampling
        self._batch_size = sampling.batch_size
        self._whole = Data(edge_index=data.edge_index.cpu(), num_nodes=data.num_nodes)
        self._graph, self._loops = self._whole, SelfLoops.of(data) if sampling.keeps_loops else None
        if self._loops is not None:
            proper = self._loops.others
            edge_index = self._whole.edge_index[:, proper]
            self._graph = Data(edge_index=edge_index, num_nodes=data.num_nodes)
            stratum = None if stratum is None else stratum[proper]
        self._stratum = stratum
        self._generator = torch.Generator()
        self._loader: NodeLoader | None = None
        self._degree = in_degree(self._graph, stratum)

    def renewed(self, data: Data) -> NeighborParts:
        """Neighbourhoods on other edges."""
        return NeighborParts(data, self._sampling)

    def scored(self, kept: Tensor) -> NeighborParts:
        """Draws kept edges and others apart, half of the fan-out (rounded up) of each.

        Of few that are kept hardly any would be drawn otherwise.
        """
        is_exact = all(count < 0 for count in self._sampling.fanout)
        if is_exact or bool(kept.all()) or not bool(kept.any()):
            return self
        self._loader = None  # its memory is another one's while edges are scored
        halves = tuple(count if count < 0 else -(-count // 2) for count in self._sampling.fanout)
        sampling = replace(self._sampling, fanout=halves)
        return NeighborParts(self._whole, sampling, kept.cpu())

    def _ready(self) -> NodeLoader:
        """The loader, made when it is first needed."""
        if self._loader is None:
            graph, fanout = self._graph, list(self._sampling.fanout)
            if WITH_PYG_LIB and self._stratum is None:
                self._loader = NeighborLoader(graph, fanout, batch_size=self._batch_size)
            else:
                sampler = NeighborSampler(
                    graph, fanout, seed=self._generator, stratum=self._stratum
                )
                self._loader = NodeLoader(graph, sampler, batch_size=self._batch_size)
        return self._loader

    def num_parts(self, num_seeds: int) -> int:
        """Parts of ``batch_size`` seeds."""
        return max(1, -(-num_seeds // self._batch_size))

    def order(self, strata: Sequence[Tensor], seed: int) -> list[Tensor]:
        """Random seeds; with as many as there are, in ascending order."""
        count = self.num_parts(sum(len(stratum) for stratum in strata))
        return dealt(strata, count, seed)

    def cut(self, seeds: Tensor, seed: int) -> Cut:
        """The neighbourhood of some nodes."""
        self._generator.manual_seed(seed)
        with seeded(seed):  # which pyg-lib draws from
            batch = self._ready()(seeds)
        cut = cut_of(batch, self._degree, self._stratum)
        if self._loops is None:
            return cut
        assert cut.edges is not None
        return self._loops.joined(replace(cut, edges=self._loops.others[cut.edges]))
