"""Check a graph before anything is computed on it, so that errors name the cause."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch_geometric.data import Data, HeteroData, TemporalData
from torch_geometric.edge_index import EdgeIndex

from fastglt.data import _check_labels
from fastglt.data._checks import check_finite, check_pairs, check_shape, tensor
from fastglt.data.entry import (
    GRAPH_CLASSIFICATION,
    LINK_PREDICTION,
    MULTILABEL,
    NODE_CLASSIFICATION,
    TASKS,
)
from fastglt.data.forms import checked_adj_t
from fastglt.errors import GraphError, UnknownNameError

_REFUSED: Final = {
    HeteroData: "data must have one type of node and edge (got HeteroData); "
    "convert it with data.to_homogeneous()",
    TemporalData: "data must be a static graph (got TemporalData); "
    "make a Data of the events up to one point in time",
}


def validate(data: Data, task: str = NODE_CLASSIFICATION) -> int:
    """Check that a graph can be used for a task; nothing is changed.

    Args:
        data: A graph with

            * ``x`` ``[num_nodes, num_features]`` (float; dense or sparse CSR), or none but an
              explicit ``num_nodes``;
            * long ``edge_index`` ``[2, num_edges]`` (a tensor or an ``EdgeIndex``), optionally
              with float ``edge_weight`` ``[num_edges]`` and ``edge_attr``
              ``[num_edges, num_edge_features]``; or square sparse CSR ``adj_t``;
            * for node tasks ``y`` (long ``[num_nodes]``, or for several labels float
              ``[num_nodes, num_labels]`` of 0, 1 and NaN) and boolean ``train_mask``,
              ``val_mask`` and ``test_mask`` ``[num_nodes]``. Labels outside all masks are not
              looked at;
            * for link prediction the keys of :mod:`fastglt.data.links`;
            * for graph classification, as a ``Batch``, ``y`` (long ``[num_graphs]``, or float
              ``[num_graphs, num_labels]``) and the masks ``[num_graphs]``; ``x`` may hold
              categories as integers.
        task: ``"node-classification"``, ``"multilabel-node-classification"``,
            ``"link-prediction"`` or ``"graph-classification"``.

    Returns:
        The number of classes, which is the largest label in a mask plus one; for several labels
        the columns of ``y``; 0 for link prediction.

    Raises:
        GraphError: If something is missing, malformed or contradictory; the message names the
            key, the position and the value.
        UnknownNameError: If there is no such task.
    """
    if task not in TASKS:
        raise UnknownNameError("task", task, TASKS)
    num_nodes = check_graph(data, integers=task == GRAPH_CLASSIFICATION)
    if task == LINK_PREDICTION:
        return _check_labels.check_links(data, num_nodes)
    if task == GRAPH_CLASSIFICATION:
        num_graphs = _check_labels.check_batch(data)
        masks = _check_labels.check_masks(data, num_graphs, "graph")
        if isinstance(y := data.get("y"), torch.Tensor) and y.dim() == 2:
            return _check_labels.check_multilabel(data, num_graphs, masks, "graph")
        return _check_labels.check_classes(data, num_graphs, masks, "graph")
    masks = _check_labels.check_masks(data, num_nodes)
    if task == MULTILABEL:
        return _check_labels.check_multilabel(data, num_nodes, masks)
    return _check_labels.check_classes(data, num_nodes, masks)


def check_graph(data: Data, *, integers: bool = False) -> int:
    """Check what every task needs, features and edges, and return the number of nodes.

    Args:
        data: A graph as :func:`validate` describes it, whatever its labels are.
        integers: Whether features may be integers.

    Raises:
        GraphError: If something is missing, malformed or contradictory.
    """
    _check_kind(data)
    num_nodes = _check_features(data, integers=integers)
    num_edges = check_edges(data, num_nodes)
    _check_edge_weight(data, num_edges)
    _check_edge_attr(data, num_edges)
    return num_nodes


def check_edges(data: Data, num_nodes: int) -> int:
    """Check ``edge_index`` or ``adj_t`` alone and return the number of edges.

    Raises:
        GraphError: If it is missing, malformed or out of range.
    """
    adj_t = checked_adj_t(data)
    if adj_t is None:
        edge_index = tensor(data, "edge_index")
        plain = edge_index.as_tensor() if isinstance(edge_index, EdgeIndex) else edge_index
        check_pairs("edge_index", plain, num_nodes, "num_edges")
        return int(plain.size(1))
    check_shape("adj_t", adj_t, (num_nodes, num_nodes))
    values = adj_t.values()
    if not values.is_floating_point() or values.dim() != 1:
        raise GraphError(
            f"data.adj_t must have one floating point number per edge (got {values.dtype} of "
            f"shape {list(values.shape)})"
        )
    check_finite("adj_t", values, "stored value")
    return int(values.numel())


def _check_kind(data: Any) -> None:
    for kind, message in _REFUSED.items():
        if isinstance(data, kind):
            raise GraphError(message)
    if not isinstance(data, Data):
        raise GraphError(f"data must be a torch_geometric.data.Data (got {type(data).__name__})")


def _check_features(data: Data, integers: bool) -> int:
    # Read from the store: data.num_nodes would guess it, with a warning.
    stated = data._store.get("num_nodes")
    if data.get("x") is None:
        if stated is None:
            raise GraphError(
                "data.x is missing; a graph without features must state data.num_nodes"
            )
        return _checked_num_nodes(stated)
    x = tensor(data, "x")
    if x.dim() != 2:
        raise GraphError(f"data.x must have shape [num_nodes, num_features] (got {list(x.shape)})")
    if not (x.is_floating_point() or (integers and x.dtype == torch.long)):
        raise GraphError(f"data.x must be floating point (got {x.dtype}); use data.x.float()")
    if x.layout not in (torch.strided, torch.sparse_csr):
        raise GraphError(f"data.x must be dense or sparse CSR (got {x.layout})")
    num_nodes, num_features = x.shape
    if num_nodes == 0 or num_features == 0:
        raise GraphError(f"data.x must have at least one row and one column (got {list(x.shape)})")
    if stated is not None and int(stated) != num_nodes:
        raise GraphError(f"data.x must have num_nodes = {int(stated)} rows (got {num_nodes})")
    if x.layout == torch.sparse_csr:
        _check_sparse_finite(x)
    else:
        check_finite("x", x, "row")
    return int(num_nodes)


def _checked_num_nodes(stated: Any) -> int:
    if int(stated) < 1:
        raise GraphError(f"data.num_nodes must be at least 1 (got {int(stated)})")
    return int(stated)


def _check_sparse_finite(x: torch.Tensor) -> None:
    bad = (~torch.isfinite(x.values())).nonzero()
    if bad.numel() == 0:
        return
    pointers = x.crow_indices()
    row = int(torch.searchsorted(pointers, bad[0].to(pointers.dtype), right=True)) - 1
    raise GraphError(
        f"data.x must be finite (got {float(x.values()[bad[0]])} at row {row}, "
        f"column {int(x.col_indices()[bad[0]])})"
    )


def _check_edge_weight(data: Data, num_edges: int) -> None:
    if data.get("edge_weight") is None:
        return
    weight = tensor(data, "edge_weight")
    check_shape("edge_weight", weight, (num_edges,), "; one number per column of edge_index")
    if not weight.is_floating_point():
        raise GraphError(f"data.edge_weight must be floating point (got {weight.dtype})")
    check_finite("edge_weight", weight, "edge")


def _check_edge_attr(data: Data, num_edges: int) -> None:
    if data.get("edge_attr") is None:
        return
    attr = tensor(data, "edge_attr")
    if attr.dim() != 2 or attr.size(0) != num_edges or attr.size(1) == 0:
        hint = "; use data.edge_attr.unsqueeze(-1)" if tuple(attr.shape) == (num_edges,) else ""
        raise GraphError(
            f"data.edge_attr must have shape [{num_edges}, num_edge_features] "
            f"(got {list(attr.shape)}){hint}"
        )
    if attr.is_floating_point():
        check_finite("edge_attr", attr, "edge")
