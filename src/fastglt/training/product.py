"""Products with sparse matrices that stay the same from one training step to the next."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastglt.gating import Adjacency, spmm


class Kind(NamedTuple):
    """Which matrix a conv multiplies by.

    Attributes:
        name: ``"gcn"``, ``"sum"`` or ``"mean"``.
        dtype: Type of its values.
        weighted: Whether edge weights count.
        improved: Of GCNConv.
        add_self_loops: Of GCNConv.
        root: What is added to every diagonal element.
    """

    name: str
    dtype: torch.dtype
    weighted: bool
    improved: bool = False
    add_self_loops: bool = False
    root: float = 0.0


class Product:
    """A constant sparse matrix ``[n, m]`` to multiply by; its transpose is made once.

    Args:
        adjacency: The places of its values.
        values: ``[num_edges]``.
        matrix: The matrix itself, CSR, where it is there already.
    """

    def __init__(self, adjacency: Adjacency, values: Tensor, matrix: Tensor | None = None) -> None:
        self.matrix = adjacency.by_target.matrix(values) if matrix is None else matrix
        self._source: tuple[Adjacency, Tensor] | None = (adjacency, values)
        self._transposed: Tensor | None = None

    @classmethod
    def of_csr(cls, matrix: Tensor) -> Product:
        """The product with a CSR matrix, whose indices and values are shared."""
        rows = torch.arange(matrix.size(0), device=matrix.device, dtype=torch.int32)
        targets = rows.repeat_interleave(matrix.crow_indices().diff())
        edge_index = torch.stack([matrix.col_indices().to(torch.int32), targets])
        adjacency = Adjacency(edge_index, matrix.size(1), matrix.size(0))
        return cls(adjacency, matrix.values(), matrix)

    def __call__(self, x: Tensor) -> Tensor:
        """``A @ x``, ``[n, channels]``; differentiable in ``x`` ``[m, channels]``."""
        out: Tensor = _Apply.apply(x, self)  # type: ignore[no-untyped-call]
        return out

    @property
    def transposed(self) -> Tensor:
        """``A.T``, CSR; what it was made of is given up then.

        For a symmetric matrix with sorted rows it is the matrix itself.
        """
        if self._source is not None:
            adjacency, values = self._source
            self._transposed, self._source = adjacency.by_source.matrix(values), None
            if _are_equal(self._transposed, self.matrix):
                self._transposed = self.matrix
        assert self._transposed is not None
        return self._transposed


def _are_equal(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and all(
        torch.equal(one, other)
        for one, other in (
            (first.crow_indices(), second.crow_indices()),
            (first.col_indices(), second.col_indices()),
            (first.values(), second.values()),
        )
    )


class _Apply(torch.autograd.Function):
    """``A @ x``, with ``A.T @ gradient`` in the backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, product: Product) -> Tensor:
        ctx.product = product
        return spmm(product.matrix, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return spmm(ctx.product.transposed, gradient), None
