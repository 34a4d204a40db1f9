"""Rows and columns of dense and of CSR matrices."""

from __future__ import annotations

import torch
from torch import Tensor


def take_rows(matrix: Tensor, rows: Tensor) -> Tensor:
    """Some rows, in the form of the matrix.

    Args:
        matrix: ``[n, m]``, dense or CSR.
        rows: ``[k]`` int64.
    """
    if matrix.layout != torch.sparse_csr:
        return matrix.index_select(0, rows)
    starts, count = matrix.crow_indices()[rows], matrix.crow_indices().diff()[rows]
    ends = count.cumsum(0)
    crow = torch.cat([ends.new_zeros(1), ends])
    shift = (starts - crow[:-1]).repeat_interleave(count)
    position = torch.arange(len(shift), device=shift.device) + shift
    column, value = matrix.col_indices()[position], matrix.values()[position]
    crow = crow.to(column.dtype)
    shape = (len(rows), matrix.size(1))
    return torch.sparse_csr_tensor(crow, column, value, shape, check_invariants=False)


def first_rows(matrix: Tensor, count: int) -> Tensor:
    """The first rows of a matrix, dense or CSR, sharing its memory."""
    if count == matrix.size(0):
        return matrix
    if matrix.layout != torch.sparse_csr:
        return matrix[:count]
    crow = matrix.crow_indices()[: count + 1]
    end = int(crow[-1])
    column, value = matrix.col_indices()[:end], matrix.values()[:end]
    shape = (count, matrix.size(1))
    return torch.sparse_csr_tensor(crow, column, value, shape, check_invariants=False)


def take_columns(matrix: Tensor, columns: Tensor) -> Tensor:
    """Some columns of a CSR matrix ``[n, m]``, which are ``[k]`` int64 in ascending order."""
    place = torch.full((matrix.size(1),), -1, dtype=torch.int64, device=columns.device)
    place[columns] = torch.arange(len(columns), device=columns.device)
    place = place[matrix.col_indices()]
    inside = place >= 0
    ends = torch.cat([inside.new_zeros(1, dtype=torch.int64), inside.cumsum(0)])
    crow = ends[matrix.crow_indices().long()]
    index = matrix.col_indices().dtype
    shape = (matrix.size(0), len(columns))
    return torch.sparse_csr_tensor(
        crow.to(index),
        place[inside].to(index),
        matrix.values()[inside],
        shape,
        check_invariants=False,
    )
