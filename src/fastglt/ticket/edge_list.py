"""How the edge list of the searched graph is stored: as small as its order allows.

``full`` is the list as it is. ``half`` has only the edges with source <= target, for a list that
is sorted by source and target, without duplicates, and that holds both directions of every edge,
as PyG makes them: the other direction is added and sorted in again. Node ids are int32 where they
fit. A list that came back wrong would not have the digest in the ticket's graph fingerprint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from fastglt.ticket.edge_match import stable_order

if TYPE_CHECKING:
    from torch import Tensor

Form = Literal["full", "half"]


def smallest_integers(edge_index: Tensor, num_nodes: int) -> Tensor:
    """A copy of an edge list on the CPU, as int32 where node ids fit into it, else int64.

    Args:
        edge_index: ``[2, num_edges]``, any integer type.
        num_nodes: Number of nodes.

    Returns:
        Tensor: ``[2, num_edges]``.
    """
    dtype = torch.int32 if num_nodes <= 2**31 else torch.int64
    return edge_index.detach().as_subclass(torch.Tensor).to("cpu", dtype, copy=True).contiguous()


def pack_edge_list(edge_list: Tensor) -> tuple[Form, Tensor]:
    """The smaller form in which an edge list can be stored.

    Args:
        edge_list: ``[2, num_edges]``.

    Returns:
        tuple[Form, Tensor]: The form and the edges ``[2, num_stored]``.
    """
    half = edge_list[:, edge_list[0] <= edge_list[1]].contiguous()
    unfolded = unpack_edge_list("half", half)
    if unfolded.shape == edge_list.shape and torch.equal(unfolded, edge_list):
        return "half", half
    return "full", edge_list.contiguous()


def unpack_edge_list(form: Form, stored: Tensor) -> Tensor:
    """Undo :func:`pack_edge_list`.

    Args:
        form: The form.
        stored: ``[2, num_stored]``.

    Returns:
        Tensor: ``[2, num_edges]``.
    """
    if form == "full":
        return stored
    other = stored.flip(0)[:, stored[0] != stored[1]]
    both = torch.cat([stored, other], dim=1)
    return both[:, stable_order(both)]
