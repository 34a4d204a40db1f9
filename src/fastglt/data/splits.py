"""Seeded splits for graphs that come without one."""

from __future__ import annotations

import torch
from torch import Tensor

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
