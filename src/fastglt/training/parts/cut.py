"""One part of a graph: which nodes and edges it has, and what they stand for."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from fastglt.errors import InputError
from fastglt.masks import counting_sort
from fastglt.training.field import Field
from fastglt.training.focus import rows_of_nodes
from fastglt.training.task import ADJACENCY


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
        """The same with some of its edges, ``[m]`` bool."""
        return replace(
            self,
            edges=None if self.edges is None else self.edges[stays],
            edge_index=self.edge_index[:, stays],
            inverse_share=self.inverse_share[stays],
        )


class SelfLoops:
    """The self-loops of a graph, which a part has of every node whose messages it has.

    Where sums are corrected, one that was drawn like other edges would weigh as many as it stands
    for, and one that was not would be added by GCN's normalisation: a node's own message would
    count more than once.

    Args:
        edge_index: ``[2, num_edges]``.
        is_loop: ``[num_edges]`` bool, which edges are loops.
        num_nodes: Nodes of the graph.
    """

    def __init__(self, edge_index: Tensor, is_loop: Tensor, num_nodes: int) -> None:
        self.others = (~is_loop).nonzero().view(-1)
        """``[m]`` int64, places of the other edges."""
        places = is_loop.nonzero().view(-1)
        starts, _, ordered = counting_sort(edge_index[0, places], num_nodes, places)
        self._starts, self._places = starts.long(), ordered.long()

    @classmethod
    def of(cls, data: Data) -> SelfLoops | None:
        """Those of a graph, ``None`` if it has none."""
        edge_index = data.edge_index.cpu()
        is_loop = edge_index[0] == edge_index[1]
        return cls(edge_index, is_loop, int(data.num_nodes)) if bool(is_loop.any()) else None

    def joined(self, cut: Cut) -> Cut:
        """A part without loops, and with them; none at its rim."""
        computed = (~cut.rim).nonzero().view(-1)
        start = self._starts[cut.nodes[computed]]
        count = self._starts[cut.nodes[computed] + 1] - start
        owner = torch.repeat_interleave(count)
        place = start[owner] + torch.arange(len(owner)) - (count.cumsum(0) - count)[owner]
        edges = None if cut.edges is None else torch.cat([cut.edges, self._places[place]])
        edge_index = torch.cat([cut.edge_index, computed[owner].expand(2, -1)], dim=1)
        share = torch.cat([cut.inverse_share, cut.inverse_share.new_ones(len(owner))])
        return replace(cut, edges=edges, edge_index=edge_index, inverse_share=share)


def in_degree(data: Data, stratum: Tensor | None = None) -> Tensor:
    """``[num_nodes, num_strata]`` int64, edges into each node, of each stratum if there are two."""
    target, num_strata = data.edge_index[1].cpu(), 1
    if stratum is not None:
        target, num_strata = 2 * target + stratum, 2
    degree = torch.bincount(target, minlength=num_strata * int(data.num_nodes))
    return degree.view(-1, num_strata)


def cut_of(batch: Data, degree: Tensor, stratum: Tensor | None = None) -> Cut:
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


def averaging_share(part: Data) -> Tensor:
    """``[num_edges]`` what edges of a part weigh in a mean over those into their target.

    With these factors the mean over the messages that were drawn estimates that over all: each
    counts by what it stands for, over the mean of that (Hajek, 1971). They are 1 where a node's
    edges were all drawn alike.
    """
    share, target = part.inverse_share, part.edge_index[1]
    total = share.new_zeros(int(part.num_nodes)).index_add_(0, target, share)
    count = torch.bincount(target, minlength=len(total))
    result: Tensor = share * (count / total.clamp_min(1))[target]
    return result


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
