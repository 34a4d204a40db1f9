"""Scores of edge groups and weights: one number each, higher = keep."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fastglt.masks import EdgeGroups


def magnitude(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Absolute value of every entry, one tensor per parameter, of the parameter's shape."""
    return {name: tensor.detach().abs() for name, tensor in tensors.items()}


def uniform_noise(tensors: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Random scores for weights, uniform in ``[0, 1)``, of each parameter's shape."""
    return {
        name: torch.rand(tensor.shape, generator=generator).to(tensor.device)
        for name, tensor in tensors.items()
    }


def degree_product(groups: EdgeGroups, keep: Tensor, power: float) -> Tensor:
    """``(d_u * d_v) ** power`` of every group on the kept graph, ``[num_groups]`` float32.

    With a negative power, edges between low-degree nodes score high. Degrees have a floor of 1,
    so nodes that became isolated stay finite. ``power = -1.5`` is the regrowth term of FastGLT
    (arXiv 2412.07605); ``-0.5`` is the weight that GCN gives the edge.
    """
    degree = groups.degrees(keep).clamp_min(1).to(torch.float32)
    source, target = groups.ends
    product: Tensor = degree[source] * degree[target]
    return torch.pow(product, power)


def ranks(score: Tensor) -> Tensor:
    """Ranks scaled to ``[0, 1]``, equal scores sharing their mean rank, ``[n]`` float32.

    Makes scores of unlike scale comparable, so that they can be added.
    """
    if score.numel() < 2:
        return torch.zeros(score.shape, device=score.device)
    _, inverse, counts = torch.unique(score, return_inverse=True, return_counts=True)
    last = counts.cumsum(0) - 1
    mean: Tensor = last - (counts - 1) / 2
    scaled = (mean / (score.numel() - 1)).to(torch.float32)
    return scaled.index_select(0, inverse.view(-1)).view(score.shape)


def unit_gate(
    gradient: Tensor | None, groups: EdgeGroups, keep: Tensor, degree_weight: float = 1.0
) -> Tensor:
    """Score of edge groups from the gradient of their unit gates and from degree, ``[num_groups]``.

    The negative gradient is the first-order estimate of what the loss gains by having the edge;
    its rank is added to ``degree_weight`` times the rank of ``(d_u * d_v) ** -0.5``, which also
    orders the edges that no loss reaches.

    Args:
        gradient: ``[num_groups]``, see :func:`fastglt.gating.edge_gradient`; ``None`` scores by
            degree alone.
        groups: The graph's edge groups.
        keep: ``[num_groups]`` bool, the kept graph that degrees are counted on.
        degree_weight: Weight of the degree rank.
    """
    degree = ranks(degree_product(groups, keep, power=-0.5))
    if gradient is None:
        return degree
    return ranks(-gradient) + degree_weight * degree


def influence(probability: Tensor, groups: EdgeGroups, keep: Tensor) -> Tensor:
    """What removing an edge changes in its end nodes' predictions, ``[num_groups]`` float32.

    ``|p_u - p_v|_1 / sqrt((d_u + 1) * (d_v + 1))``: the disagreement of the two ends, times the
    weight that a symmetrically normalised convolution with self-loops gives the edge. Redundant
    edges, between nodes of the same prediction or high degree, score low. Needs no labels, so it
    sees the whole graph.

    Args:
        probability: ``[num_nodes, num_classes]`` predicted class probabilities.
        groups: The graph's edge groups.
        keep: ``[num_groups]`` bool, the kept graph that degrees are counted on.
    """
    source, target = groups.ends
    degree = groups.degrees(keep).to(torch.float32) + 1
    disagreement = (probability[source] - probability[target]).abs().sum(dim=-1)
    return disagreement * (degree[source] * degree[target]).rsqrt()


def trained_gate(
    gate: Tensor, gradient: Tensor, groups: EdgeGroups, keep: Tensor
) -> tuple[Tensor, Tensor]:
    """FastGLT's scores of edge groups, ``[num_groups]`` each: for dropping and for regrowing.

    Drop by ``|gate|``, regrow by ``|gradient| + (d_u * d_v) ** -1.5`` with degrees on the kept
    graph (arXiv 2412.07605, section 4).
    """
    return gate.detach().abs(), gradient.abs() + degree_product(groups, keep, power=-1.5)
