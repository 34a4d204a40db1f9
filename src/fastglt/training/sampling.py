"""Neighbour sampling in plain torch, for PyG's ``NodeLoader`` and ``LinkLoader``.

PyG's own ``NeighborLoader`` needs ``pyg-lib`` or ``torch-sparse``, which have no wheels for many
platforms; where one of them is installed it is the faster choice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import get_worker_info
from torch_geometric.data import Data
from torch_geometric.sampler import (
    BaseSampler,
    EdgeSamplerInput,
    NegativeSampling,
    NodeSamplerInput,
    SamplerOutput,
)

from fastglt.data.forms import message_edges
from fastglt.data.validate import check_edges
from fastglt.errors import GraphError, InputError
from fastglt.masks import counting_sort

WORKERS_REPEAT = "num_workers must be 0: every worker, in every epoch, would repeat the same draws"
"""Why :class:`NeighborSampler` works in the main process only."""
_FAR_ABOVE_ANY_DEGREE = 2**62


class NeighborSampler(BaseSampler):  # type: ignore[misc]  # PyG is untyped
    """Samples the nodes and edges that the outputs of some seed nodes depend on.

    From the seeds it walks against the messages, from targets to sources: in hop ``i`` every node
    that the hop before added gets at most ``num_neighbors[i]`` of its incoming edges. The result
    has the order that ``torch_geometric.utils.trim_to_layer`` relies on: seeds first, then the
    nodes that each hop added, with ``num_sampled_nodes`` and ``num_sampled_edges`` to tell them
    apart.

    With fan-out -1 in as many hops as the model has layers, a model gets exactly its full-graph
    outputs at the seeds, if a message depends on nothing but its own source and the edges into its
    target. GCN's normalisation does not: it divides by the degree of the source too, and the
    outermost sampled nodes have lost their incoming edges. One hop more mends that.

    Example::

        sampler = NeighborSampler(data, [15, 10], seed=0)
        loader = NodeLoader(data, sampler, data.train_mask, batch_size=512, shuffle=True)

    Where most edges count for nothing, few of those drawn would be among the others. So edges can
    be drawn in two strata: of each a node gets as many as its fan-out.

    Works in the main process only (``num_workers=0``), from one thread at a time. Holds one int64
    an edge and two a node, or three.

    Args:
        data: The graph, whose edges must not be changed in place afterwards; another set of edges,
            such as a pruned one, takes another sampler.
        num_neighbors: Fan-out of each hop, at least 0, or -1 for all incoming edges.
        replace: Whether each node draws its edges with replacement: then always as many as the
            fan-out, if it has any, and an edge may come more than once.
        seed: Seed of the draws, or the generator (on the CPU) to draw from. Draws go on from batch
            to batch, so every epoch has its own.
        stratum: ``[num_edges]`` bool, in which of two strata an edge is; all are in one by default.

    Raises:
        GraphError: If ``data`` has no valid ``edge_index``.
        InputError: If a fan-out or the seed is out of range, or strata are not those of the edges.
    """

    def __init__(
        self,
        data: Data,
        num_neighbors: Sequence[int],
        *,
        replace: bool = False,
        seed: int | torch.Generator = 0,
        stratum: Tensor | None = None,
    ) -> None:
        self.num_neighbors = _checked_fan_outs(num_neighbors)
        self.replace = replace
        self._generator = _generator(seed)
        num_nodes = _checked_num_nodes(data)
        sources, targets = message_edges(data).cpu()
        self._num_strata = 1
        if stratum is not None:
            if stratum.dtype != torch.bool or stratum.shape != targets.shape:
                raise InputError(
                    f"stratum must be bool [{len(targets)}] (got {stratum.dtype} "
                    f"{list(stratum.shape)})"
                )
            self._num_strata = 2
            targets = 2 * targets + stratum.cpu()
        # Edges by target and stratum: those of row r are at _starts[r] : _starts[r + 1] of these.
        num_rows = self._num_strata * num_nodes
        starts, self._edge_ids, self._sources = counting_sort(targets, num_rows, sources)
        self._starts = starts.long()
        # Kept between calls, all -1: a new one would cost every batch time linear in num_nodes.
        self._local = torch.full((num_nodes,), -1)

    def sample_from_nodes(self, index: NodeSamplerInput, **kwargs: object) -> SamplerOutput:
        """Sample around seed nodes; called by ``NodeLoader``.

        Args:
            index: The seeds. One that comes twice is sampled once, in its first place.
            kwargs: Not used.

        Returns:
            ``node`` ``[num_sampled_nodes]`` begins with the distinct seeds and holds no node
            twice; ``row`` and ``col`` ``[num_sampled_edges]`` are places in ``node``; ``edge``
            ``[num_sampled_edges]`` are places in ``data.edge_index``. ``metadata[0]`` holds the
            ``input_id`` of each seed, so the batch's ``batch_size`` counts distinct seeds.

        Raises:
            InputError: If seeds are out of range or have a time or a type, or in a worker process.
        """
        _check_call(index)
        first = _first_places(index.node)
        out = self._sample(index.node[first])
        out.metadata = (None if index.input_id is None else index.input_id[first], None)
        return out

    def sample_from_edges(
        self, index: EdgeSamplerInput, neg_sampling: NegativeSampling | None = None
    ) -> SamplerOutput:
        """Sample around both ends of seed edges; called by ``LinkLoader``.

        Seed edges that are also in the graph stay among its messages; take them out of ``data``
        first where they must not be seen.

        Args:
            index: The seed edges, positive and negative, with their labels.
            neg_sampling: Must be ``None``.

        Returns:
            As in :meth:`sample_from_nodes`; ``metadata[1]`` has the seed edges ``[2, n]`` as
            places in ``node``, in their given order, and ``metadata[2]`` their labels.

        Raises:
            InputError: If seeds are out of range or have a time or a type, in a worker process, or
                if negatives are asked for: PyG draws them from torch's global random state.
        """
        if neg_sampling is not None:
            raise InputError(
                "neg_sampling must be None (got NegativeSampling); put negatives into "
                "edge_label_index, with edge_label 0"
            )
        _check_call(index)
        seeds, places = torch.unique(torch.cat([index.row, index.col]), return_inverse=True)
        out = self._sample(seeds)
        out.metadata = (index.input_id, places.view(2, -1), index.label, None)
        return out

    def _sample(self, seeds: Tensor) -> SamplerOutput:
        self._check_range(seeds)
        nodes, rows, columns, edges = [seeds], [seeds[:0]], [seeds[:0]], [seeds[:0]]
        num_nodes = seeds.numel()
        self._local[seeds] = torch.arange(num_nodes)
        try:
            for fan_out in self.num_neighbors:
                first_target = num_nodes - nodes[-1].numel()
                target, place = self._incoming(nodes[-1], fan_out)
                source = self._sources[place].long()
                new = torch.unique(source[self._local[source] < 0])
                self._local[new] = torch.arange(num_nodes, num_nodes + new.numel())
                num_nodes += new.numel()
                nodes.append(new)
                edges.append(self._edge_ids[place].long())
                rows.append(self._local[source])
                columns.append(first_target + target)
        finally:
            for part in nodes:
                self._local[part] = -1
        return SamplerOutput(
            node=torch.cat(nodes),
            row=torch.cat(rows),
            col=torch.cat(columns),
            edge=torch.cat(edges),
            num_sampled_nodes=[part.numel() for part in nodes],
            num_sampled_edges=[part.numel() for part in edges[1:]],
        )

    def _incoming(self, frontier: Tensor, fan_out: int) -> tuple[Tensor, Tensor]:
        """Each sampled edge's target, as a place in ``frontier``, and its own place by target."""
        strata = torch.arange(self._num_strata)
        rows = (self._num_strata * frontier.unsqueeze(1) + strata).flatten()
        start = self._starts[rows]
        degree = self._starts[rows + 1] - start
        if fan_out < 0:
            count, is_drawn = degree, torch.zeros_like(degree, dtype=torch.bool)
        elif self.replace:
            is_drawn = degree > 0
            count = is_drawn * fan_out
        else:
            count, is_drawn = degree.clamp_max(fan_out), degree > fan_out
        target = torch.repeat_interleave(count)
        # Place among the edges of its row: 0, 1, ... where all of them are kept.
        place = torch.arange(target.numel()) - (count.cumsum(0) - count)[target]
        if bool(is_drawn.any()):
            draw = draw_with_replacement if self.replace else draw_distinct
            place[is_drawn[target]] = draw(degree[is_drawn], fan_out, self._generator).flatten()
        return target // self._num_strata, start[target] + place

    def _check_range(self, seeds: Tensor) -> None:
        # Negative ones would index from the end.
        wrong = seeds[(seeds < 0) | (seeds >= self._local.numel())]
        if wrong.numel():
            raise InputError(
                f"seed nodes must be in [0, {self._local.numel()}) (got {int(wrong[0])})"
            )


