"""Parts of a graph that a training step sees: sampled neighbourhoods, clusters, a user's own.

To add a way to cut a graph, write a class with :class:`PartSource`'s methods and enter it in
:data:`SOURCES`, and its name in :data:`fastglt.settings.SAMPLERS`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.loader import NeighborLoader, NodeLoader
from torch_geometric.typing import WITH_PYG_LIB

from fastglt._extras import require
from fastglt.errors import InputError
from fastglt.masks import counting_sort
from fastglt.training.field import Field
from fastglt.training.focus import rows_of_nodes
from fastglt.training.ranks import Ranks
from fastglt.training.sampling import NeighborSampler
from fastglt.training.seeding import seeded
from fastglt.training.task import ADJACENCY

LoaderFactory = Callable[[Data], Iterable[Data]]
"""``loader(data)`` gives the batches of one pass over a graph, which may be a pruned one: what
PyG's ``NeighborLoader``, ``ClusterLoader`` and ``NodeLoader`` yield. The graph comes without
features, which are taken from the whole one by ``n_id``."""


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
    """

    kind: str
    fanout: tuple[int, ...] = (15, 10)
    batch_size: int = 1024
    num_clusters: int = 100
    batch_clusters: int = 10
    loader: LoaderFactory | None = None


@dataclass(frozen=True)
class Cut:
    """Which nodes and edges a part has.

    Attributes:
        nodes: ``[n]`` int64, places in the graph; seeds come first.
        edges: ``[m]`` int64, places in the graph's ``edge_index``; ``None`` if they are not known.
        edge_index: ``[2, m]``, with places in ``nodes``.
        num_seeds: Nodes whose predictions are exact or estimated without bias.
        inverse_share: ``[m]`` one over the probability that an edge is in a part that has its
            target's messages.
        rim: ``[n]`` bool, nodes that have edges into them, but here none.
        hops: Numbers of nodes by hop from the seeds, if nodes are sorted by that.
    """

    nodes: Tensor
    edges: Tensor | None
    edge_index: Tensor
    num_seeds: int
    inverse_share: Tensor
    rim: Tensor
    hops: tuple[int, ...] = ()

    def to(self, device: torch.device) -> Cut:
        """The same on a device."""
        edges = None if self.edges is None else self.edges.to(device)
        nodes, edge_index = self.nodes.to(device), self.edge_index.to(device)
        share, rim = self.inverse_share.to(device), self.rim.to(device)
        return Cut(nodes, edges, edge_index, self.num_seeds, share, rim, self.hops)

    def only(self, stays: Tensor) -> Cut:
        """The same with some of its edges, ``[m]`` bool, whose places are known."""
        assert self.edges is not None
        return replace(
            self,
            edges=self.edges[stays],
            edge_index=self.edge_index[:, stays],
            inverse_share=self.inverse_share[stays],
        )


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
        self._sampling, self._stratum = sampling, stratum
        self._batch_size = sampling.batch_size
        self._graph = Data(edge_index=data.edge_index.cpu(), num_nodes=data.num_nodes)
        self._generator = torch.Generator()
        self._loader: NodeLoader | None = None
        self._degree = in_degree(data, stratum)

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
        return NeighborParts(self._graph, sampling, kept.cpu())

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
        return _cut_of(batch, self._degree, self._stratum)


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


class GivenParts:
    """What a loader of the user's yields."""

    def __init__(self, data: Data, sampling: Sampling) -> None:
        if sampling.loader is None:
            raise InputError("sampler='given' needs loader=, a function of the graph")
        plain = copy.copy(data)
        plain.num_nodes = data.num_nodes
        for name in ("x", ADJACENCY):  # features may be in a form that loaders do not know
            if name in plain:
                del plain[name]
        self._loader = sampling.loader(plain)
        try:
            self._count = len(self._loader)  # type: ignore[arg-type]
        except TypeError as error:
            raise InputError(
                "loader must return something with a length, such as a PyG loader or a list of "
                f"batches (got {type(self._loader).__name__})"
            ) from error
        if self._count == 0:
            raise InputError("loader must return at least one batch (got none)")
        self._sampling = sampling
        self._batches: Iterator[Data] = iter(())
        self._seed = self._next = 0
        self._degree = in_degree(data)
        self._num_nodes = int(data.num_nodes)

    def renewed(self, data: Data) -> GivenParts:
        """What the loader yields of other edges, from where an epoch is."""
        result = GivenParts(data, self._sampling)
        if result._count != self._count:
            raise InputError(
                "loader must return as many batches for every graph that denoising makes "
                f"(got {result._count} after {self._count})"
            )
        result._seed, result._next = self._seed, self._count
        return result

    def scored(self, kept: Tensor) -> GivenParts:
        """The same: which edges a batch has is the loader's to say."""
        return self

    def num_parts(self, num_seeds: int) -> int:
        """The loader's batches."""
        return self._count

    def order(self, strata: Sequence[Tensor], seed: int) -> list[Tensor]:
        """Numbers of the batches, which come in the loader's order."""
        self._seed, self._next = seed, self._count
        return list(torch.arange(self._count))

    def cut(self, seeds: Tensor, seed: int) -> Cut:
        """The batch of that number; those before it are passed over."""
        number = int(seeds)
        with seeded(self._seed):
            if number < self._next:
                self._batches, self._next = iter(self._loader), 0
        batch: Data | None = None
        while self._next <= number:
            with seeded(seed):
                batch = next(self._batches, None)
            self._next += 1
        if batch is None:
            raise InputError(f"loader must yield the {self._count} batches that its length says")
        missing = [name for name in ("n_id", "edge_index") if batch.get(name) is None]
        if missing:
            raise InputError(
                f"batches of loader must have {missing[0]}: n_id says which nodes of the graph are "
                "in a batch, e_id which edges, and batch_size how many of the first are predicted"
            )
        nodes = batch.n_id
        if len(nodes) == 0 or int(nodes.min()) < 0 or int(nodes.max()) >= self._num_nodes:
            raise InputError(
                f"n_id of a batch must hold nodes in [0, {self._num_nodes}) (got "
                f"{'none' if len(nodes) == 0 else f'{int(nodes.min())} to {int(nodes.max())}'})"
            )
        return _cut_of(batch, self._degree)


