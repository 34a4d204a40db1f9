"""Datasets of many graphs, such as molecules, as one batch with a split."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch_geometric.data import Batch, Data

from fastglt.errors import GraphError


def from_graph_splits(
    train: Iterable[Data], val: Iterable[Data], test: Iterable[Data] = ()
) -> Batch:
    """Put the graphs of a split into one batch, which is what ``fastglt.find`` takes.

    Args:
        train: Training graphs, each with a label ``y`` ``[1]`` or labels ``[1, num_labels]``; any
            PyG dataset, or a part of one.
        val: Validation graphs.
        test: Test graphs.

    Returns:
        The batch, with boolean ``train_mask``, ``val_mask`` and ``test_mask`` ``[num_graphs]``.

    Raises:
        GraphError: If there are no training or no validation graphs.
    """
    parts = {"train": list(train), "val": list(val), "test": list(test)}
    for name in ("train", "val"):
        if not parts[name]:
            raise GraphError(f"{name} must hold at least one graph (got none)")
    batch = Batch.from_data_list([graph for part in parts.values() for graph in part])
    start = 0
    for name, part in parts.items():
        mask = torch.zeros(batch.num_graphs, dtype=torch.bool)
        mask[start : start + len(part)] = True
        batch[f"{name}_mask"] = mask
        start += len(part)
    return batch
