"""Which ways there are to compute an operation and what follows it, on one graph."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from fastglt.compile.edges import Graph
from fastglt.compile.layout import CACHE_BYTES, Memory
from fastglt.compile.native.library import MAPPED, Ending, product, rows_of, supports
from fastglt.compile.native.ways import (
    NativeAttention,
    NativeFeatures,
    NativeSparseWeights,
    NativeSum,
    NativeSumMap,
    ending_of,
)
from fastglt.compile.plain import Joined, Picked, RowNorm, in_place
from fastglt.compile.program import (
    Aggregate,
    Attend,
    Join,
    LayerNorm,
    Linear,
    Map,
    Op,
    Pick,
    Program,
    Rule,
    Scale,
    SoftmaxMean,
    cast,
    sources,
)
from fastglt.compile.softmax import SoftmaxProducts
from fastglt.compile.ways import (
    AttentionByEdge,
    AttentionByHead,
    Chain,
    DenseLinear,
    Elementwise,
    NeighborSum,
    SparseFeatures,
    SparseWeights,
    Way,
    product_name,
    spmm,
)

SPARSE_WEIGHTS = 0.2
"""Share of a weight matrix that may be other than 0 for a sparse product to be tried."""

BLOCKS = (32, 48, 64)
"""Channels at a time that are tried for sums over neighbours."""
NARROW = 32
"""Outputs of a linear map up to which our kernel for sparse weights is tried on dense ones too."""


@dataclass(frozen=True)
class Group:
    """An operation and what works on its value number by number, before anybody else reads it.

    Attributes:
        position: Of the first operation in its program.
        head: The first operation.
        tail: Those that follow.
    """

    position: int
    head: Op
    tail: tuple[Op, ...] = ()

    @property
    def value(self) -> int:
        """The value that it writes."""
        return self.position + 1 + len(self.tail)


def groups(program: Program) -> list[Group]:
    """The operations of a program, in order, with what can be done at once put together."""
    readers = Counter(source for op in program.ops for source in sources(op))
    found: list[Group] = []
    for position, op in enumerate(program.ops):
        alone = position > 0 and sources(op) == (position,) and readers[position] == 1
        if alone and (isinstance(op, (Scale, Map)) or _is_mapped(found[-1], op)):
            found[-1] = replace(found[-1], tail=(*found[-1].tail, op))
        else:
            found.append(Group(position, op))
    return found


def _is_mapped(group: Group, op: Op) -> bool:
    """Whether an operation is a narrow map of sums over neighbours, which can be done at once."""
    narrow = isinstance(op, Linear) and 0 < op.weight.size(0) <= MAPPED
    summed = isinstance(group.head, Aggregate)
    return narrow and summed and not any(isinstance(other, Linear) for other in group.tail)


@dataclass(frozen=True)
class Place:
    """Where operations are computed.

    Attributes:
        graph: The edges.
        native: Whether there are kernels of our own.
        memory: What large values are written to.
    """

    graph: Graph
    native: bool
    memory: Memory = field(default_factory=Memory)


def ways(group: Group, place: Place, inputs: list[Tensor], *, overwrites: bool) -> list[Way]:
    """The ways to compute a group that are worth a try.

    Args:
        group: The operations.
        place: Where they are computed.
        inputs: What the first of them reads: ``[num_nodes, channels]`` each, the features maybe as
            CSR.
        overwrites: Whether the first of them may be overwritten.
    """
    dtype = inputs[0].dtype
    memory = place.memory
    tail = [_following(cast(op, dtype), memory) for op in group.tail]
    heads = _heads(cast(group.head, dtype), place, inputs, overwrites)
    found = [_then(head, tail, memory) for head in heads]
    if place.native and supports(inputs[0], place.graph.edge_index.size(1)):
        found += _native(group, place, inputs, tail)
        found += _sum_and_map(group, place, inputs[0], tail)
    return found


def _then(head: Way, tail: list[Way], memory: Memory) -> Way:
    return Chain(head, tail, memory) if tail else head


def _following(op: Op, memory: Memory) -> Way:
    """What is done with a value that nobody else reads."""
    return DenseLinear(op, memory) if isinstance(op, Linear) else _elementwise(op, overwrites=True)


def _sum_and_map(group: Group, place: Place, x: Tensor, tail: list[Way]) -> list[Way]:
    """A sum over neighbours and the map after it by one kernel, if there is nothing between."""
    ending, taken = ending_of(None, group.tail)
    rest = group.tail[taken:]
    if not isinstance(group.head, Aggregate) or not rest or not isinstance(rest[0], Linear):
        return []
    if not x.size(1):  # nothing is summed, and the kernel would write nothing
        return []
    op = rest[0]
    after, more = ending_of(op.bias, rest[1:])
    way = NativeSumMap(group.head.rule, place.graph, x.dtype, (ending, after), op, place.memory)
    return [_then(way, tail[taken + 1 + more :], place.memory)]


def _heads(op: Op, place: Place, inputs: list[Tensor], overwrites: bool) -> list[Way]:
    """An operation alone, by torch."""
    graph, memory = place.graph, place.memory
    if isinstance(op, Linear):
        x = inputs[0]
        if x.layout != torch.strided:
            sparse = [SparseFeatures(op, by_rows=by_rows) for by_rows in _products(x)]
            return [*sparse, DenseLinear(op, memory, x.to_dense())]
        dense = DenseLinear(op, memory)
        library = _few(op.weight) and _has_library(inputs[0])
        return [dense, SparseWeights(op)] if library else [dense]
    if isinstance(op, Aggregate):
        matrix = graph.adjacency(op.rule, inputs[0].dtype)
        return [NeighborSum(matrix, by_rows=by_rows) for by_rows in _products(matrix)]
    if isinstance(op, Attend):
        # A GPU sums over edges about as fast as it multiplies, and launches less for that.
        on_cpu = inputs[0].device.type == "cpu"
        kinds = [AttentionByHead] if on_cpu else [AttentionByHead, AttentionByEdge]
        return [kind(op, graph, inputs[0].dtype) for kind in kinds]
    if isinstance(op, SoftmaxMean):
        matrix = _counts(graph, inputs[0].dtype)
        return [
            SoftmaxProducts(
                op, graph, matrix, product_name(by_rows), partial(spmm, matrix, by_rows=by_rows)
            )
            for by_rows in _products(matrix)
        ]
    return [_elementwise(op, overwrites)]


def _native(group: Group, place: Place, inputs: list[Tensor], tail: list[Way]) -> list[Way]:
    """An operation by kernels of our own, with as much of what follows as they can do."""
    graph, memory = place.graph, place.memory
    op, x = group.head, inputs[0]
    ending, taken = ending_of(op.bias if isinstance(op, Linear) else None, group.tail)
    found: list[Way] = []
    if isinstance(op, Linear) and x.layout != torch.strided:
        found = [NativeFeatures(op, x, ending, memory)]
    elif isinstance(op, Linear) and (_few(op.weight) or 0 < op.weight.size(0) <= NARROW):
        found = [NativeSparseWeights(op, x.dtype, ending, memory)]
    elif isinstance(op, Aggregate):
        blocks = [size for size in BLOCKS if size < x.size(1)] if x.nbytes > CACHE_BYTES else []
        found = [
            NativeSum(op.rule, graph, x.dtype, ending, memory, size) for size in (None, *blocks)
        ]
    elif isinstance(op, Attend):
        found = [NativeAttention(op, graph, x.dtype, ending, memory)]
    elif isinstance(op, SoftmaxMean):
        matrix, taken = _counts(graph, x.dtype), 0
        rows = rows_of(graph, Rule("sum"), matrix.dtype)
        by_us = partial(product, rows, ending=Ending(), memory=memory)
        found = [SoftmaxProducts(op, graph, matrix, "native", by_us, memory)]
    return [_then(way, tail[taken:], memory) for way in found]


def _counts(graph: Graph, dtype: torch.dtype) -> Tensor:
    """CSR ``[num_nodes, num_nodes]``, how many edges there are, in single precision at least."""
    return graph.adjacency(Rule("sum"), torch.promote_types(dtype, torch.float32))


def _few(weight: Tensor) -> bool:
    entries = int(weight.count_nonzero())
    return 0 < entries <= SPARSE_WEIGHTS * weight.numel()


def _has_library(x: Tensor) -> bool:
    """Whether a library has sparse products of such values: on a CPU not of low precisions."""
    return x.device.type != "cpu" or x.element_size() >= 4


def _products(matrix: Tensor) -> tuple[bool, ...]:
    """Whether products go row by row, in the ways that there are; only CPUs have the choice."""
    if matrix.device.type != "cpu":
        return (False,)
    return (False, True) if _has_library(matrix) else (True,)


def _elementwise(op: Op, overwrites: bool) -> Way:
    if isinstance(op, Scale):
        return Elementwise(_scaling(op.scale, op.shift, overwrites))
    if isinstance(op, Map):
        return Elementwise(in_place(copy.deepcopy(op.module), overwrites))
    if isinstance(op, LayerNorm):
        return Elementwise(RowNorm(op))
    if isinstance(op, Pick):
        return Elementwise(Picked(op))
    assert isinstance(op, Join)
    return Elementwise(_added if op.how == "sum" and overwrites else Joined(op.how))


def _added(first: Tensor, *others: Tensor) -> Tensor:
    for other in others:
        first.add_(other)
    return first


def _scaling(
    scale: Tensor | None, shift: Tensor | None, overwrites: bool
) -> Callable[[Tensor], Tensor]:
    def scaled(x: Tensor) -> Tensor:
        if scale is not None:
            x = x.mul_(scale) if overwrites else x * scale
            return x if shift is None else x.add_(shift)
        if shift is None:
            return x
        return x.add_(shift) if overwrites else x + shift

    return scaled
