"""Which convs average their messages and which sum them, found out by sending each twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from fastglt.gating.attention import has_attention
from fastglt.gating.checks import evaluating

_HALF = 0.5
"""A sum of messages grows by all of itself if each comes twice, a mean by nothing; degree scalers
(PNA) and means that a node's own message is part of are nearer to the mean."""


@torch.no_grad()
def averaging_convs(
    model: nn.Module, call: Callable[[nn.Module], object], weighted: bool
) -> list[bool]:
    """Whether each conv of the model aggregates about the same if every message comes twice.

    So it is where messages are averaged, also by weights that are computed from all of them, or
    where the largest is taken. Where weights reach the convs, what these make of them before
    ``propagate``, such as GCN's normalisation, is taken as it is; elsewhere it is computed anew.
    ``GATConv`` and ``GATv2Conv``, whose gates share attention out anew, count as sums then.

    Args:
        model: The model, initialised; it is left as it was found.
        call: Calls it with a plain ``edge_index``.
        weighted: Whether a factor on ``edge_weight`` reaches every conv of the model.

    Returns:
        One a call of a conv, in order; none of convs that cannot be called with edges twice, whose
        messages vanish or that are not called.
    """
    found: list[bool] = []
    handles = []
    for conv in model.modules():
        if isinstance(conv, MessagePassing):
            handles += _Twice(conv, found, weighted).handles
    try:
        with evaluating(model):
            call(model)
    finally:
        for handle in handles:
            handle.remove()
    return found


class _Twice:
    """Calls a conv, or its ``propagate``, once more with every edge twice."""

    def __init__(self, conv: MessagePassing, found: list[bool], weighted: bool) -> None:
        self._found, self._is_again = found, False
        self._aggregates: list[Any] = []
        self.handles = [conv.register_aggregate_forward_hook(self._keep)]
        if weighted:
            self.handles.append(conv.register_propagate_forward_hook(self._propagate))
        else:
            self.handles.append(conv.register_forward_hook(self._call, with_kwargs=True))

    def _keep(self, conv: MessagePassing, given: object, out: object) -> None:
        self._aggregates.append(out)

    def _propagate(self, conv: MessagePassing, given: tuple[Any, ...], out: object) -> None:
        edge_index, size, arguments = given
        num_edges = _num_edges(edge_index)
        # What is lifted to edges belongs to nodes.
        of_nodes = {name[:-2] for name in conv._user_args if name[-2:] in ("_i", "_j")}
        twice = {
            name: value if name in of_nodes else _twice(value, num_edges)
            for name, value in arguments.items()
        }
        self._compare(
            lambda: conv.propagate(_twice(edge_index, num_edges), size=tuple(size), **twice)
        )

    def _call(
        self, conv: MessagePassing, args: tuple[Any, ...], named: Mapping[str, Any], out: object
    ) -> None:
        if has_attention(conv):
            self._aggregates.clear()
            self._found.append(False)
            return
        given = [*args, *named.values()]
        num_edges = next((n for n in map(_num_edges, given) if n is not None), None)
        twice = {name: _twice(value, num_edges) for name, value in named.items()}
        self._compare(lambda: conv(*(_twice(value, num_edges) for value in args), **twice))

    def _compare(self, again: Callable[[], object]) -> None:
        if self._is_again:
            return
        before, self._aggregates = self._aggregates, []
        self._is_again = True
        try:
            with suppress(Exception):  # a conv may raise anything where an edge comes twice
                again()
                self._judge(before, self._aggregates)
        finally:
            self._is_again, self._aggregates = False, []

    def _judge(self, before: list[Any], after: list[Any]) -> None:
        pairs = list(zip(before, after, strict=True))
        size = sum(float(first.norm()) for first, _ in pairs)
        if size > 0:
            change = sum(float((second - first).norm()) for first, second in pairs)
            self._found.append(change < _HALF * size)


def _num_edges(value: object) -> int | None:
    """Of an ``edge_index``; ``None`` of anything else."""
    if type(value) is not Tensor or value.dim() != 2 or value.size(0) != 2:
        return None
    return value.size(1) if value.dtype == torch.int64 else None


def _twice(value: Any, num_edges: int | None) -> Any:
    """What belongs to edges, by its size, with each of these twice, one after the other."""
    if isinstance(value, tuple | list):
        return type(value)(_twice(part, num_edges) for part in value)
    if isinstance(value, Tensor):
        for dim, size in enumerate(value.shape):
            if size == num_edges:
                return value.repeat_interleave(2, dim)
    return value
