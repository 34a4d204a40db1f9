"""Products with the adjacency matrix of a graph, differentiable in its values at O(edges) memory.

PyG materialises one message an edge, ``[num_edges, channels]``, wherever an edge weight requires
gradients. But the sum of messages ``value * x_j`` is ``A(values) @ x``, its gradient with respect
to ``x`` is ``A(values).T @ gradient``, and that with respect to the values is ``gradient @ x.T``
sampled at the edges; none of them needs the messages. Autograd through torch's own CSR matrices
does not do: it merges duplicate edges.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from fastglt.masks import counting_sort

_NARROW = 32
"""Up to so many columns MKL's sparse product is faster than the kernel that torch has of its own,
above them slower."""


class Adjacency:
    """The sparse matrix ``[num_targets, num_sources]`` of a graph, without its values.

    Duplicate edges stay apart. Holds two integers an edge for each of the orders by target and by
    source, the latter from its first use on.

    Args:
        edge_index: ``[2, num_edges]``.
        num_sources: Number of source nodes.
        num_targets: Number of target nodes.
    """

    def __init__(self, edge_index: Tensor, num_sources: int, num_targets: int) -> None:
        self.edge_index = edge_index
        self.shape = (num_targets, num_sources)
        self._ordered: tuple[tuple[Tensor, int, bool], Tensor] | None = None

    def matmul(self, values: Tensor, x: Tensor) -> Tensor:
        """``A(values) @ x``, ``[num_targets, channels]``; differentiable in both.

        Args:
            values: ``[num_edges]``.
            x: ``[num_sources, channels]``.
        """
        ordered = self._by_target_order(values).to(x.dtype)
        out: Tensor = _ProductByValues.apply(ordered, x.detach(), self)  # type: ignore[no-untyped-call]
        if x.requires_grad and torch.is_grad_enabled():
            # A node of its own, so that autograd runs it only if the gradient of x is wanted.
            zero: Tensor = _ProductByInput.apply(x, values.detach().to(x.dtype), self)  # type: ignore[no-untyped-call]
            out = out + zero
        return out

    def _by_target_order(self, values: Tensor) -> Tensor:
        """Values in the order of :attr:`by_target`; once for layers that share them."""
        state = (values, values._version, torch.is_grad_enabled())
        if self._ordered is None or any(
            a is not b for a, b in zip(state, self._ordered[0], strict=True)
        ):
            ordered: Tensor = _Permute.apply(values, self.by_target.position)  # type: ignore[no-untyped-call]
            self._ordered = (state, ordered)
        return self._ordered[1]

    @functools.cached_property
    def by_target(self) -> _Compressed:
        """Rows are targets."""
        return _Compressed(self.edge_index[1], self.edge_index[0], self.shape)

    @functools.cached_property
    def by_source(self) -> _Compressed:
        """Rows are sources: the transposed matrix."""
        return _Compressed(self.edge_index[0], self.edge_index[1], self.shape[::-1])

    @functools.cached_property
    def in_degree(self) -> Tensor:
        """Number of edges into every target, ``[num_targets]``."""
        return self.by_target.row_starts.diff()


def spmm(matrix: Tensor, x: Tensor) -> Tensor:
    """``matrix @ x`` of a CSR matrix and a dense or CSR one, of whose form the result is."""
    if x.device.type != "cpu":
        return matrix @ x
    if x.layout == torch.sparse_csr:
        return _from_scipy(_to_scipy(matrix) @ _to_scipy(x), x)
    is_fast = x.size(1) <= _NARROW and x.dtype in (torch.float32, torch.float64)
    if is_fast and torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return matrix @ x.contiguous()
    product: Tensor = torch.sparse.mm(matrix, x.contiguous(), "sum")
    return product


def sample(pattern: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """``left @ right.T`` at the places of a CSR matrix, ``[nnz]`` in their order.

    Args:
        pattern: ``[n, m]`` of zeros.
        left: ``[n, channels]``.
        right: ``[m, channels]``.
    """
    columns = pattern.col_indices()
    if columns.numel() > pattern.size(0) * pattern.size(1):  # more than torch lets pass
        rows = torch.arange(pattern.size(0), device=left.device)
        rows = rows.repeat_interleave(pattern.crow_indices().diff())
        values: Tensor = (left @ right.t())[rows, columns]
        return values
    product = torch.sparse.sampled_addmm(pattern, left.contiguous(), right.t(), beta=0.0)
    return product.values()  # type: ignore[no-any-return]


def _to_scipy(matrix: Tensor) -> csr_array:
    parts = (matrix.values(), matrix.col_indices(), matrix.crow_indices())
    values, columns, starts = (part.detach().numpy() for part in parts)
    return csr_array((values, columns, starts), shape=(matrix.size(0), matrix.size(1)))


def _from_scipy(matrix: csr_array, like: Tensor) -> Tensor:
    matrix.sort_indices()
    parts = (matrix.indptr, matrix.indices, matrix.data)
    starts, columns, values = map(torch.from_numpy, parts)
    index = like.col_indices().dtype
    return torch.sparse_csr_tensor(
        starts.to(index), columns.to(index), values, matrix.shape, check_invariants=False
    )


class _Compressed:
    """Edges in CSR order: where rows start, the column of each edge, and its place among edges."""

    def __init__(self, row: Tensor, column: Tensor, shape: tuple[int, int]) -> None:
        self.row_starts, self.position, self.columns = counting_sort(row, shape[0], column)
        self.shape = shape

    def matrix(self, values: Tensor) -> Tensor:
        """The matrix with ``values`` ``[num_edges]`` in the order of ``edge_index``."""
        return self.matrix_of(values.index_select(0, self.position))

    def matmul(self, values: Tensor, x: Tensor) -> Tensor:
        return spmm(self.matrix(values), x)

    def sample(self, left: Tensor, right: Tensor) -> Tensor:
        """``(left @ right.T)[row, column]`` of every edge, in the order of the rows."""
        return sample(self.matrix_of(left.new_zeros(self.columns.numel())), left, right)

    def matrix_of(self, values: Tensor) -> Tensor:
        """The matrix with ``values`` ``[num_edges]`` in the order of the rows."""
        return torch.sparse_csr_tensor(
            self.row_starts, self.columns, values, self.shape, check_invariants=False
        )


class _Permute(torch.autograd.Function):
    """Values in another order; ``position`` is a permutation, so that nothing is to be added up."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, position: Tensor) -> Tensor:
        ctx.position = position
        return values.index_select(0, position)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return torch.empty_like(gradient).index_copy_(0, ctx.position.long(), gradient), None


class _ProductByValues(torch.autograd.Function):
    """``A(values) @ x``, values by target, with the gradient of ``values`` only."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, x: Tensor, adjacency: Adjacency) -> Tensor:
        ctx.save_for_backward(x)
        ctx.adjacency = adjacency  # type: ignore[attr-defined]
        return spmm(adjacency.by_target.matrix_of(values), x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return ctx.adjacency.by_target.sample(gradient, x), None, None


class _ProductByInput(torch.autograd.Function):
    """0 of the shape of ``A(values) @ x``, with the gradient of ``x`` that the product has."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, values: Tensor, adjacency: Adjacency) -> Tensor:
        ctx.save_for_backward(values)
        ctx.adjacency = adjacency  # type: ignore[attr-defined]
        return x.new_zeros(()).expand(adjacency.shape[0], x.size(1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (values,) = ctx.saved_tensors
        return ctx.adjacency.by_source.matmul(values, gradient), None, None
