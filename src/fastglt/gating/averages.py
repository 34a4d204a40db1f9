"""Whether a conv averages its messages or sums them, found out by sending each of them twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from fastglt.gating.checks import evaluating

_HALF = 0.5
"""A sum of messages grows by all of itself if each comes twice, a mean by nothing; degree scalers
(PNA) are nearer to the mean."""


@torch.no_grad()
def averages_messages(model: nn.Module, call: Callable[[nn.Module], object]) -> bool:
    """Whether a conv of the model gives about the same if every message comes twice.

    So it is where messages are averaged, also by weights that are computed from all of them while
    messages are made (``TransformerConv``), or the largest is taken. Attention that
    ``edge_updater`` computes before (``GATConv``) is taken as it is: its messages are summed.

    Args:
        model: The model, initialised; it is left as it was found.
        call: Calls it with a plain ``edge_index``.
    """
    found: list[float] = []
    handles = []
    for conv in model.modules():
        if isinstance(conv, MessagePassing):
            handles += _Twice(conv, found).handles
    try:
        with evaluating(model):
            call(model)
    finally:
        for handle in handles:
            handle.remove()
    return any(change < _HALF for change in found)


class _Twice:
    """Repeats what a conv aggregates with every edge twice."""

    def __init__(self, conv: MessagePassing, found: list[float]) -> None:
        self._found, self._is_again = found, False
        self._aggregate = torch.empty(0)
        self.handles = [
            conv.register_aggregate_forward_hook(self._keep),
            conv.register_propagate_forward_hook(self._again),
        ]

    def _keep(self, conv: MessagePassing, given: object, out: Tensor) -> None:
        self._aggregate = out

    def _again(self, conv: MessagePassing, given: tuple[Any, ...], out: object) -> None:
        edge_index, size, arguments = given
        first = self._aggregate
        if self._is_again or first.numel() == 0 or type(edge_index) is not Tensor:
            return
        num_edges = edge_index.size(1)
        twice = {
            name: torch.cat([value, value]) if _is_of_edges(conv, name, value, num_edges) else value
            for name, value in arguments.items()
        }
        self._is_again = True
        try:
            conv.propagate(torch.cat([edge_index, edge_index], dim=1), size=tuple(size), **twice)
        finally:
            self._is_again = False
        change, before = (self._aggregate - first).norm(), first.norm()
        if float(before) > 0:
            self._found.append(float(change / before))


def _is_of_edges(conv: MessagePassing, name: str, value: object, num_edges: int) -> bool:
    """Whether something that a conv hands on has a row an edge: what it has for nodes it names."""
    is_of_nodes = {f"{name}_i", f"{name}_j"} & set(conv._user_args)
    is_tensor = isinstance(value, Tensor) and value.dim() > 0 and value.size(0) == num_edges
    return is_tensor and not is_of_nodes
