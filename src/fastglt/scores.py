"""Scores of edge groups and weights: one number each, higher = keep."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from fastglt.masks import ChannelGroup, EdgeGroups, stable_sort

_CHUNK = 1 << 18
"""How many probabilities are gathered at a time: few enough to stay in a processor's cache."""


_PAIRS = 1 << 14
"""Pairs of feature rows that are compared at a time."""


HOMOPHILOUS = 0.5
"""Adjusted homophily from which on an edge within a class is taken for a better one."""


def magnitude(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Absolute value of every entry, one tensor per parameter, of the parameter's shape."""
    return {name: tensor.detach().abs() for name, tensor in tensors.items()}


CHANNEL_FLOOR = 1e-3
"""Importance of a channel without weights, relative to the mean: enough for gradients to revive."""


def by_channel(
    score: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    groups: Iterable[ChannelGroup],
    power: float,
    most: float = math.inf,
) -> dict[str, Tensor]:
    """Scores of weights times the importance of the channels that they write and read.

    The importance of a channel is the sum of ``|weight|`` over what writes it, times that over what
    reads it, relative to the mean over its group. Multiplied by it, weights gather on few channels:
    the others die as a whole, and with them work.

    Args:
        score: Parameter name to scores of its shape.
        weights: All parameters of the model.
        groups: Its channels, on the device of the weights; without any, scores stay as they are.
        power: Exponent of the importance; 0 leaves scores as they are.
        most: Importance above which more does not count: weights do not gather on fewer than about
            one in so many channels.
    """
    if power == 0:
        return dict(score)
    rows: dict[str, list[Tensor]] = defaultdict(list)
    columns: dict[str, Tensor] = {}
    for group in groups:
        importance = _importance(group, weights).clamp_max_(most).pow_(power)
        for name in group.writers:
            rows[name].append(importance)
        for name, channel in group.readers.items():
            column = columns.setdefault(name, importance.new_ones(len(channel)))
            column[channel >= 0] = importance[channel[channel >= 0]]
    result = dict(score)
    for name in rows.keys() & score.keys():
        # A stream of residual connections is a group for each of its readers.
        result[name] = result[name] * torch.stack(rows[name]).mean(dim=0)[:, None]
    for name in columns.keys() & score.keys():
        result[name] = result[name] * columns[name]
    return result


def _importance(group: ChannelGroup, weights: Mapping[str, Tensor]) -> Tensor:
    """``[size]``, relative to the mean and at least :data:`CHANNEL_FLOOR`."""
    written, read = weights[group.writers[0]].detach().new_zeros(2, group.size)
    for name in group.writers:
        written += weights[name].detach().abs().sum(dim=1)
    for name, channel in group.readers.items():
        strength = weights[name].detach().abs().sum(dim=0)
        read.index_add_(0, channel[channel >= 0], strength[channel >= 0])
    importance: Tensor = written * read
    return importance.div_(importance.mean().clamp_min(1e-30)).clamp_min_(CHANNEL_FLOOR)


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
    product = degree.index_select(0, source).mul_(degree.index_select(0, target))
    return product.pow_(power)


def inverse_degrees(groups: EdgeGroups, keep: Tensor) -> Tensor:
    """``1 / d_u + 1 / d_v`` of every group on the kept graph, ``[num_groups]`` float32.

    The sampling rate of DSpar (Liu et al., TMLR 2023). Degrees have a floor of 1.
    """
    inverse = groups.degrees(keep).clamp_min(1).to(torch.float32).reciprocal_()
    source, target = groups.ends
    return inverse.index_select(0, source).add_(inverse.index_select(0, target))


def degree_surroundings(groups: EdgeGroups, keep: Tensor) -> Tensor:
    """TEDDY's score of edges: high in surroundings of low degree, ``[num_groups]`` float32.

    ``t_u * t_v`` with ``t_i = (1 / d_i) * mean over neighbours j of d_j ** -0.5`` (Seo et al., ICLR
    2024, arXiv 2402.01261, as in its public code). Nodes without neighbours have ``t_i = 0``.

    Args:
        groups: The graph's edge groups.
        keep: ``[num_groups]`` bool, the kept graph that degrees are counted on.
    """
    degree = groups.degrees(keep).to(torch.float32)
    source, target = groups.ends[:, keep]
    factor = degree.rsqrt()
    total = torch.zeros_like(degree)
    total.index_add_(0, source, factor.index_select(0, target))
    total.index_add_(0, target, factor.index_select(0, source))
    node = torch.where(degree > 0, total / degree.square(), 0.0)
    source, target = groups.ends
    return node.index_select(0, source) * node.index_select(0, target)


def sampling_order(rate: Tensor, generator: torch.Generator) -> Tensor:
    """Scores whose ``k`` highest are ``k`` draws without replacement by positive rates.

    ``log(rate)`` plus Gumbel noise (Efraimidis and Spirakis, 2006, in the form of Kool et al.,
    arXiv 1903.06059).

    Args:
        rate: ``[n]``, proportional to the probability of the first draw.
        generator: Source of the noise.
    """
    exponential = torch.empty(rate.shape, dtype=torch.float64).exponential_(generator=generator)
    return rate.to(torch.float64).log() - exponential.to(rate.device).log()


def ranks(score: Tensor) -> Tensor:
    """Ranks scaled to ``[0, 1]``, equal scores sharing their mean rank, ``[n]`` float32.

    Makes scores of unlike scale comparable, so that they can be added.
    """
    if score.numel() < 2:
        return torch.zeros(score.shape, device=score.device)
    values, position = _sorted(score.detach().reshape(-1))
    _, counts = torch.unique_consecutive(values, return_counts=True)
    mean_rank = counts.cumsum(0) - (counts + 1).to(torch.float64) / 2
    scaled = (mean_rank / (score.numel() - 1)).to(torch.float32)
    result = torch.empty(score.numel(), device=score.device)
    return result.scatter_(0, position, scaled.repeat_interleave(counts)).view(score.shape)


def _sorted(score: Tensor) -> tuple[Tensor, Tensor]:
    """Values in ascending order, up to a strictly rising map, and where they came from."""
    if score.dtype != torch.float32:
        result = score.sort()
        return result.values, result.indices
    bits = (score + 0.0).view(torch.int32).to(torch.int64)  # adding 0 turns -0 into 0
    # The bits of positive floats rise with them, those of negative ones fall.
    lowest = torch.iinfo(torch.int32).min
    keys = torch.where(bits < 0, lowest - 1 - bits, bits).sub_(lowest)
    return stable_sort(keys, 1 << 32)


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
    return ranks(-gradient).add_(degree, alpha=degree_weight)


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
    probability = probability.detach()
    degree = groups.degrees(keep).to(torch.float32) + 1
    score = probability.new_empty(groups.num_groups, dtype=torch.float32)
    step = max(1, _CHUNK // max(probability.size(1), 1))
    for start in range(0, groups.num_groups, step):
        source, target = groups.ends[:, start : start + step]
        gap = probability.index_select(0, source).sub_(probability.index_select(0, target))
        weight = (degree.index_select(0, source) * degree.index_select(0, target)).rsqrt_()
        torch.mul(gap.abs_().sum(dim=-1), weight, out=score[start : start + step])
    return score


def agreement(classes: Tensor, groups: EdgeGroups) -> Tensor:
    """1 for edges within a class and 0 for those between classes, ``[num_groups]`` float32.

    Where neighbours do not tend to share a class it says nothing and is 0 everywhere. That is where
    the adjusted homophily ``(h - s) / (1 - s)`` is below :data:`HOMOPHILOUS`: ``h`` is the share of
    the edges within a class, and ``s`` that of pairs of edge ends drawn at random (Platonov et al.,
    NeurIPS 2023, arXiv 2209.06177).

    Args:
        classes: ``[num_nodes]`` int64, such as predicted ones.
        groups: The graph's edge groups.
    """
    of_ends = classes[groups.ends]
    same = (of_ends[0] == of_ends[1]).to(torch.float32)
    count = torch.bincount(of_ends.flatten()).to(torch.float64)
    by_chance = float((count / count.sum().clamp_min(1)).square().sum())
    within = float(same.mean(dtype=torch.float64)) if len(same) else 0.0
    if within - by_chance < HOMOPHILOUS * (1 - by_chance):
        return torch.zeros_like(same)
    return same


def trained_gate(
    gate: Tensor, gradient: Tensor, groups: EdgeGroups, keep: Tensor
) -> tuple[Tensor, Tensor]:
    """FastGLT's scores of edge groups, ``[num_groups]`` each: for dropping and for regrowing.

    Drop by ``|gate|``, regrow by ``|gradient| + (d_u * d_v) ** -1.5`` with degrees on the kept
    graph (arXiv 2412.07605, section 4).
    """
    grow = degree_product(groups, keep, power=-1.5).add_(gradient.abs())
    return gate.detach().abs(), grow


def similarity(x: Tensor, ends: Tensor) -> Tensor:
    """Cosine of the features of both ends, ``[num_pairs]``; 0 where a node has none.

    Args:
        x: ``[num_nodes, num_features]``, dense or CSR.
        ends: ``[2, num_pairs]``.
    """
    x = x.to_dense() if x.layout != torch.strided else x
    parts = [
        F.cosine_similarity(x[source].flatten(1), x[target].flatten(1), dim=1)
        for source, target in torch.split(ends, _PAIRS, dim=1)
    ]
    return torch.cat(parts) if parts else x.new_zeros(0)
