"""Ways to compute an operation on one graph, and what each of them takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastglt._csr import ignore_csr_warnings
from fastglt.compile.edges import Graph, csr
from fastglt.compile.layout import Memory, is_reused
from fastglt.compile.plain import Attention
from fastglt.compile.program import Attend, Linear, cast


@dataclass(frozen=True)
class Cost:
    """What is computed and moved.

    Attributes:
        macs: Multiply-accumulates of products; what is elementwise is not counted.
        traffic: Bytes read and written, a gathered row counted each time that it is gathered.
    """

    macs: int
    traffic: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.macs + other.macs, self.traffic + other.traffic)


class Way:
    """A way to compute an operation.

    Attributes:
        name: What reports call it.
    """

    name = "elementwise"

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The operation's value."""
        raise NotImplementedError

    def cost(self, inputs: list[Tensor], out: Tensor) -> Cost:
        """What a call takes that gave ``out``: by default every number read or written once."""
        return Cost(0, sum(map(num_bytes_of, (*inputs, out))))


def num_bytes_of(tensor: Tensor) -> int:
    """Bytes of a dense or CSR tensor."""
    if tensor.layout == torch.strided:
        return tensor.numel() * tensor.element_size()
    parts = (tensor.values(), tensor.col_indices(), tensor.crow_indices())
    return sum(part.numel() * part.element_size() for part in parts)


def product_cost(matrix: Tensor, columns: int, size: int | None = None) -> Cost:
    """A CSR matrix times a dense one with so many columns: a row is gathered for each entry.

    Args:
        matrix: The matrix.
        columns: Of the other.
        size: Bytes of its numbers; those of the matrix by default.
    """
    size, entries = size or matrix.element_size(), matrix._nnz()
    rows = (entries + matrix.size(0)) * columns
    return Cost(entries * columns, num_bytes_of(matrix) + rows * size)


