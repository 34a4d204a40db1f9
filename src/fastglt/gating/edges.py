"""Hard edge masks: a shorter ``edge_index`` and nothing else, which is exact for every conv."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import select

from fastglt.errors import GraphError


def keep_edges(data: Data, keep: Tensor) -> Data:
    """A copy of a graph with some of its edges; the tensors of the nodes are shared.

    Args:
        data: The graph; it is not changed.
        keep: ``[num_edges]`` bool.

    Returns:
        The kept edges in their given order with everything that belongs to them
        (``edge_weight``, ``edge_attr``, ...), and an explicit ``num_nodes``. Nodes keep their
        numbers, also those that become isolated. Supervision edges (``edge_label_index`` and the
        like) stay whole. A :class:`~torch_geometric.data.Batch` that loses edges can no longer be
        taken apart into its graphs.

    Raises:
        GraphError: ``data`` also holds an adjacency matrix, which would keep every edge.
    """
    for name in ("adj", "adj_t"):
        if data.get(name) is not None:
            raise GraphError(
                f"data.{name} must not stand beside edge_index: a model that reads it would see "
                "the pruned edges; delete it"
            )
    result = _with_edge_values(data, lambda value, dim: _masked(value, keep, dim))
    if not bool(keep.all()):
        # Where each graph of a batch begins: PyG says so when it is missed, and would err with it.
        vars(result).pop("_slice_dict", None)
    return result


def reorder_edges(data: Data, order: Tensor) -> Data:
    """A copy of a graph with its edges in another order, and with them all that belongs to them.

    Args:
        data: The graph; it is not changed.
        order: ``[num_edges]`` int64, a permutation: the new column ``i`` is the old ``order[i]``.

    Returns:
        The same graph to every conv. Supervision edges (``edge_label_index`` and the like) keep
        their order.
    """
    return _with_edge_values(data, lambda value, dim: _permuted(value, order, dim))


def _with_edge_values(data: Data, change: Callable[[Any, int], Any]) -> Data:
    result = copy.copy(data)
    for name in data.edge_attrs():
        if "edge_label" not in name:  # supervision, which may happen to have num_edges entries
            value = data[name]
            result[name] = change(value, data.__cat_dim__(name, value))
    result.num_nodes = data.num_nodes
    return result


def _masked(value: Any, keep: Tensor, dim: int) -> Any:
    if isinstance(value, np.ndarray):
        return np.compress(keep.cpu().numpy(), value, axis=dim)
    return select(value, _beside(value, keep), dim)


def _permuted(value: Any, order: Tensor, dim: int) -> Any:
    if isinstance(value, np.ndarray):
        return np.take(value, order.cpu().numpy(), axis=dim)
    return select(value, _beside(value, order), dim)


def _beside(value: Any, index: Tensor) -> Tensor:
    return index.to(value.device) if isinstance(value, torch.Tensor) else index
