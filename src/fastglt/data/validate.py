"""Check a graph before anything is computed on it, so that errors name the cause."""

from __future__ import annotations

from itertools import combinations
from typing import Any, Final

import torch
from torch import Tensor
from torch_geometric.data import Data, HeteroData

from fastglt.errors import GraphError, InputError

_MASKS: Final = ("train_mask", "val_mask", "test_mask")


def validate(data: Data, *, num_classes: int | None = None, require_masks: bool = True) -> int:
    """Check that a graph can be used for node classification; nothing is changed.

    Args:
        data: A graph with ``x`` ``[num_nodes, num_features]`` (float; dense or sparse CSR), long
            ``edge_index`` ``[2, num_edges]``, long ``y`` ``[num_nodes]``, optionally
            ``edge_weight`` ``[num_edges]``, and boolean ``train_mask``, ``val_mask`` and
            ``test_mask`` ``[num_nodes]``. Labels outside all masks are not looked at.
        num_classes: Number of classes; by default the largest label in a mask plus one.
        require_masks: Whether the three masks must be there. Those that are there are checked
            in any case; without any, all labels are looked at.

    Returns:
        The number of classes.

    Raises:
        GraphError: If something is missing, malformed or contradictory; the message names the
            key, the position and the value.
        InputError: If ``num_classes`` is below 1.
    """
    if num_classes is not None and num_classes < 1:
        raise InputError(f"num_classes must be at least 1 (got {num_classes})")
    _check_kind(data)
    num_nodes = _check_features(data)
    num_edges = check_edges(data, num_nodes)
    _check_edge_weight(data, num_edges)
    masks = _check_masks(data, num_nodes, require_masks)
    return _check_labels(data, num_nodes, masks, num_classes)


def _check_kind(data: Any) -> None:
    if isinstance(data, HeteroData):
        raise GraphError(
            "data must have one type of node and edge (got HeteroData); "
            "convert it with data.to_homogeneous()"
        )
    if not isinstance(data, Data):
        raise GraphError(f"data must be a torch_geometric.data.Data (got {type(data).__name__})")
    if data.get("adj_t") is not None:
        raise GraphError(
            "data must hold its edges in edge_index (got adj_t); "
            "leave out ToSparseTensor, or delete adj_t and set edge_index"
        )


def _tensor(data: Data, key: str) -> Tensor:
    value = data.get(key)
    if value is None:
        raise GraphError(f"data.{key} is missing")
    if not isinstance(value, Tensor):
        raise GraphError(f"data.{key} must be a torch.Tensor (got {type(value).__name__})")
    x = data.get("x")
    if isinstance(x, Tensor) and value.device != x.device:
        raise GraphError(
            f"data.{key} must be on the device of data.x, {x.device} (got {value.device})"
        )
    return value


def _check_shape(key: str, value: Tensor, shape: tuple[int, ...], hint: str = "") -> None:
    if tuple(value.shape) != shape:
        raise GraphError(
            f"data.{key} must have shape {list(shape)} (got {list(value.shape)}){hint}"
        )


def _check_features(data: Data) -> int:
    x = _tensor(data, "x")
    if x.dim() != 2:
        raise GraphError(f"data.x must have shape [num_nodes, num_features] (got {list(x.shape)})")
    if not x.is_floating_point():
        raise GraphError(f"data.x must be floating point (got {x.dtype}); use data.x.float()")
    if x.layout not in (torch.strided, torch.sparse_csr):
        raise GraphError(f"data.x must be dense or sparse CSR (got {x.layout})")
    num_nodes, num_features = x.shape
    if num_nodes == 0 or num_features == 0:
        raise GraphError(f"data.x must have at least one row and one column (got {list(x.shape)})")
    # Read from the store: data.num_nodes would guess it, with a warning.
    stated = data._store.get("num_nodes")
    if stated is not None and int(stated) != num_nodes:
        raise GraphError(f"data.x must have num_nodes = {int(stated)} rows (got {num_nodes})")
    _check_finite(x)
    return int(num_nodes)


