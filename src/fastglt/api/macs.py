"""Multiply-accumulates of a model on a graph, in affordable time."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.cost import count_macs
from fastglt.gating import keep_edges
from fastglt.training.task import ADJACENCY, Task

LARGE = 200_000
"""Above so many edges the cost is measured on a few edges and extrapolated, if it is affine."""
SAMPLES = (0, 512, 2048)


def macs_on(
    model: nn.Module, task: Task, data: Data, weight_mask: Mapping[str, Tensor] | None = None
) -> int:
    """Multiply-accumulates of one inference, see :func:`fastglt.cost.count_macs`.

    Counting materialises every message. On a large graph it is done with none and with a few of
    the edges (and all self-loops and nodes): a conv costs the same for every edge, so three counts
    on one line give the exact total. A model that is not affine in its edges is counted in full.

    Args:
        model: The model; it is not changed.
        task: Calls the model.
        data: The graph, with the edges that are executed.
        weight_mask: Kept weights by parameter name.
    """
    data = _plain(data)
    proper = (data.edge_index[0] != data.edge_index[1]).nonzero().view(-1)
    if len(proper) <= LARGE:
        return _count(model, task, data, weight_mask)
    none, few, more = (
        _count(model, task, _with_first(data, proper, number), weight_mask) for number in SAMPLES
    )
    slope, remainder = divmod(few - none, SAMPLES[1])
    if remainder or more != none + slope * SAMPLES[2]:
        return _count(model, task, data, weight_mask)
    return none + slope * len(proper)


def _count(
    model: nn.Module, task: Task, data: Data, weight_mask: Mapping[str, Tensor] | None
) -> int:
    return count_macs(model, lambda called: task.forward(called, data), weight_mask)


def _with_first(data: Data, proper: Tensor, number: int) -> Data:
    """``data`` without its proper edges but the first ``number``."""
    keep = torch.ones(data.num_edges, dtype=torch.bool, device=proper.device)
    keep[proper[number:]] = False
    return keep_edges(data, keep)


def _plain(data: Data) -> Data:
    """``data`` with edges instead of an adjacency matrix, and features that go with them."""
    if ADJACENCY not in data:
        return data
    result = copy.copy(data)
    result.x = data[ADJACENCY].x_on_edges(data.get("x"))
    del result[ADJACENCY]
    return result