def draw_distinct(bounds: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``[n, count]`` numbers, each row a uniformly random set of those below its bound, ascending.

    Floyd's algorithm (Bentley & Floyd, "A sample of brilliance", CACM 1987), for all bounds
    (``[n]`` int64, at least ``count``) at once: neither time nor memory grows with the bounds.
    """
    drawn = bounds.new_empty(bounds.numel(), count)
    for i in range(count):
        last = bounds - count + i
        number = draw_with_replacement(last + 1, 1, generator)
        is_taken = (drawn[:, :i] == number).any(dim=1)
        drawn[:, i] = torch.where(is_taken, last, number[:, 0])
    return drawn.sort(dim=1).values


def draw_with_replacement(bounds: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``[n, count]`` uniformly random numbers, those of a row below its bound (``[n]``, >= 1)."""
    size = (bounds.numel(), count)
    return torch.randint(_FAR_ABOVE_ANY_DEGREE, size, generator=generator) % bounds[:, None]


def _first_places(values: Tensor) -> Tensor:
    """Where each distinct value comes first, ascending, ``[num_distinct]``."""
    distinct, inverse = torch.unique(values, return_inverse=True)
    places = torch.arange(values.numel())
    first = places.new_full(distinct.shape, values.numel())
    return first.scatter_reduce_(0, inverse, places, "amin").sort().values


def _checked_fan_outs(num_neighbors: Sequence[int]) -> tuple[int, ...]:
    fan_outs = tuple(num_neighbors)
    is_whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= -1 for n in fan_outs)
    if not fan_outs or not is_whole:
        raise InputError(
            "num_neighbors must be whole numbers of at least 0, or -1 for all, one for each hop "
            f"(got {num_neighbors!r})"
        )
    return fan_outs


def _generator(seed: int | torch.Generator) -> torch.Generator:
    if isinstance(seed, torch.Generator):
        if seed.device.type != "cpu":
            raise InputError(f"seed must be a generator on the CPU (got one on {seed.device})")
        return seed
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed must be an integer of at least 0 or a generator (got {seed!r})")
    return torch.Generator().manual_seed(seed)


def _checked_num_nodes(data: Data) -> int:
    if not isinstance(data, Data):
        raise GraphError(f"data must be a torch_geometric.data.Data (got {type(data).__name__})")
    if data.get("edge_index") is None:
        raise GraphError(
            "data.edge_index is missing; PyG's loaders cannot take batches out of adj_t: "
            "use fastglt.data.forms.to_edge_index(data)"
        )
    num_nodes = int(data.num_nodes or 0)
    check_edges(data, num_nodes)
    return num_nodes


def _check_call(index: NodeSamplerInput | EdgeSamplerInput) -> None:
    if index.time is not None or index.input_type is not None:
        raise InputError("seeds must have no time and no type: only homogeneous, static graphs")
    if get_worker_info() is not None:
        raise InputError(WORKERS_REPEAT)
