"""Products with constant sparse matrices, against dense ones."""

from __future__ import annotations

import pytest
import torch

from fastglt.gating import Adjacency
from fastglt.training.product import Product

EDGES = torch.tensor([[0, 1, 1, 2, 3, 3], [1, 0, 2, 1, 0, 0]])  # with a duplicate
VALUES = torch.tensor([1.0, 1.0, 2.0, 2.0, 0.5, 0.25], dtype=torch.float64)


def dense(edges, values):
    matrix = torch.zeros(4, 4, dtype=torch.float64)
    return matrix.index_put((edges[1], edges[0]), values, accumulate=True)


@pytest.mark.parametrize("width", [1, 3, 40, 500])
def test_outputs_and_gradients(width):
    x = torch.randn(4, width, dtype=torch.float64, requires_grad=True)
    product = Product(Adjacency(EDGES, 4, 4), VALUES)
    expected = dense(EDGES, VALUES)
    torch.testing.assert_close(product(x), expected @ x)
    assert torch.autograd.gradcheck(lambda x: product(x[:, :3]), x)
    torch.testing.assert_close(product.transposed.to_dense(), expected.t())


def test_a_symmetric_matrix_is_its_own_transpose():
    symmetric = Product(Adjacency(EDGES[:, :4], 4, 4), VALUES[:4])
    assert symmetric.transposed is symmetric.matrix
    lopsided = Product(Adjacency(EDGES[:, :4], 4, 4), VALUES[1:5])
    assert lopsided.transposed is not lopsided.matrix
    torch.testing.assert_close(lopsided.transposed.to_dense(), dense(EDGES[:, :4], VALUES[1:5]).t())


def test_of_a_csr_matrix():
    matrix = torch.randn(5, 7, dtype=torch.float64) * (torch.rand(5, 7) < 0.5)
    product = Product.of_csr(matrix.to_sparse_csr())
    x = torch.randn(7, 2, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(product(x), matrix @ x)
    assert torch.autograd.gradcheck(product, x)
