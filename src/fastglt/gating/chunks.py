"""Messages in chunks, so that a pass over a large graph does not hold one for each edge.

A conv aggregates each target's messages on their own, also by a softmax. So the edges into some
of the targets give these targets exactly what all edges give them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from fastglt._csr import ignore_csr_warnings
from fastglt.gating.csr import csr_messages, has_message_hooks, supports_csr_messages
from fastglt.masks import counting_sort

LARGEST_CHUNK = 1 << 20
"""Messages that are held at a time, unless there are more nodes."""


@contextmanager
def lean_inference(model: nn.Module, edge_index: Tensor) -> Iterator[None]:
    """Let a model compute its outputs layer by layer without a message an edge, in the context.

    Outputs are those without it, up to rounding. Convs whose messages can be sparse products
    become these (:func:`csr_messages`); others take the edges in chunks of their targets. What is
    held at a time are the hidden channels of all nodes and a few numbers an edge.

    Args:
        model: The model; it is left as it was found.
        edge_index: ``[2, num_edges]``, what it is going to be called with.
    """
    if edge_index.size(1) <= LARGEST_CHUNK:
        yield
    elif supports_csr_messages(model):
        with csr_messages(model, edge_index), ignore_csr_warnings():
            yield
    else:
        with chunked_messages(model):
            yield


@contextmanager
def chunked_messages(model: nn.Module, largest: int = LARGEST_CHUNK) -> Iterator[None]:
    """Let the convs of a model take the edges in chunks of their targets, within the context.

    Args:
        model: The model, without message hooks; others, and edges that are no plain tensor, are
            taken as always. It is left as it was found.
        largest: Edges in a chunk, unless there are more nodes or more edges into one target.
    """
    convs = [
        module
        for module in model.modules()
        if isinstance(module, MessagePassing)
        and not has_message_hooks(module)
        and module.explain is None
        and not {"propagate", "edge_updater"} & vars(module).keys()
    ]
    for conv in convs:
        vars(conv)["propagate"] = functools.partial(_propagate, conv, largest)
        vars(conv)["edge_updater"] = functools.partial(_update_edges, conv, largest)
    try:
        yield
    finally:
        for conv in convs:
            del vars(conv)["propagate"], vars(conv)["edge_updater"]


def _propagate(
    conv: MessagePassing, largest: int, edge_index: Any, size: Any = None, **arguments: Any
) -> Tensor:
    whole: Callable[..., Tensor] = functools.partial(type(conv).propagate, conv)
    chunks = _Chunks.of(conv, largest, edge_index, size, arguments)
    if chunks is None:
        return whole(edge_index, size=size, **arguments)
    out: Tensor | None = None
    for first, last, edges in chunks:
        part = whole(edge_index[:, edges], size=chunks.size, **chunks.only(edges))
        if out is None:
            out = torch.empty_like(part)
        out[first:last] = part[first:last]
    assert out is not None
    return out


def _update_edges(
    conv: MessagePassing, largest: int, edge_index: Any, size: Any = None, **arguments: Any
) -> Tensor:
    whole: Callable[..., Tensor] = functools.partial(type(conv).edge_updater, conv)
    chunks = _Chunks.of(conv, largest, edge_index, size, arguments)
    if chunks is None:
        return whole(edge_index, size=size, **arguments)
    out: Tensor | None = None
    for _, _, edges in chunks:
        part = whole(edge_index[:, edges], size=chunks.size, **chunks.only(edges))
        if out is None:
            out = part.new_empty(edge_index.size(1), *part.shape[1:])
        out[edges] = part
    assert out is not None
    return out


class _Chunks:
    """Ranges of targets, and the edges into them."""

    def __init__(
        self, edge_index: Tensor, target: int, size: tuple[int, int], arguments: dict[str, Any]
    ) -> None:
        self.size = size
        self._arguments = arguments
        self._num_edges = edge_index.size(1)
        starts, position, _ = counting_sort(edge_index[target], size[target], edge_index[target])
        self._starts, self._position = starts.long(), position
        self._bounds: list[int] = []

    @classmethod
    def of(
        cls,
        conv: MessagePassing,
        largest: int,
        edge_index: Any,
        size: Any,
        arguments: dict[str, Any],
    ) -> _Chunks | None:
        """``None`` where the edges are taken as always."""
        if type(edge_index) is not Tensor or edge_index.layout != torch.strided:
            return None
        known = _num_nodes(conv, size, arguments)
        if known is None:
            return None
        target = 1 if conv.flow == "source_to_target" else 0
        largest = max(largest, *known)
        if edge_index.size(1) <= largest:
            return None
        chunks = cls(edge_index, target, known, arguments)
        chunks._bounds = chunks._cut(largest)
        return chunks

    def only(self, edges: Tensor) -> dict[str, Any]:
        """What the conv hands on, for some of the edges."""
        return {name: self._of(value, edges) for name, value in self._arguments.items()}

    def __iter__(self) -> Iterator[tuple[int, int, Tensor]]:
        """First target, last target (exclusive) and the places of the edges into these."""
        for first, last in zip(self._bounds[:-1], self._bounds[1:], strict=True):
            begin, end = int(self._starts[first]), int(self._starts[last])
            yield first, last, self._position[begin:end].long()

    def _of(self, value: Any, edges: Tensor) -> Any:
        # There are more edges than nodes, so nothing of the nodes can be taken for theirs.
        is_of_edges = isinstance(value, Tensor) and value.dim() > 0
        if is_of_edges and value.size(0) == self._num_edges:
            return value.index_select(0, edges)
        return value

    def _cut(self, largest: int) -> list[int]:
        """Bounds of ranges of targets with at most so many edges, if there is more than one."""
        bounds, num_targets = [0], len(self._starts) - 1
        while bounds[-1] < num_targets:
            room = self._starts[bounds[-1]] + largest
            last = int(torch.searchsorted(self._starts, room, right=True)) - 1
            bounds.append(min(max(last, bounds[-1] + 1), num_targets))
        return bounds


def _num_nodes(
    conv: MessagePassing, size: Any, arguments: dict[str, Any]
) -> tuple[int, int] | None:
    """Numbers of sources and targets, as PyG would find them."""
    if size is not None and None not in size:
        return int(size[0]), int(size[1])
    found: list[int | None] = [None, None]
    for value in arguments.values():
        ends = value if isinstance(value, tuple) and len(value) == 2 else None
        if ends is None:
            continue
        for place, end in enumerate(ends):
            if isinstance(end, Tensor):
                found[place] = end.size(conv.node_dim)
    lifted = {name[:-2] for name in conv._user_args if name[-2:] in ("_i", "_j")}
    for name in lifted & arguments.keys():
        value = arguments[name]
        if isinstance(value, Tensor):
            count = value.size(conv.node_dim)
            found = [count if number is None else number for number in found]
    sources, targets = found
    if sources is None and targets is None:
        return None
    count = sources if targets is None else targets
    assert count is not None
    return (count if sources is None else sources), count
