"""Ways to compute an operation on one graph, and what each of them takes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastglt.compile.edges import Graph, csr
from fastglt.compile.plain import Joined, Picked, RowNorm, SoftmaxMeans, in_place
from fastglt.compile.program import (
    Aggregate,
    Attend,
    Join,
    LayerNorm,
    Linear,
    Map,
    Op,
    Pick,
    Rule,
    Scale,
    SoftmaxMean,
)
from fastglt.models._gen_conv import max_range, score_bounds

SPARSE_WEIGHTS = 0.2
"""Share of a weight matrix that may be other than 0 for a sparse product to be tried."""


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


def product_cost(matrix: Tensor, columns: int) -> Cost:
    """A CSR matrix times a dense one with so many columns: a row is gathered for each entry."""
    size, entries = matrix.element_size(), matrix._nnz()
    rows = (entries + matrix.size(0)) * columns
    return Cost(entries * columns, num_bytes_of(matrix) + rows * size)


def spmm(matrix: Tensor, x: Tensor, *, by_rows: bool) -> Tensor:
    """``matrix @ x``: by the kernel that torch has of its own, or by the library that it uses."""
    product: Tensor = torch.sparse.mm(matrix, x, "sum") if by_rows else matrix @ x
    return product


class DenseLinear(Way):
    """A dense product, of features made dense beforehand if they are given."""

    name = "dense"

    def __init__(self, op: Linear, x: Tensor | None = None) -> None:
        self._weight, self._bias = op.weight, op.bias
        self._x = x

    def __call__(self, *inputs: Tensor) -> Tensor:
        """``[num_nodes, out]``."""
        return F.linear(inputs[0] if self._x is None else self._x, self._weight, self._bias)

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
        self.name = f"sparse features, {_product_name(by_rows)}"

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
        entries = op.weight.nonzero().t()
        shape = (op.weight.size(0), op.weight.size(1))
        self._matrix, self._bias = csr(entries, op.weight[entries[0], entries[1]], shape), op.bias

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
        self.name = _product_name(by_rows)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """``[num_nodes, channels]``."""
        return spmm(self._matrix, inputs[0], by_rows=self._by_rows)

    def cost(self, inputs: list[Tensor], out: Tensor) -> Cost:
        """A row for each edge."""
        return product_cost(self._matrix, out.size(1))


class AttentionByHead(Way):
    """Attention as one product for each head, with nothing of the size edges x channels."""

    name = "products by head"

    def __init__(self, op: Attend, graph: Graph) -> None:
        graph = graph.with_loops() if op.loops else graph
        self._source, self._target = graph.edge_index
        self._shape = (graph.num_nodes, graph.num_nodes)
        ones = op.att_source.new_ones(self._source.numel())
        self._pattern = csr(graph.edge_index.flip(0), ones, self._shape)
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
        x = inputs[0]
        by_source, by_target = x @ self._by_source, x @ self._by_target
        score = by_source.index_select(0, self._source)
        score = F.leaky_relu_(score.add_(by_target.index_select(0, self._target)), self._slope)
        largest = torch.segment_reduce(score, "max", offsets=self._offsets, axis=0)
        largest = torch.where(largest.isfinite(), largest, 0.0)
        share = score.sub_(largest.index_select(0, self._target)).exp_().t().contiguous()
        starts, columns = self._pattern.crow_indices(), self._pattern.col_indices()
        out = []
        for head, channels in enumerate(self._parts):
            if not len(channels):
                continue
            matrix = torch.sparse_csr_tensor(
                starts, columns, share[head], self._shape, check_invariants=False
            )
            # The last column sums the shares themselves.
            wide = torch.cat([x.index_select(1, channels), x.new_ones(x.size(0), 1)], dim=1)
            summed = matrix @ wide
            total = summed[:, -1:].clamp_(min=torch.finfo(x.dtype).tiny)
            out.append(summed[:, :-1] / total)
        return torch.cat(out, dim=1) if out else x.new_empty(x.size(0), 0)

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


class SoftmaxProducts(Way):
    """Softmax-weighted means as two products, ``A(e·x) / A e`` with ``e = exp(t·x − max t·x)``.

    Where the range of ``t·x`` is too large for that, it goes edge by edge. As in
    :mod:`fastglt.models._gen_conv`.
    """

    def __init__(self, op: SoftmaxMean, graph: Graph, *, by_rows: bool) -> None:
        self._matrix = graph.adjacency(Rule("sum"), op.temperature.dtype)
        self._edge_index, self._temperature = graph.edge_index, op.temperature
        self._edge_by_edge = SoftmaxMeans(op)
        self._by_rows = by_rows
        self.name = _product_name(by_rows)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """``[num_nodes, channels]``."""
        x, highest = inputs[0], self._highest(inputs[0])
        if highest is None:
            out: Tensor = self._edge_by_edge(x, self._edge_index)
            return out
        share = (x * self._temperature).sub_(highest).exp_()
        total = spmm(self._matrix, share, by_rows=self._by_rows)
        # Only nodes without neighbours are below it, whose mean is 0.
        total.clamp_(min=math.exp(-max_range(x.dtype)) / 2)
        return spmm(self._matrix, share.mul_(x), by_rows=self._by_rows).div_(total)

    def cost(self, inputs: list[Tensor], out: Tensor) -> Cost:
        """Two products and five passes over nodes, or ten passes over edges."""
        size = out.element_size()
        if self._highest(inputs[0]) is None:
            edges = self._edge_index.size(1) * out.size(1)
            return Cost(edges, 20 * edges * size)
        product = product_cost(self._matrix, out.size(1))
        return product + product + Cost(0, 10 * out.numel() * size)

    def _highest(self, x: Tensor) -> Tensor | None:
        """``[channels]``, the largest ``t·x``; ``None`` where products would lose precision."""
        if not x.numel():
            return x.new_zeros(x.size(1))
        lowest, highest = score_bounds(x, self._temperature)
        return highest if float((highest - lowest).max()) <= max_range(x.dtype) else None


class Elementwise(Way):
    """What works number by number or row by row."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function

    def __call__(self, *inputs: Tensor) -> Tensor:
        """``[num_nodes, channels]``."""
        return self._function(*inputs)