def _check_finite(x: Tensor) -> None:
    values = x.values() if x.layout == torch.sparse_csr else x
    bad = (~torch.isfinite(values)).nonzero()
    if bad.numel() == 0:
        return
    value = values[tuple(bad[0])]
    if x.layout == torch.sparse_csr:
        row = (
            torch.searchsorted(x.crow_indices(), bad[0].to(x.crow_indices().dtype), right=True) - 1
        )
        position = (int(row), int(x.col_indices()[bad[0]]))
    else:
        position = (int(bad[0, 0]), int(bad[0, 1]))
    raise GraphError(
        f"data.x must be finite (got {float(value)} at row {position[0]}, column {position[1]})"
    )


def check_edges(data: Data, num_nodes: int) -> int:
    """Check ``edge_index`` alone and return the number of edges.

    Raises:
        GraphError: If it is missing, malformed or out of range.
    """
    edge_index = _tensor(data, "edge_index")
    if edge_index.layout != torch.strided:
        raise GraphError(f"data.edge_index must be dense (got {edge_index.layout})")
    if edge_index.dtype != torch.long:
        raise GraphError(f"data.edge_index must be torch.int64 (got {edge_index.dtype})")
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise GraphError(
            f"data.edge_index must have shape [2, num_edges] (got {list(edge_index.shape)})"
        )
    bad = ((edge_index < 0) | (edge_index >= num_nodes)).t().nonzero()
    if bad.numel():
        column, row = bad[0].tolist()
        raise GraphError(
            f"data.edge_index must be in [0, {num_nodes - 1}] for {num_nodes} nodes (got "
            f"{int(edge_index[row, column])} at row {row}, column {column})"
        )
    return int(edge_index.size(1))


def _check_edge_weight(data: Data, num_edges: int) -> None:
    if data.get("edge_weight") is None:
        return
    weight = _tensor(data, "edge_weight")
    _check_shape("edge_weight", weight, (num_edges,), "; one number per column of edge_index")
    if not weight.is_floating_point():
        raise GraphError(f"data.edge_weight must be floating point (got {weight.dtype})")
    bad = (~torch.isfinite(weight)).nonzero()
    if bad.numel():
        edge = int(bad[0])
        raise GraphError(
            f"data.edge_weight must be finite (got {float(weight[edge])} at edge {edge})"
        )


def _check_masks(data: Data, num_nodes: int, required: bool) -> dict[str, Tensor]:
    masks: dict[str, Tensor] = {}
    for key in _MASKS:
        if data.get(key) is None and (not required or key == "test_mask"):
            continue
        mask = _tensor(data, key)
        if mask.dtype != torch.bool:
            raise GraphError(f"data.{key} must be torch.bool (got {mask.dtype})")
        hint = f"; choose one split, e.g. data.{key}[:, 0]" if mask.dim() == 2 else ""
        _check_shape(key, mask, (num_nodes,), hint)
        if required and key != "test_mask" and not bool(mask.any()):
            raise GraphError(f"data.{key} must hold at least one node (got none)")
        masks[key] = mask
    for (key, mask), (other_key, other) in combinations(masks.items(), 2):
        both = (mask & other).nonzero()
        if both.numel():
            raise GraphError(
                f"data.{key} and data.{other_key} must not overlap "
                f"(got node {int(both[0])} in both, {both.size(0)} in all)"
            )
    return masks


def _check_labels(
    data: Data, num_nodes: int, masks: dict[str, Tensor], num_classes: int | None
) -> int:
    y = _tensor(data, "y")
    if y.dtype != torch.long:
        raise GraphError(f"data.y must be torch.int64 (got {y.dtype})")
    hint = "; use data.y.squeeze(-1)" if tuple(y.shape) == (num_nodes, 1) else ""
    _check_shape("y", y, (num_nodes,), hint)
    used = torch.ones_like(y, dtype=torch.bool)
    if masks:
        used = torch.stack(list(masks.values())).any(dim=0)
    labels = y[used]
    if num_classes is None:
        num_classes = int(labels.max()) + 1 if labels.numel() else 1
        num_classes = max(num_classes, 1)
    bad = (used & ((y < 0) | (y >= num_classes))).nonzero()
    if bad.numel():
        node = int(bad[0])
        raise GraphError(
            f"data.y must be in [0, {num_classes - 1}] for {num_classes} classes "
            f"(got {int(y[node])} at node {node})"
        )
    return num_classes
