"""What a ticket says about edges, and how it acts on a graph."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch_geometric

from fastglt.data.forms import like, to_edge_index
from fastglt.data.validate import check_edges
from fastglt.errors import GraphError, InputError, TicketMismatchError
from fastglt.gating import keep_edges
from fastglt.ticket.edge_match import EdgeMatch, find_edges
from fastglt.ticket.edge_rule import kept_by_rule
from fastglt.ticket.fingerprint import compare_features, compare_graphs, graph_fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from torch_geometric.data import Data

Match = Literal["edges", "node_id"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TicketEdges:
    """The part of a ticket that concerns edges.

    Attributes:
        graph: Fingerprint of the searched graph.
        keep: ``[num_edges]`` bool.
        weight: ``[num_edges_kept]`` learned weights, or None.
        edge_list: ``[2, num_edges]``, the searched graph, or None where it was left out.
        rule: What becomes of new edges.
    """

    graph: Mapping[str, Any]
    keep: Tensor
    weight: Tensor | None
    edge_list: Tensor | None
    rule: dict[str, Any]

    def prune(self, data: Data, match: Match) -> Data:
        """A copy of a graph with the kept edges only; the tensors of the nodes are shared.

        Args:
            data: The graph searched (``match="edges"``) or one that it has become.
            match: How edges are recognised, see :meth:`fastglt.ticket.Ticket.apply`.

        Returns:
            Data: In the form given (``edge_index``, ``EdgeIndex`` or CSR ``adj_t``), with learned
            weights multiplied onto ``edge_weight``, where there are any.

        Raises:
            InputError: ``match`` is neither of the two.
            TicketMismatchError: Not that graph, or the ticket holds no edge list.
            GraphError: ``data`` is no homogeneous graph with edges.
        """
        if match not in ("edges", "node_id"):
            raise InputError(f'match must be "edges" or "node_id" (got {match!r})')
        graph = plain_graph(data)
        if match == "edges":
            self._check_same_graph(graph)
            return like(self._pruned(graph, self.keep, self.weight), data)
        found = self._found(graph)
        _warn_of_other_numbering(found.num_gone, self.keep.numel())
        _LOG.info("%r", found)
        return like(self._pruned(graph, found.keep, self._weights_of(found)), data)

    def find(self, data: Data) -> EdgeMatch:
        """Recognise the edges of a graph that has changed since the search by their end nodes.

        Args:
            data: The graph as it is now.

        Returns:
            EdgeMatch: On the device of the edges and in their order; those of a CSR ``adj_t`` are
            ordered by target.

        Raises:
            TicketMismatchError: Nodes are missing, or the ticket holds no edge list.
            GraphError: ``data`` is no homogeneous graph with int64 edges.

        Warns:
            UserWarning: Most of the ticket's edges are gone, as they are after renumbering.
        """
        found = self._found(plain_graph(data))
        _warn_of_other_numbering(found.num_gone, self.keep.numel())
        return found

    def _found(self, graph: Data) -> EdgeMatch:
        edge_index, searched = graph.edge_index, self._searched_edges(graph)
        origin = find_edges(searched.to(edge_index.device), edge_index)
        known = origin >= 0
        keep = kept_by_rule(self.rule, graph, ~known)
        keep[known] = self.keep.to(edge_index.device)[origin[known]]
        num_gone = self.keep.numel() - int(known.sum())
        return EdgeMatch(origin, keep, num_gone)

    def _searched_edges(self, data: Data) -> Tensor:
        if self.edge_list is None:
            raise TicketMismatchError(
                'match="node_id" needs the edge list of the searched graph, which this ticket '
                "does not hold (it prunes no edge or was saved with edge_list=False); use "
                'match="edges" on the graph that was searched, or apply_weights(model)'
            )
        if data.num_nodes < self.graph["num_nodes"]:
            raise TicketMismatchError(
                f"the ticket's graph has {self.graph['num_nodes']} nodes, this one only "
                f"{data.num_nodes}; nodes must keep their numbers, so leave removed ones in "
                "without edges"
            )
        check_edges(data, data.num_nodes)
        return self.edge_list

    def _check_same_graph(self, data: Data) -> None:
        this = graph_fingerprint(data.edge_index, data.num_nodes, data.x)
        if difference := compare_graphs(self.graph, this):
            raise TicketMismatchError(
                f"this ticket belongs to another graph: {difference}; pass the graph that was "
                'searched, with the same transforms, or use match="node_id" if it has changed'
            )
        if difference := compare_features(self.graph, this):
            warnings.warn(
                f"{difference}; the edges agree, so the ticket is applied, but its metrics were "
                "measured with the other features",
                UserWarning,
                stacklevel=4,
            )

    def _weights_of(self, found: EdgeMatch) -> Tensor | None:
        """One weight per kept edge of the graph at hand: the learned one, or 1 for a new edge."""
        if self.weight is None:
            return None
        origin = found.origin[found.keep].to(self.weight.device)
        slot = self.keep.to(self.weight.device).cumsum(0) - 1
        weight = torch.ones_like(origin, dtype=self.weight.dtype)
        weight[origin >= 0] = self.weight[slot[origin[origin >= 0]]]
        return weight

    def _pruned(self, data: Data, keep: Tensor, weight: Tensor | None) -> Data:
        result = keep_edges(data, keep)
        if weight is not None:
            result.edge_weight = _multiplied(result, weight)
        return result


def plain_graph(data: Data) -> Data:
    """The graph with its edges in a plain ``edge_index``.

    Args:
        data: The graph, in any form of :mod:`fastglt.data.forms`.

    Returns:
        Data: ``data`` itself or a shallow copy.

    Raises:
        GraphError: ``data`` is no homogeneous graph with edges.
    """
    if not isinstance(data, torch_geometric.data.Data):
        raise GraphError(
            "data must be a torch_geometric.data.Data with an edge_index or adj_t "
            f"(got {type(data).__qualname__})"
        )
    return to_edge_index(data)


def _multiplied(data: Data, weight: Tensor) -> Tensor:
    """Learned weights times those that the graph has, in the type that the graph computes with."""
    weight = weight.to(data.edge_index.device)
    given = data.get("edge_weight")
    if given is None:
        in_type_of = data.x if data.x is not None and data.x.is_floating_point() else weight
        return weight.to(in_type_of.dtype)
    factor = weight.to(given.dtype) if given.is_floating_point() else weight
    product: Tensor = given * factor.reshape(-1, *[1] * (given.dim() - 1))
    return product


def _warn_of_other_numbering(num_gone: int, num_searched: int) -> None:
    if 2 * num_gone > num_searched:
        warnings.warn(
            f"{num_gone} of the ticket's {num_searched} edges are gone; check that the nodes have "
            "the numbers that they had in the search",
            UserWarning,
            stacklevel=4,
        )
