"""Operations by kernels of our own, each with the shift and activation that follow it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastglt.compile.edges import Graph, csr
from fastglt.compile.layout import Memory
from fastglt.compile.native.library import (
    Ending,
    Narrow,
    Rows,
    attend,
    padded_heads,
    product,
    rows_of,
    sparse_linear,
    working,
)
from fastglt.compile.program import Attend, Linear, Map, Op, Rule, Scale
from fastglt.compile.ways import Cost, Way, num_bytes_of, product_cost, sparse_entries


def ending_of(bias: Tensor | None, tail: Sequence[Op]) -> tuple[Ending, int]:
    """What a kernel can do before it writes, and how many operations of ``tail`` that is.

    Args:
        bias: ``[channels]``, of the operation itself.
        tail: What follows it, number by number.
    """
    shift, slope, taken = bias, 1.0, 0
    for op in tail:
        if slope != 1:
            break
        if isinstance(op, Scale) and op.scale is None and op.shift is not None:
            shift = op.shift if shift is None else shift + op.shift
        elif isinstance(op, Map) and type(op.module) is nn.ReLU:
            slope = 0.0
        elif isinstance(op, Map) and type(op.module) is nn.LeakyReLU:
            slope = op.module.negative_slope
        else:
            break
        taken += 1
    return Ending(shift, slope), taken


def _in(ending: Ending, dtype: torch.dtype) -> Ending:
    """An ending for values of a precision."""
    shift = ending.shift
    return Ending(None if shift is None else shift.to(working(dtype)).contiguous(), ending.slope)


class NativeFeatures(Way):
    """CSR features times dense weights."""

    name = "sparse features, native"

    def __init__(self, op: Linear, x: Tensor, ending: Ending, memory: Memory) -> None:
        self._memory = memory
        self._weight = op.weight.t().to(x.dtype).contiguous()
        self._x, self._ending = Rows(x, x.dtype), _in(ending, x.dtype)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """``[num_nodes, out]``."""
        return product(self._x, self._weight, self._ending, self._memory)

    def cost(self, inputs: list[Tensor], out: Tensor) -> Cost:
        """A row of weights for each feature that is not 0."""
        return product_cost(inputs[0], out.size(1))


class NativeSum(Way):
    """A weighted sum over neighbours, ``block`` channels at a time, or all of them."""

    def __init__(
        self,
        rule: Rule,
        graph: Graph,
        dtype: torch.dtype,
        ending: Ending,
        memory: Memory,
        block: int | None = None,
    ) -> None:
        self._memory = memory
        self.name = "native" if block is None else f"native, {block} channels at a time"
        self._block = block
        self._rows, self._ending = rows_of(graph, rule, dtype), _in(ending, dtype)
        self._matrix = graph.adjacency(rule, working(dtype))

    def __call__(self, *inputs: Tensor) -> Tensor:
        """``[num_nodes, channels]``."""
        return product(self._rows, inputs[0], self._ending, self._memory, self._block)

    def cost(self, inputs: list[Tensor], out: Tensor) -> Cost:
        """A row for each edge."""
        return product_cost(self._matrix, out.size(1), out.element_size())


class NativeSumMap(Way):
    """A weighted sum over neighbours, its ending, and a linear map to few channels, row by row.

    Args:
        rule: How neighbours are weighted.
        graph: The edges.
        dtype: Of the values.
        endings: What is done with the sums, and with what the map gives.
        op: The map.
        memory: What the result is written to.
    """

    name = "native, with the map that follows"

    def __init__(
        self,
        rule: Rule,
        graph: Graph,
        dtype: torch.dtype,
        endings: tuple[Ending, Ending],
        op: Linear,
        memory: Memory,
    ) -> None:
        first, second = (_in(ending, dtype) for ending in endings)
        self._rows, self._ending, self._memory = rows_of(graph, rule, dtype), first, memory
        self._matrix = graph.adjacency(rule, working(dtype))
        self._map = Narrow(op.weight, second, dtype)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """``[num_nodes, out]``."""
        return product(self._rows, inputs[0], self._ending, self._memory, then=self._map)

    def cost(self, inputs: list[Tensor], out: Tensor) -> Cost:
        """A row for each edge, the map of each sum, and nothing written in between."""
        x = inputs[0]
        summed = product_cost(self._matrix, x.size(1), x.element_size())
        mapped = out.size(0) * x.size(1) * out.size(1)
        return summed + Cost(mapped, num_bytes_of(out) - num_bytes_of(x))


class NativeSparseWeights(Way):
    """Dense features times CSR weights, a tile of nodes at a time."""

    name = "sparse weights, native"

    def __init__(self, op: Linear, dtype: torch.dtype, ending: Ending, memory: Memory) -> None:
        self._memory = memory
        self._matrix = csr(*sparse_entries(op.weight))
        self._rows, self._ending = Rows(self._matrix, dtype), _in(ending, dtype)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """``[num_nodes, out]``."""
        return sparse_linear(self._rows, inputs[0], self._ending, self._memory)

    def cost(self, inputs: list[Tensor], out: Tensor) -> Cost:
        """A multiplication for each weight and node; every number moved once."""
        moved = sum(map(num_bytes_of, (inputs[0], self._matrix, out)))
        return Cost(self._matrix._nnz() * out.size(0), moved)


class NativeAttention(Way):
    """Attention, softmax and sum, target by target."""

    name = "native"

    def __init__(
        self, op: Attend, graph: Graph, dtype: torch.dtype, ending: Ending, memory: Memory
    ) -> None:
        self._memory = memory
        graph = graph.with_loops() if op.loops else graph
        precision = working(dtype)
        pattern = graph.pattern(precision)
        self._rows = graph.once((Rows, dtype), lambda: Rows(pattern, dtype))
        self._slope, self._ending = op.slope, _in(ending, dtype)
        heads, head = torch.unique(op.head, return_inverse=True)
        by_head = F.one_hot(head, padded_heads(len(heads))).to(precision)
        self._terms = torch.cat(
            [by_head * att.to(precision).unsqueeze(1) for att in (op.att_source, op.att_target)],
            dim=1,
        ).to(dtype)
        self._head_of = head[op.channels].to(torch.int32)
        count = torch.bincount(head[op.channels], minlength=by_head.size(1))
        self._segments = F.pad(count.cumsum(0), (1, 0)).to(torch.int32)
        whole = len(op.channels) == len(op.head)
        self._channels, self._precision = None if whole else op.channels, precision

    def __call__(self, *inputs: Tensor) -> Tensor:
        """``[num_nodes, out]``."""
        x = inputs[0]
        scores = (x @ self._terms).to(self._precision)
        summed = x if self._channels is None else x.index_select(1, self._channels)
        return attend(
            self._rows,
            scores,
            self._segments,
            self._head_of,
            self._slope,
            summed,
            self._ending,
            self._memory,
        )

    def cost(self, inputs: list[Tensor], out: Tensor) -> Cost:
        """The scores of all nodes, then for each edge a score a head and a row."""
        x, edges = inputs[0], self._rows.num_entries
        heads = self._terms.size(1) // 2
        size = x.element_size()
        scored = num_bytes_of(x) + 2 * x.size(0) * heads * 2 * size
        rows = (edges * (heads + out.size(1)) + out.numel()) * size
        index = 4 * (edges + x.size(0) + 1)
        return Cost(2 * x.size(0) * x.size(1) * heads + edges * out.size(1), scored + rows + index)