def sparse_entries(weight: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Index ``[2, n]``, values and shape of what is not 0 in a matrix, by rows."""
    index = weight.nonzero().t()
    return index, weight[index[0], index[1]], (weight.size(0), weight.size(1))


def spmm(matrix: Tensor, x: Tensor, *, by_rows: bool) -> Tensor:
    """``matrix @ x``: by the kernel that torch has of its own, or by the library that it uses."""
    product: Tensor = torch.sparse.mm(matrix, x, "sum") if by_rows else matrix @ x
    return product


class DenseLinear(Way):
    """A dense product, of features made dense beforehand if they are given."""

    name = "dense"

    def __init__(self, op: Linear, memory: Memory, x: Tensor | None = None) -> None:
        self._memory = memory
        self._weight, self._bias = op.weight, op.bias
        self._x = x

    def __call__(self, *inputs: Tensor) -> Tensor:
        """``[num_nodes, out]``."""
        x = inputs[0] if self._x is None else self._x
        shape = (x.size(0), self._weight.size(0))
        if not is_reused(x, *shape):
            return F.linear(x, self._weight, self._bias)
        out = self._memory.new(x, *shape)
        if self._bias is None:
            return torch.mm(x, self._weight.t(), out=out)
        return torch.addmm(self._bias, x, self._weight.t(), out=out)

    def cost(self, inputs: list[Tensor], out: Tensor) -> Cost:
        """Every number once."""
        x = inputs[0] if self._x is None else self._x
        return Cost(
            x.size(0) * self._weight.numel(), sum(map(num_bytes_of, (x, self._weight, out)))
        )


class SparseFeatures(Way):
    """CSR features times dense weights."""

    def __init__(self, op: Linear, *, by_rows: bool) -> None:
        self._weight, self._bias = op.weight.t().contiguous(), op.bias
        self._by_rows = by_rows
        self.name = f"sparse features, {product_name(by_rows)}"

    def __call__(self, *inputs: Tensor) -> Tensor:
        """``[num_nodes, out]``."""
        out = spmm(inputs[0], self._weight, by_rows=self._by_rows)
        return out if self._bias is None else out.add_(self._bias)

    def cost(self, inputs: list[Tensor], out: Tensor) -> Cost:
        """A row of weights for each feature that is not 0."""
        return product_cost(inputs[0], out.size(1))


class SparseWeights(Way):
    """CSR weights times dense features, both transposed."""

    name = "sparse weights"

    def __init__(self, op: Linear) -> None:
        self._matrix, self._bias = csr(*sparse_entries(op.weight)), op.bias

    def __call__(self, *inputs: Tensor) -> Tensor:
        """``[num_nodes, out]``."""
        out = (self._matrix @ inputs[0].t()).t().contiguous()
        return out if self._bias is None else out.add_(self._bias)

    def cost(self, inputs: list[Tensor], out: Tensor) -> Cost:
        """A column of features for each weight, and both transpositions."""
        moved = 2 * sum(map(num_bytes_of, (inputs[0], out)))
        return product_cost(self._matrix, out.size(0)) + Cost(0, moved)


class NeighborSum(Way):
    """A weighted sum over neighbours as one product."""

    def __init__(self, matrix: Tensor, *, by_rows: bool) -> None:
        self._matrix, self._by_rows = matrix, by_rows
        self.name = product_name(by_rows)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """``[num_nodes, channels]``."""
        return spmm(self._matrix, inputs[0], by_rows=self._by_rows)

    def cost(self, inputs: list[Tensor], out: Tensor) -> Cost:
        """A row for each edge."""
        return product_cost(self._matrix, out.size(1))


class AttentionByHead(Way):
    """Attention as one product for each head, with nothing of the size edges x channels."""

    name = "products by head"

    def __init__(self, op: Attend, graph: Graph, dtype: torch.dtype) -> None:
        # Library products of a CPU know no lower precision.
        op = cast(op, torch.promote_types(dtype, torch.float32))
        graph = graph.with_loops() if op.loops else graph
        self._source, self._target = graph.edge_index
        self._shape = (graph.num_nodes, graph.num_nodes)
        self._pattern = graph.pattern(op.att_source.dtype)
        self._offsets = self._pattern.crow_indices().to(torch.int64)
        heads, head = torch.unique(op.head, return_inverse=True)
        by_head = F.one_hot(head, max(len(heads), 1)).to(op.att_source)
        self._by_source = by_head * op.att_source.unsqueeze(1)
        self._by_target = by_head * op.att_target.unsqueeze(1)
        summed = head[op.channels]
        self._parts = [op.channels[summed == one] for one in range(len(heads))]
        self._slope = op.slope

    def __call__(self, *inputs: Tensor) -> Tensor:
        """``[num_nodes, out]``."""
        given = inputs[0]
        x = given.to(self._by_source.dtype)
        by_source, by_target = x @ self._by_source, x @ self._by_target
        score = by_source.index_select(0, self._source)
        score = F.leaky_relu_(score.add_(by_target.index_select(0, self._target)), self._slope)
        largest = torch.segment_reduce(score, "max", offsets=self._offsets, axis=0, unsafe=True)
        largest = torch.where(largest.isfinite(), largest, 0.0)
        share = score.sub_(largest.index_select(0, self._target)).exp_().t().contiguous()
        starts, columns = self._pattern.crow_indices(), self._pattern.col_indices()
        out = []
        for head, channels in enumerate(self._parts):
            if not len(channels):
                continue
            with ignore_csr_warnings():
                matrix = torch.sparse_csr_tensor(
                    starts, columns, share[head], self._shape, check_invariants=False
                )
            # The last column sums the shares themselves.
            wide = torch.cat([x.index_select(1, channels), x.new_ones(x.size(0), 1)], dim=1)
            summed = matrix @ wide
            total = summed[:, -1:].clamp_(min=torch.finfo(x.dtype).tiny)
            out.append(summed[:, :-1] / total)
        return torch.cat(out, dim=1).to(given.dtype) if out else given.new_empty(x.size(0), 0)

    def cost(self, inputs: list[Tensor], out: Tensor) -> Cost:
        """Two products for the scores, four passes over them, and a product for each head."""
        x, edges = inputs[0], self._source.numel()
        heads = self._by_source.size(1)
        scores = 2 * x.size(0) * x.size(1) * heads
        moved = 2 * num_bytes_of(x) + x.element_size() * 8 * edges * heads
        result = Cost(scores, moved)
        for channels in self._parts:
            if len(channels):
                result = result + product_cost(self._pattern, len(channels) + 1)
        return result


class AttentionByEdge(Way):
    """Attention edge by edge, with values of the size edges x channels."""

    name = "edge by edge"

    def __init__(self, op: Attend, graph: Graph, dtype: torch.dtype) -> None:
        self._dtype = torch.promote_types(dtype, torch.float32)  # it adds up many shares
        self._attention, self._edge_index = Attention(cast(op, self._dtype)), graph.edge_index

    def __call__(self, *inputs: Tensor) -> Tensor:
        """``[num_nodes, out]``."""
        out: Tensor = self._attention(inputs[0].to(self._dtype), self._edge_index)
        return out.to(inputs[0].dtype)

    def cost(self, inputs: list[Tensor], out: Tensor) -> Cost:
        """Two products for the scores, and passes over edges: ten of scores, four of channels."""
        x, edges, heads = inputs[0], self._edge_index.size(1), self._attention.num_heads
        moved = 10 * heads + 4 * out.size(1)
        scores = 2 * x.size(0) * x.size(1)
        return Cost(scores + edges * out.size(1), x.element_size() * edges * moved)


class Chain(Way):
    """An operation and what follows it number by number."""

    def __init__(self, head: Way, tail: list[Way], memory: Memory) -> None:
        self.name = head.name
        self._head, self._tail, self._memory = head, tail, memory

    def __call__(self, *inputs: Tensor) -> Tensor:
        """``[num_nodes, channels]``."""
        value = self._head(*inputs)
        for way in self._tail:
            before, value = value, way(value)
            if before.data_ptr() != value.data_ptr():
                self._memory.give_back(before)
        return value

    def cost(self, inputs: list[Tensor], out: Tensor) -> Cost:
        """That of all."""
        value = self._head(*inputs)
        total = self._head.cost(inputs, value)
        for way in self._tail:
            before, value = value, way(value)
            total = total + way.cost([before], value)
        return total


class Elementwise(Way):
    """What works number by number or row by row."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function

    def __call__(self, *inputs: Tensor) -> Tensor:
        """``[num_nodes, channels]``."""
        return self._function(*inputs)


def product_name(by_rows: bool) -> str:
    """What :func:`spmm` is called in reports."""
    return "row by row" if by_rows else "library product"
