from __future__ import annotations

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance_nd

from fastglt.search.wasserstein import sinkhorn_distance


def _points(n, k, seed):
    return torch.rand(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("n", "m"), [(4, 6), (5, 5), (1, 7)])
def test_many_iterations_come_near_the_exact_distance(n, m):
    left, right = _points(n, 3, 0), _points(m, 3, 1) + 0.3
    found = float(sinkhorn_distance(left, right, epsilon=0.002, iterations=3000))
    assert found == pytest.approx(wasserstein_distance_nd(left.numpy(), right.numpy()), rel=5e-3)


def test_sets_of_one_size_are_assigned_to_each_other():
    left, right = _points(8, 2, 2), _points(8, 2, 3)
    cost = torch.cdist(left, right)
    expected = float(cost[linear_sum_assignment(cost.numpy())].mean())
    found = float(sinkhorn_distance(left, right, epsilon=0.002, iterations=3000))
    assert found == pytest.approx(expected, rel=5e-3)


def test_the_distance_is_symmetric_and_moves_with_the_sets():
    left, right = _points(6, 3, 4), _points(4, 3, 5)
    there = sinkhorn_distance(left, right, iterations=2000)
    torch.testing.assert_close(
        there, sinkhorn_distance(right, left, iterations=2000), rtol=1e-3, atol=0
    )
    assert sinkhorn_distance(left, right + 1) > there


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_where_points_coincide(dtype):
    left = _points(5, 3, 6).to(dtype).requires_grad_()
    right = left.detach().clone().requires_grad_()
    sinkhorn_distance(left, right).backward()
    assert left.grad.isfinite().all()
    assert right.grad.isfinite().all()


def test_gradients_go_through_all_iterations():
    left, right = _points(4, 2, 7).requires_grad_(), _points(3, 2, 8).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: sinkhorn_distance(a, b, 0.2, 5), (left, right))
