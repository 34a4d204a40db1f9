"""Softmax-weighted means over neighbours on one graph."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from fastglt.compile.edges import Graph
from fastglt.compile.layout import Memory
from fastglt.compile.plain import SoftmaxMeans
from fastglt.compile.program import SoftmaxMean, cast
from fastglt.compile.ways import Cost, Way, product_cost
from fastglt.models._gen_conv import max_range, score_bounds


class SoftmaxProducts(Way):
    """Two products, ``A(e·x) / A e`` with ``e = exp(t·x − max t·x)``.

    Where the range of ``t·x`` is too large for that, it goes edge by edge, as in
    :mod:`fastglt.models._gen_conv`. Nothing is computed in less than single precision.

    Args:
        op: The operation.
        graph: The edges.
        adjacency: CSR ``[num_nodes, num_nodes]``, the number of edges between each pair of nodes.
        name: Of the product.
        product: Multiplies the adjacency matrix by another in its precision.
        memory: What the product writes to, if that is used again.
    """

    def __init__(
        self,
        op: SoftmaxMean,
        graph: Graph,
        adjacency: Tensor,
        name: str,
        product: Callable[[Tensor], Tensor],
        memory: Memory | None = None,
    ) -> None:
        self._memory = memory
        op = cast(op, adjacency.dtype)
        self.name = name
        self._matrix, self._product = adjacency, product
        self._edge_index, self._temperature = graph.edge_index, op.temperature
        self._edge_by_edge = SoftmaxMeans(op)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """``[num_nodes, channels]``."""
        return self._mean(inputs[0].to(self._matrix.dtype)).to(inputs[0].dtype)

    def _mean(self, x: Tensor) -> Tensor:
        highest = self._highest(x)
        if highest is None:
            out: Tensor = self._edge_by_edge(x, self._edge_index)
            return out
        share = (x * self._temperature).sub_(highest).exp_()
        total = self._product(share)
        # Only nodes without neighbours are below it, whose mean is 0.
        total.clamp_(min=math.exp(-max_range(x.dtype)) / 2)
        mean = self._product(share.mul_(x)).div_(total)
        if self._memory is not None:
            self._memory.give_back(total)
        return mean

    def cost(self, inputs: list[Tensor], out: Tensor) -> Cost:
        """Two products and five passes over nodes, or ten passes over edges."""
        size = self._matrix.element_size()
        if self._highest(inputs[0].to(self._matrix.dtype)) is None:
            entries = self._edge_index.size(1) * out.size(1)
            return Cost(entries, 20 * entries * size)
        product = product_cost(self._matrix, out.size(1))
        return product + product + Cost(0, 10 * out.numel() * size)

    def _highest(self, x: Tensor) -> Tensor | None:
        """``[channels]``, the largest ``t·x``; ``None`` where products would lose precision."""
        if not x.numel():
            return x.new_zeros(x.size(1))
        lowest, highest = score_bounds(x, self._temperature)
        return highest if float((highest - lowest).max()) <= max_range(x.dtype) else None
