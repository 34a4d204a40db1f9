"""Clusters of a graph partition."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data

from fastglt._extras import require
from fastglt.errors import InputError
from fastglt.masks import counting_sort
from fastglt.training.parts.cut import Cut
from fastglt.training.parts.source import Sampling, dealt, share_of
from fastglt.training.ranks import Ranks


class ClusterParts:
    """Random clusters of a graph partition with all edges among them.

    Source: Chiang et al., "Cluster-GCN", KDD 2019, arXiv 1905.07953. The partition is METIS's, by
    ``pymetis``.
    """

    def __init__(self, data: Data, sampling: Sampling) -> None:
        num_nodes = int(data.num_nodes)
        count = min(sampling.num_clusters, num_nodes)
        together = min(sampling.batch_clusters, count)
        ranks = Ranks.current().size
        if together < 2 * ranks and count > 1:
            of_each = "" if ranks == 1 else f", and two for each of {ranks} processes"
            raise InputError(
                "batch_clusters must be at least 2: edges between clusters would never be seen"
                f"{of_each} (got {together})"
            )
        self._count, self._together, self._ranks = count, together, ranks
        self._cluster = _partition(data, count)
        self._place = torch.full((num_nodes,), -1)
        # The chance that two clusters are in one part, or in one rank's share of it, of all pairs.
        parts = self.order([], seed=0)
        sizes = [len(share_of(part, rank, ranks)) for part in parts for rank in range(ranks)]
        pairs = sum(size * (size - 1) for size in sizes)
        self._inverse = count * (count - 1) / pairs if pairs else 1.0
        in_cluster, self._nodes, _ = counting_sort(self._cluster, count, torch.arange(num_nodes))
        self._first = in_cluster.long()
        self._edge_index = data.edge_index.cpu()

    def renewed(self, data: Data) -> ClusterParts:
        """The same clusters with other edges."""
        result = copy.copy(self)
        result._edge_index = data.edge_index.cpu()
        return result

    def scored(self, kept: Tensor) -> ClusterParts:
        """The same: a part has all edges among its clusters."""
        return self

    def num_parts(self, num_seeds: int) -> int:
        """Parts of ``batch_clusters`` clusters."""
        return -(-self._count // self._together)

    def order(self, strata: Sequence[Tensor], seed: int) -> list[Tensor]:
        """Random clusters, each once."""
        parts = dealt([torch.arange(self._count)], self.num_parts(0), seed)
        if self._ranks == 1:
            return parts
        # Neighbouring clusters often have neighbouring numbers, and are to share a rank by chance.
        generator = torch.Generator().manual_seed(seed)
        return [part[torch.randperm(len(part), generator=generator)] for part in parts]

    def cut(self, seeds: Tensor, seed: int) -> Cut:
        """The subgraph of some clusters."""
        parts = [self._nodes[self._first[c] : self._first[c + 1]] for c in seeds.tolist()]
        nodes = torch.cat(parts).long()
        self._place[nodes] = torch.arange(len(nodes))
        source, target = self._edge_index
        edges = ((self._place[source] >= 0) & (self._place[target] >= 0)).nonzero().view(-1)
        chosen = self._edge_index[:, edges]
        edge_index = self._place[chosen]
        self._place[nodes] = -1
        crosses = self._cluster[chosen[0]] != self._cluster[chosen[1]]
        inverse = torch.where(crosses, self._inverse, 1.0)
        no_rim = torch.zeros(len(nodes), dtype=torch.bool)
        return Cut(nodes, edges, edge_index, len(nodes), inverse, no_rim)


def _partition(data: Data, count: int) -> Tensor:
    """``[num_nodes]`` int64, METIS's cluster of each node."""
    num_nodes = int(data.num_nodes)
    if count == 1:
        return torch.zeros(num_nodes, dtype=torch.int64)
    pymetis = require("pymetis", "metis")
    source, target = data.edge_index.cpu()
    ends = torch.cat([source, target]), torch.cat([target, source])
    starts, _, columns = counting_sort(ends[0], num_nodes, ends[1])
    adjacency = pymetis.CSRAdjacency(starts.numpy(), columns.numpy())
    _, membership = pymetis.part_graph(count, adjacency)
    return torch.tensor(membership)
