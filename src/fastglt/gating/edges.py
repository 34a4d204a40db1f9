"""Hard edge masks: a shorter ``edge_index`` and nothing else, which is exact for every conv."""

from __future__ import annotations

import copy
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
        The kept edges in their given order with everything that belongs to them, and an explicit
        ``num_nodes``. Nodes keep their numbers, also those that become isolated. Supervision
        edges (``edge_label_index`` and the like) stay whole.

    Raises:
        GraphError: ``data`` also holds an adjacency matrix, which would keep every edge.
    """
    for name in ("adj", "adj_t"):
        if data.get(name) is not None:
            raise GraphError(
                f"data.{name} must not stand beside edge_index: a model that reads it would see "
                "the pruned edges; delete it"
            )
    result = copy.copy(data)
    for name in data.edge_attrs():
        if "edge_label" not in name:  # supervision, which may happen to have num_edges entries
            value = data[name]
            result[name] = _selected(value, keep, data.__cat_dim__(name, value))
    result.num_nodes = data.num_nodes
    return result


def _selected(value: Any, keep: Tensor, dim: int) -> Any:
    if isinstance(value, np.ndarray):
        return np.compress(keep.cpu().numpy(), value, axis=dim)
    if isinstance(value, torch.Tensor):
        keep = keep.to(value.device)
    return select(value, keep, dim)
