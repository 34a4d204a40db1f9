"""A differentiable distance between two sets of points."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinkhorn_distance(
    left: Tensor, right: Tensor, epsilon: float = 0.01, iterations: int = 10
) -> Tensor:
    """Entropy-regularised Wasserstein distance with Euclidean cost, a scalar.

    Log-domain Sinkhorn iterations (Cuturi, "Sinkhorn Distances", NeurIPS 2013), with gradients
    through all of them; all points weigh the same.

    Args:
        left: ``[n, k]`` points.
        right: ``[m, k]`` points.
        epsilon: Strength of the entropy term, in units of the cost.
        iterations: How often both potentials are updated.
    """
    cost = torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")
    log_n, log_m = math.log(len(left)), math.log(len(right))
    scaled = -cost / epsilon
    u, v = left.new_zeros(len(left)), left.new_zeros(len(right))
    for _ in range(iterations):
        u = -log_n - torch.logsumexp(scaled + v[None], dim=1)
        v = -log_m - torch.logsumexp(scaled + u[:, None], dim=0)
    plan = (scaled + u[:, None] + v[None]).exp()
    return (plan * cost).sum()
