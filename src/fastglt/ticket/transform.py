"""A ticket's edges as a PyG transform."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_geometric.transforms import BaseTransform

if TYPE_CHECKING:
    from torch_geometric.data import Data

    from fastglt.ticket.edges import Match, TicketEdges


class PruneEdges(BaseTransform):  # type: ignore[misc]  # PyG is untyped
    """Keeps the edges of a graph that a ticket keeps; made by :meth:`fastglt.Ticket.transform`.

    It works in ``Compose``, as a dataset's ``transform`` and on a graph that is then given to
    ``NodeLoader`` or ``NeighborLoader``. It holds the edges of the ticket only, no weights.
    Where the ticket has learned edge weights, they are multiplied onto ``edge_weight``, which the
    model must take in every conv.

    Args:
        edges: The ticket's edges.
        match: How edges are recognised, see :meth:`fastglt.Ticket.apply`.
    """

    def __init__(self, edges: TicketEdges, match: Match = "edges") -> None:
        self._edges = edges
        self._match = match

    def forward(self, data: Data) -> Data:
        """A copy of the graph with the kept edges; the tensors of the nodes are shared.

        Args:
            data: The graph searched, or with ``match="node_id"`` one that it has become.

        Returns:
            Data: No node is renumbered or dropped; edge-level attributes go with their edges.

        Raises:
            TicketMismatchError: Another graph; the message names the difference.
            GraphError: ``data`` is no homogeneous graph with edges.
        """
        return self._edges.prune(data, self._match)

    def __repr__(self) -> str:
        keep = self._edges.keep
        kept = f"edges {int(keep.sum())}/{keep.numel()} kept"
        return f"{type(self).__name__}({kept}, match={self._match!r})"
