"""Rows and columns of sparse matrices are those of the dense ones."""

from __future__ import annotations

import pytest
import torch

from fastglt.training.rows import first_rows, take_columns, take_rows


def matrices():
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(30, 20, generator=generator)
    dense *= torch.rand(30, 20, generator=generator) < 0.2
    dense[4] = 0
    return dense, dense.to_sparse_csr()


@pytest.mark.parametrize("rows", [[], [3], [29, 4, 4, 0, 7]])
def test_rows_in_any_order(rows):
    dense, sparse = matrices()
    rows = torch.tensor(rows, dtype=torch.int64)
    assert torch.equal(take_rows(sparse, rows).to_dense(), dense[rows])
    assert torch.equal(take_rows(dense, rows), dense[rows])


@pytest.mark.parametrize("count", [0, 5, 30])
def test_first_rows(count):
    dense, sparse = matrices()
    part = first_rows(sparse, count)
    assert torch.equal(part.to_dense(), dense[:count])
    assert torch.equal(first_rows(dense, count), dense[:count])
    if count:
        assert part.values().data_ptr() == sparse.values().data_ptr()


@pytest.mark.parametrize("columns", [[], [19], [0, 3, 11]])
def test_columns(columns):
    dense, sparse = matrices()
    columns = torch.tensor(columns, dtype=torch.int64)
    assert torch.equal(take_columns(sparse, columns).to_dense(), dense[:, columns])
