"""Finding the edges of a searched graph in one that has changed since, by their end nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fastglt.masks import stable_sort

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class EdgeMatch:
    """What becomes of the edges of a graph that has changed since the search.

    Attributes:
        origin: ``[num_edges]`` int64, the position of the same edge in the searched graph, or -1
            for a new edge. Of several edges with the same ends the first is the first, and so on.
        keep: ``[num_edges]`` bool, ``True`` = kept.
        num_gone: Edges of the searched graph that this one does not have any more.
    """

    origin: Tensor
    keep: Tensor
    num_gone: int

    @property
    def num_kept(self) -> int:
        """Edges of the searched graph that are here and that the ticket keeps."""
        return int((self.keep & (self.origin >= 0)).sum())

    @property
    def num_pruned(self) -> int:
        """Edges of the searched graph that are here and that the ticket prunes."""
        return int((~self.keep & (self.origin >= 0)).sum())

    @property
    def num_new_kept(self) -> int:
        """New edges that the ticket's edge rule keeps."""
        return int((self.keep & (self.origin < 0)).sum())

    @property
    def num_new_dropped(self) -> int:
        """New edges that the ticket's edge rule drops."""
        return int((~self.keep & (self.origin < 0)).sum())

    def __repr__(self) -> str:
        names = ("num_kept", "num_pruned", "num_new_kept", "num_new_dropped", "num_gone")
        return f"EdgeMatch({', '.join(f'{name}={getattr(self, name)}' for name in names)})"


def find_edges(searched: Tensor, edge_index: Tensor) -> Tensor:
    """Find each edge of a graph in another one, by its end nodes.

    The k-th edge from u to v is the k-th edge from u to v. Runs in O(E log E).

    Args:
        searched: ``[2, num_searched]``, where to look.
        edge_index: ``[2, num_edges]``, what to look for, on the same device.

    Returns:
        Tensor: ``[num_edges]`` int64, positions in ``searched``, or -1 where there is none.
    """
    both = torch.cat([searched.long(), edge_index.long()], dim=1)
    num_searched = searched.size(1)
    order = stable_order(both)
    # Sorted, equal edges are neighbours, and those of the searched graph come first among them.
    equal, size = _runs(both[:, order])
    start = size.cumsum(0) - size
    is_searched = order < num_searched
    in_searched = torch.zeros_like(size).index_add_(0, equal, is_searched.long())
    rank = torch.arange(order.numel(), device=order.device) - start[equal] - in_searched[equal]
    partner = (start[equal] + rank).clamp(0)
    found = torch.where(rank < in_searched[equal], order[partner], -1)
    origin = torch.empty_like(order)
    origin[order] = found
    return origin[num_searched:]


def stable_order(edges: Tensor) -> Tensor:
    """The stable permutation ``[num_edges]`` that sorts edges by source, then by target."""
    bound = int(edges.max()) + 1 if edges.numel() else 0
    _, by_target = stable_sort(edges[1].long(), bound)
    _, by_source = stable_sort(edges[0, by_target].long(), bound)
    return by_target[by_source]


def _runs(edges: Tensor) -> tuple[Tensor, Tensor]:
    """Number the runs of equal columns: the run of each column, and the length of each run."""
    first = torch.ones(edges.size(1), dtype=torch.bool, device=edges.device)
    first[1:] = (edges[:, 1:] != edges[:, :-1]).any(dim=0)
    run = first.cumsum(0) - 1
    return run, torch.bincount(run)
