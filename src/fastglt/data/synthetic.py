"""Synthetic graphs with known structure, for tests and rehearsals without a network.

The generator is a contextual (Deshpande et al., 2018), degree-corrected (Karrer & Newman, 2011)
stochastic block model. All work is done on whole arrays and is linear in nodes and edges up to
sorting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch_geometric.data import Data

from fastglt.data._arguments import check_integer
from fastglt.data._pairs import Blocks, distinct_pairs
from fastglt.data.splits import random_split
from fastglt.errors import InputError

_WORDS_PER_NODE: Final = 0.05
# Distinct pairs are found by rejection, which ends soon only while some are left.
_MOST_FULL: Final = 0.9


@dataclass(frozen=True)
class _Settings:
    num_nodes: int
    average_degree: float
    num_classes: int
    homophily: float
    num_features: int
    feature_noise: float
    degree_exponent: float | None
    features: str
    train_fraction: float
    val_fraction: float

    @property
    def num_pairs(self) -> int:
        return round(self.num_nodes * self.average_degree / 2)


def csbm(
    num_nodes: int = 1000,
    *,
    average_degree: float = 10.0,
    num_classes: int = 4,
    homophily: float = 0.8,
    num_features: int = 32,
    feature_noise: float = 1.0,
    degree_exponent: float | None = None,
    features: str = "gaussian",
    train_fraction: float = 0.2,
    val_fraction: float = 0.2,
    seed: int = 0,
) -> Data:
    """Draw a graph from a contextual degree-corrected stochastic block model.

    Counts are exact: classes differ in size by at most one node, there are
    ``round(num_nodes * average_degree / 2)`` undirected edges, and ``round(homophily * edges)``
    of them join nodes of one class. Ends are drawn in proportion to the nodes' degree weights;
    once hubs are saturated, what is still missing is drawn with equal weights.

    Args:
        num_nodes: Number of nodes, at least three a class.
        average_degree: Mean number of neighbours.
        num_classes: Number of classes, at least 2.
        homophily: Share of edges within a class, in [0, 1].
        num_features: Number of features of a node; for ``"binary"`` at least ``num_classes``.
        feature_noise: At least 0. ``"gaussian"``: standard deviation of the noise around class
            means whose own standard deviation is 1. ``"binary"``: a word is of the node's own
            class with probability ``1 / (1 + feature_noise)``, else it is any word.
        degree_exponent: Exponent (above 2) of the power law of the degree weights; None for equal
            weights.
        features: ``"gaussian"`` or ``"binary"`` (sparse bags of words, 5 % of the words drawn).
        train_fraction: Share of each class in the training mask (at least one node).
        val_fraction: Share of each class in the validation mask (at least one node).
        seed: Seed of everything.

    Returns:
        A graph with float ``x`` ``[num_nodes, num_features]``, ``edge_index``
        ``[2, 2 * edges]`` (coalesced, both directions, no self-loops), ``y`` ``[num_nodes]`` and
        disjoint boolean ``train_mask``, ``val_mask`` and ``test_mask`` ``[num_nodes]``.

    Raises:
        InputError: If an argument is out of range or would fill over 90 % of the possible edges.
    """
    settings = _Settings(
        num_nodes=num_nodes,
        average_degree=average_degree,
        num_classes=num_classes,
        homophily=homophily,
        num_features=num_features,
        feature_noise=feature_noise,
        degree_exponent=degree_exponent,
        features=features,
        train_fraction=train_fraction,
        val_fraction=val_fraction,
    )
    _check(settings, seed)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(num_nodes, generator=generator)
    y = torch.empty(num_nodes, dtype=torch.long)
    y[order] = torch.arange(num_nodes) % num_classes
    edge_index = _edges(settings, y, generator)
    x = (_gaussian if features == "gaussian" else _binary)(settings, y, generator)
    size = num_nodes // num_classes
    train, val, test = random_split(
        y,
        train_per_class=max(1, int(train_fraction * size)),
        val_per_class=max(1, int(val_fraction * size)),
        generator=generator,
    )
    return Data(x=x, edge_index=edge_index, y=y, train_mask=train, val_mask=val, test_mask=test)


def _check(settings: _Settings, seed: int) -> None:
    least = {"num_classes": 2, "num_nodes": 3 * max(settings.num_classes, 2), "num_features": 1}
    if settings.features == "binary":
        least["num_features"] = settings.num_classes
    values = {name: getattr(settings, name) for name in least}
    for name, value in (*values.items(), ("seed", seed)):
        check_integer(name, value, least.get(name, 0))
    if settings.features not in ("gaussian", "binary"):
        raise InputError(f"features must be 'gaussian' or 'binary' (got {settings.features!r})")
    if not 0 <= settings.homophily <= 1:
        raise InputError(f"homophily must be in [0, 1] (got {settings.homophily})")
    if not 0 <= settings.feature_noise < math.inf:
        raise InputError(
            f"feature_noise must be finite and at least 0 (got {settings.feature_noise})"
        )
    if settings.degree_exponent is not None and not 2 < settings.degree_exponent < math.inf:
        raise InputError(
            f"degree_exponent must be above 2, or None (got {settings.degree_exponent})"
        )
    train, val = settings.train_fraction, settings.val_fraction
    if not (0 < train < 1 and 0 < val < 1 and train + val < 1):
        raise InputError(
            "train_fraction and val_fraction must be in (0, 1) and sum to less than 1 "
            f"(got {train} and {val})"
        )
    _check_density(settings)


def _check_density(settings: _Settings) -> None:
    if not 0 < settings.average_degree < math.inf or settings.num_pairs < 1:
        raise InputError(
            "average_degree must be finite and give at least one edge "
            f"(got {settings.average_degree})"
        )
    small, extra = divmod(settings.num_nodes, settings.num_classes)
    within = settings.num_classes * math.comb(small, 2) + extra * small
    between = math.comb(settings.num_nodes, 2) - within
    same = round(settings.homophily * settings.num_pairs)
    wanted = (("within", same, within), ("between", settings.num_pairs - same, between))
    for kind, count, room in wanted:
        if count > _MOST_FULL * room:
            raise InputError(
                f"at most {_MOST_FULL:.0%} of the {room} node pairs {kind} classes may be edges "
                f"(got {count}): lower average_degree {settings.average_degree} or change "
                f"homophily {settings.homophily}"
            )


def _edges(settings: _Settings, y: Tensor, generator: torch.Generator) -> Tensor:
    same = round(settings.homophily * settings.num_pairs)
    weight = _degree_weights(settings, generator)
    blocks = Blocks(y, weight), Blocks(y, torch.ones_like(weight))
    codes = torch.cat(
        [
            distinct_pairs(blocks, count, within, generator)
            for count, within in ((same, True), (settings.num_pairs - same, False))
        ]
    )
    u, v = codes // settings.num_nodes, codes % settings.num_nodes
    both = torch.cat([codes, v * settings.num_nodes + u]).sort().values
    return torch.stack([both // settings.num_nodes, both % settings.num_nodes])


def _degree_weights(settings: _Settings, generator: torch.Generator) -> Tensor:
    if settings.degree_exponent is None:
        return torch.ones(settings.num_nodes, dtype=torch.float64)
    uniform = torch.rand(settings.num_nodes, dtype=torch.float64, generator=generator)
    weight = (1 - uniform) ** (-1 / (settings.degree_exponent - 1))
    # The structural cut-off: heavier nodes could not find that many distinct neighbours.
    return weight.clamp_(max=math.sqrt(settings.num_nodes))


def _gaussian(settings: _Settings, y: Tensor, generator: torch.Generator) -> Tensor:
    means = torch.randn(settings.num_classes, settings.num_features, generator=generator)
    noise = torch.randn(settings.num_nodes, settings.num_features, generator=generator)
    return means[y] + settings.feature_noise * noise


def _binary(settings: _Settings, y: Tensor, generator: torch.Generator) -> Tensor:
    words = max(1, round(_WORDS_PER_NODE * settings.num_features))
    shape = (settings.num_nodes, words)
    anything = torch.randint(settings.num_features, shape, generator=generator)
    # Word w belongs to class w % num_classes; a block is one word of every class.
    block = torch.randint(settings.num_features // settings.num_classes, shape, generator=generator)
    own = block * settings.num_classes + y.unsqueeze(1)
    keep = torch.rand(shape, generator=generator) < 1 / (1 + settings.feature_noise)
    x = torch.zeros(settings.num_nodes, settings.num_features)
    return x.scatter_(1, torch.where(keep, own, anything), 1.0)
