"""The forms in which PyG takes edges: a plain tensor, an ``EdgeIndex``, or a CSR ``adj_t``.

Inside fastglt there is one form, a plain ``edge_index``; what goes back to the user's model has
the form that the user's graph had.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.edge_index import EdgeIndex
from torch_geometric.utils import to_torch_csr_tensor

from fastglt._csr import ignore_csr_warnings
from fastglt.errors import GraphError


def to_edge_index(data: Data) -> Data:
    """The same graph with its edges in a plain ``edge_index``.

    Args:
        data: A graph with ``edge_index`` (a tensor or an ``EdgeIndex``) or with a square sparse
            CSR ``adj_t``, whose rows are targets and whose columns are sources. It is left as it
            is.

    Returns:
        ``data`` itself if its ``edge_index`` is a plain tensor; else a shallow copy with a plain
        ``edge_index`` ``[2, num_edges]`` and an explicit ``num_nodes``. Edges of an
        ``EdgeIndex`` keep their order; those of ``adj_t`` are sorted by target, then as stored.
        Values of ``adj_t`` become ``edge_weight`` unless all of them are 1.

    Raises:
        GraphError: If there is neither or both, or ``adj_t`` is not a square CSR matrix.
    """
    adj_t = checked_adj_t(data)
    if adj_t is None:
        edge_index = data.get("edge_index")
        if edge_index is None:
            raise GraphError("data.edge_index is missing")
        if not isinstance(edge_index, EdgeIndex):
            return data
        result = copy.copy(data)
        # Read first: without the EdgeIndex the number of nodes may no longer be known.
        result.num_nodes = data.num_nodes
        result.edge_index = edge_index.as_tensor()
        return result
    result = copy.copy(data)
    del result["adj_t"]
    result.edge_index = _edges_of(adj_t)
    values = adj_t.values()
    if not bool((values == 1).all()):
        result.edge_weight = values
    result.num_nodes = adj_t.size(0)
    return result


def like(pruned: Data, original: Data) -> Data:
    """Give a graph back in the form that another one has.

    Args:
        pruned: A graph with a plain ``edge_index``, as :func:`to_edge_index` makes it, of which
            edges may have been taken. It is left as it is.
        original: The graph whose form is wanted.

    Returns:
        A shallow copy of ``pruned`` with ``adj_t`` or an ``EdgeIndex`` with the sparse size,
        sort order and undirectedness of the original; ``pruned`` itself if the original has a
        plain ``edge_index``.

    Raises:
        GraphError: If ``pruned`` has edge attributes that ``adj_t`` cannot hold, its edges are no
            longer sorted as the ``EdgeIndex`` said, or a pair lost one direction only.
    """
    if original.get("adj_t") is not None:
        return _like_adj_t(pruned, original.adj_t)
    edge_index = original.get("edge_index")
    if isinstance(edge_index, EdgeIndex):
        return _like_edge_index(pruned, edge_index)
    return pruned


def message_edges(data: Data) -> Tensor:
    """The message-passing edges as a plain tensor ``[2, num_edges]``, whatever their form."""
    adj_t = data.get("adj_t")
    if adj_t is not None:
        return _edges_of(adj_t)
    edge_index: Tensor = data.edge_index
    return edge_index.as_tensor() if isinstance(edge_index, EdgeIndex) else edge_index


def checked_adj_t(data: Data) -> Tensor | None:
    """The adjacency matrix under ``adj_t``, or None where there is none.

    Raises:
        GraphError: If it is not a square sparse CSR tensor of torch, or stands beside
            ``edge_index``.
    """
    adj_t: Any = data.get("adj_t")
    if adj_t is None:
        return None
    if data.get("edge_index") is not None:
        raise GraphError("data must hold its edges once (got edge_index and adj_t); delete one")
    for key in ("edge_weight", "edge_attr"):
        if data.get(key) is not None:
            raise GraphError(
                f"data.{key} must be absent beside adj_t, whose values are the edge weights; "
                "delete it, or use edge_index"
            )
    if type(adj_t).__module__.partition(".")[0] == "torch_sparse":
        raise GraphError(
            "data.adj_t must be a native sparse tensor of torch (got torch_sparse.SparseTensor); "
            "use ToSparseTensor(layout=torch.sparse_csr) or adj_t.to_torch_sparse_csr_tensor()"
        )
    if not isinstance(adj_t, Tensor):
        raise GraphError(f"data.adj_t must be a torch.Tensor (got {type(adj_t).__name__})")
    if adj_t.layout != torch.sparse_csr:
        raise GraphError(
            f"data.adj_t must be sparse CSR (got {adj_t.layout}); use data.adj_t.to_sparse_csr()"
        )
    if adj_t.dim() != 2 or adj_t.size(0) != adj_t.size(1):
        raise GraphError(
            f"data.adj_t must have shape [num_nodes, num_nodes] (got {list(adj_t.shape)})"
        )
    return adj_t


def _edges_of(adj_t: Tensor) -> Tensor:
    pointers, source = adj_t.crow_indices(), adj_t.col_indices()
    target = torch.repeat_interleave(pointers.diff())
    return torch.stack([source, target]).long()


def _like_adj_t(pruned: Data, adj_t: Tensor) -> Data:
    size = adj_t.size(0)
    if pruned.get("edge_attr") is not None:
        raise GraphError("data.edge_attr must be absent beside adj_t, which cannot hold it")
    weight = pruned.get("edge_weight")
    if weight is None:
        weight = adj_t.values().new_ones(pruned.edge_index.size(1))
    result = copy.copy(pruned)
    for key in ("edge_index", "edge_weight"):
        if key in result:
            del result[key]
    # In the order that CSR wants, parallel edges kept apart as they were.
    order = pruned.edge_index[1].argsort(stable=True)
    rows = pruned.edge_index.flip(0)[:, order]
    with ignore_csr_warnings():
        result.adj_t = to_torch_csr_tensor(
            rows, weight[order], size=(size, size), is_coalesced=True
        )
    result.num_nodes = size
    return result


def _like_edge_index(pruned: Data, original: EdgeIndex) -> Data:
    result = copy.copy(pruned)
    result.edge_index = EdgeIndex(
        pruned.edge_index.contiguous(),
        sparse_size=original.sparse_size(),
        sort_order=original.sort_order,
        is_undirected=original.is_undirected,
    )
    try:
        result.edge_index.validate()
    except ValueError as error:
        raise GraphError(f"data.edge_index no longer fits its EdgeIndex: {error}") from error
    return result