SOURCES: dict[str, Callable[[Data, Sampling], PartSource]] = {
    "neighbor": NeighborParts,
    "cluster": ClusterParts,
    "given": GivenParts,
}
"""Every way to cut a graph by the name that people type."""


def in_degree(data: Data, stratum: Tensor | None = None) -> Tensor:
    """``[num_nodes, num_strata]`` int64, edges into each node, of each stratum if there are two."""
    target, num_strata = data.edge_index[1].cpu(), 1
    if stratum is not None:
        target, num_strata = 2 * target + stratum, 2
    degree = torch.bincount(target, minlength=num_strata * int(data.num_nodes))
    return degree.view(-1, num_strata)


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


def cut_out(data: Data, cut: Cut, focuses: bool = False) -> Data:
    """The part of a graph that a cut describes, with everything that nodes and edges have.

    Args:
        data: The graph; it is not changed.
        cut: Its nodes and edges.
        focuses: Let the model, where that is proven equal, compute only what predictions of the
            seeds depend on; then it returns one row a seed, and labels and masks have as many.

    Returns:
        Seeds first, with PyG's ``n_id``, ``e_id`` and ``batch_size``, and with ``inverse_share``
        and ``is_rim``, see :class:`Cut`.
    """
    device = data.edge_index.device
    cut = cut.to(device)
    part = copy.copy(data)
    field = _field_of(data, cut) if focuses else None
    named = cut.nodes if field is None else cut.nodes[: cut.num_seeds]
    for name in data.node_attrs():
        if isinstance(data[name], Tensor):
            part[name] = rows_of_nodes(data, name, cut.nodes if name == "x" else named)
    for name in data.edge_attrs():
        if name == "edge_index" or "edge_label" in name:
            continue
        if cut.edges is None:
            raise InputError(
                f"data.{name} belongs to the edges, so batches of loader must have e_id, the "
                "places of their edges in the graph"
            )
        part[name] = data[name].index_select(data.__cat_dim__(name, data[name]), cut.edges)
    part.edge_index = cut.edge_index
    part.num_nodes = len(cut.nodes)
    part.n_id, part.e_id = cut.nodes, cut.edges
    part.batch_size, part.inverse_share, part.is_rim = cut.num_seeds, cut.inverse_share, cut.rim
    if ADJACENCY in data:
        known = part[ADJACENCY] = data[ADJACENCY].of_part(part, field)
        if field is not None:
            part.x = known.x
    return part


def _field_of(data: Data, cut: Cut) -> Field | None:
    """Which nodes each conv has to compute, where the model is a chain of convs that are served."""
    known = data.get(ADJACENCY)
    if not cut.hops or known is None or known.reach is None or not known.is_of(data):
        return None
    if not known.reach.in_training:
        return None
    return Field.of_hops(cut.hops, known.reach.num_convs).to(cut.nodes.device)


def _cut_of(batch: Data, degree: Tensor, stratum: Tensor | None = None) -> Cut:
    """What a batch of a PyG loader holds.

    A node with some of its incoming edges (of a stratum) has each with the probability of their
    share.

    Args:
        batch: The batch.
        degree: ``[num_nodes, num_strata]`` edges into each node of the graph.
        stratum: ``[num_edges]`` bool, where there are two.
    """
    nodes, edge_index = batch.n_id.cpu(), batch.edge_index.cpu()
    whole, row = degree[nodes], edge_index[1]
    if stratum is not None:
        row = 2 * row + stratum[batch.e_id]
    count = torch.bincount(row, minlength=whole.numel()).view_as(whole)
    share = (count / whole.clamp_min(1)).flatten()
    num_seeds: Any = batch.get("batch_size")
    rim = (count.sum(dim=1) == 0) & (whole.sum(dim=1) > 0)
    if num_seeds is None:
        rim[:] = False
    return Cut(
        nodes,
        batch.get("e_id"),
        edge_index,
        len(nodes) if num_seeds is None else int(num_seeds),
        share.reciprocal()[row].float(),
        rim,
        tuple(batch.get("num_sampled_nodes") or ()),
    )
