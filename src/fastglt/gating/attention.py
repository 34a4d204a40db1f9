"""Gates of edges inside of attention, where removing an edge makes room for the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import GATConv, GATv2Conv, MessagePassing

ATTENTION = (GATConv, GATv2Conv)
"""Convs whose ``edge_update`` gives the softmax over the edges of a node."""


def has_attention(conv: MessagePassing) -> bool:
    """Whether :func:`attention_gate` can take a conv; a subclass may attend otherwise."""
    return type(conv) in ATTENTION and conv.flow == "source_to_target" and not conv.explain


@contextmanager
def attention_gate(
    convs: Iterable[MessagePassing], edge_index: Tensor, gate: Tensor
) -> Iterator[None]:
    """Multiply attention by a gate and share out anew what is left, within the context.

    With gates of 0 and 1 that is what a conv gives without the edges of gate 0; a node without any
    gate but 0 gets nothing. In training mode with dropout of attention, of which the conv keeps no
    record, attention is multiplied by the gate alone.

    Args:
        convs: Convs that :func:`has_attention`; they are left as they were found.
        edge_index: ``[2, num_edges]``, what the model is going to be called with; self-loops last.
        gate: ``[num_edges]``, differentiable; that of a self-loop must be 1.
    """
    proper = edge_index[0] != edge_index[1]

    def gated(conv: MessagePassing, given: tuple[Any, ...], attention: Tensor) -> Tensor:
        edges = given[0]
        factor = gate
        if edges.size(1) != gate.numel():  # the conv has replaced loops by one a node
            factor = gate[proper]
            factor = torch.cat([factor, factor.new_ones(edges.size(1) - factor.numel())])
        attention = attention * factor.unsqueeze(-1)
        if conv.training and conv.dropout > 0:
            return attention
        total = attention.new_zeros(_num_targets(given, edges), attention.size(1))
        total = total.index_add(0, edges[1], attention)
        return attention / torch.where(total > 0, total, 1.0)[edges[1]]

    handles = [conv.register_edge_update_forward_hook(gated) for conv in convs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _num_targets(given: tuple[Any, ...], edges: Tensor) -> int:
    size = given[1]
    if size is not None and size[1] is not None:
        return int(size[1])
    return int(edges[1].max()) + 1 if edges.numel() else 0
