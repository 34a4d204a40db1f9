"""Seeded splits for graphs that come without one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastglt.data._arguments import exact_share
from fastglt.errors import InputError


def random_split(
    y: Tensor, *, train_per_class: int, val_per_class: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a fixed number of training and validation nodes of each class; the rest is for testing.

    Args:
        y: Labels ``[num_nodes]``; a negative label means unlabelled and is put in no mask.
        train_per_class: Training nodes per class, at least 1.
        val_per_class: Validation nodes per class, at least 1.
        generator: The only source of randomness; it is advanced.

    Returns:
        Disjoint boolean masks ``[num_nodes]``: train, validation, test.

    Raises:
        InputError: If a count is below 1 or a class has too few nodes.
    """
    if y.dim() != 1:
        raise InputError(
            "counts of nodes per class are for one label a node, y of shape [num_nodes] "
            f"(got {list(y.shape)}); give shares such as 0.6,0.2"
        )
    for name, count in (("train_per_class", train_per_class), ("val_per_class", val_per_class)):
        if count < 1:
            raise InputError(f"{name} must be at least 1 (got {count})")
    order = torch.randperm(y.numel(), generator=generator)
    order = order[y[order] >= 0]
    classes, position = torch.sort(y[order], stable=True)
    labels, sizes = torch.unique_consecutive(classes, return_counts=True)
    needed = train_per_class + val_per_class
    if bool((sizes < needed).any()):
        label, size = labels[sizes < needed][0], sizes[sizes < needed][0]
        raise InputError(
            f"every class must have at least {needed} nodes for {train_per_class} training and "
            f"{val_per_class} validation nodes (got {int(size)} of class {int(label)})"
        )
    starts = torch.repeat_interleave(torch.cumsum(sizes, 0) - sizes, sizes)
    rank = torch.full_like(y, -1)
    rank[order[position]] = torch.arange(order.numel()) - starts
    train = (rank >= 0) & (rank < train_per_class)
    return train, (rank >= train_per_class) & (rank < needed), rank >= needed


def fraction_split(
    y: Tensor, *, train: float, val: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw shares of the labelled nodes for training and validation; the rest is for testing.

    Args:
        y: Labels ``[num_nodes]``, negative where unlabelled, or ``[num_nodes, num_labels]`` float
            for a multi-label task, a row of NaN where unlabelled. Unlabelled nodes are put in no
            mask.
        train: Share of the training nodes, in (0, 1).
        val: Share of the validation nodes, in (0, 1); ``train + val`` is at most 1.
        generator: The only source of randomness; it is advanced.

    Returns:
        Disjoint boolean masks ``[num_nodes]``: train, validation, test.

    Raises:
        InputError: If a share is out of range or leaves a mask without a node.
    """
    shares = {"train": exact_share("train", train), "val": exact_share("val", val)}
    if sum(shares.values()) > 1:
        raise InputError(f"train + val must be at most 1 (got {train} + {val})")
    labelled = ~y.isnan().all(dim=1) if y.is_floating_point() and y.dim() == 2 else y >= 0
    nodes = labelled.nonzero().view(-1)
    nodes = nodes[torch.randperm(nodes.numel(), generator=generator)]
    counts = [math.floor(share * nodes.numel()) for share in shares.values()]
    for (name, share), count in zip(shares.items(), counts, strict=True):
        if count == 0:
            raise InputError(
                f"{name} must leave at least one node for its mask "
                f"(got {float(share)} of {nodes.numel()} labelled nodes)"
            )
    rank = torch.full_like(labelled, -1, dtype=torch.long)
    rank[nodes] = torch.arange(nodes.numel())
    num_train, num_seen = counts[0], sum(counts)
    in_train = (rank >= 0) & (rank < num_train)
    return in_train, (rank >= num_train) & (rank < num_seen), rank >= num_seen