def ways(op: Op, graph: Graph, inputs: list[Tensor], *, overwrites: bool) -> list[Way]:
    """The ways to compute an operation that are worth a try.

    Args:
        op: The operation.
        graph: The edges.
        inputs: What it reads: ``[num_nodes, channels]`` each, the features maybe as CSR.
        overwrites: Whether the first of them may be overwritten.
    """
    if isinstance(op, Linear):
        x = inputs[0]
        if x.layout != torch.strided:
            sparse = [SparseFeatures(op, by_rows=by_rows) for by_rows in _products(x)]
            return [*sparse, DenseLinear(op, x.to_dense())]
        entries = int(op.weight.count_nonzero())
        few = 0 < entries <= SPARSE_WEIGHTS * op.weight.numel()
        return [DenseLinear(op), SparseWeights(op)] if few else [DenseLinear(op)]
    if isinstance(op, Aggregate):
        matrix = graph.adjacency(op.rule, inputs[0].dtype)
        return [NeighborSum(matrix, by_rows=by_rows) for by_rows in _products(matrix)]
    if isinstance(op, Attend):
        return [AttentionByHead(op, graph)]
    if isinstance(op, SoftmaxMean):
        return [SoftmaxProducts(op, graph, by_rows=one) for one in _products(op.temperature)]
    return [Elementwise(_function(op, overwrites))]


def _products(matrix: Tensor) -> tuple[bool, ...]:
    """Whether products go row by row, in the ways that there are; only CPUs have the choice."""
    return (False, True) if matrix.device.type == "cpu" else (False,)


def _function(
    op: Pick | Scale | Map | LayerNorm | Join, overwrites: bool
) -> Callable[..., Tensor] | nn.Module:
    if isinstance(op, Scale):
        return _scaling(op.scale, op.shift, overwrites)
    if isinstance(op, Map):
        return in_place(copy.deepcopy(op.module), overwrites)
    if isinstance(op, Pick):
        return Picked(op)
    if isinstance(op, Join):
        return _added if op.how == "sum" and overwrites else Joined(op.how)
    return RowNorm(op)


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


def _product_name(by_rows: bool) -> str:
    return "row by row" if by_rows else "library product"
