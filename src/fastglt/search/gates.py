"""Trained gates of edges, as factors on a view of the graph."""

from __future__ import annotations

from torch import Tensor
from torch_geometric.data import Data

from fastglt.masks import EdgeGroups
from fastglt.training.inputs import at_places


def edge_factors(groups: EdgeGroups, gate: Tensor | None, data: Data) -> Tensor | None:
    """``[num_edges]`` factors of a view's edges, or ``None`` where gates are units.

    Args:
        groups: The graph's edge groups.
        gate: ``[num_groups]``.
        data: A view of a graph that came through
            :func:`fastglt.training.inputs.with_edge_places`.
    """
    if gate is None:
        return None
    return at_places(groups.to_edges(gate, 1.0), data)
