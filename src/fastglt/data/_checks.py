"""Checks of single tensors of a graph that several validators share."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch_geometric.data import Data

from fastglt.errors import GraphError

_CHUNK: Final = 1 << 22
"""How many numbers are checked at a time."""


def tensor(data: Data, key: str) -> Tensor:
    """The tensor under a key.

    Raises:
        GraphError: If it is missing, no tensor or not on the device of the features.
    """
    value = data.get(key)
    if value is None:
        raise GraphError(f"data.{key} is missing")
    if not isinstance(value, Tensor):
        raise GraphError(f"data.{key} must be a torch.Tensor (got {type(value).__name__})")
    x = data.get("x")
    if isinstance(x, Tensor) and value.device != x.device:
        raise GraphError(
            f"data.{key} must be on the device of data.x, {x.device} (got {value.device})"
        )
    return value


def check_shape(key: str, value: Tensor, shape: tuple[int, ...], hint: str = "") -> None:
    """Expect exactly this shape.

    Raises:
        GraphError: If it is another one.
    """
    if tuple(value.shape) != shape:
        raise GraphError(
            f"data.{key} must have shape {list(shape)} (got {list(value.shape)}){hint}"
        )


def check_finite(key: str, values: Tensor, what: str) -> None:
    """Expect finite numbers in a tensor whose first dimension counts ``what``.

    Raises:
        GraphError: If there is NaN or infinity; the message names the first.
    """
    step = max(1, _CHUNK // max(values[:1].numel(), 1))
    for start in range(0, len(values), step):
        bad = (~torch.isfinite(values[start : start + step])).nonzero()
        if bad.numel():
            position = bad[0].tolist()
            position[0] += start
            column = f", column {position[1]}" if len(position) > 1 else ""
            raise GraphError(
                f"data.{key} must be finite (got {float(values[tuple(position)])} at {what} "
                f"{position[0]}{column})"
            )


def check_pairs(key: str, pairs: Tensor, num_nodes: int, columns: str) -> None:
    """Expect int64 node numbers ``[2, n]`` within the graph.

    Args:
        key: Name of the tensor in the graph.
        pairs: The tensor.
        num_nodes: Number of nodes.
        columns: What the second dimension counts, for the message.

    Raises:
        GraphError: If type, shape or a number is wrong; the message names its position.
    """
    if pairs.layout != torch.strided:
        raise GraphError(f"data.{key} must be dense (got {pairs.layout})")
    if pairs.dtype != torch.long:
        raise GraphError(f"data.{key} must be torch.int64 (got {pairs.dtype})")
    if pairs.dim() != 2 or pairs.size(0) != 2:
        raise GraphError(f"data.{key} must have shape [2, {columns}] (got {list(pairs.shape)})")
    if pairs.numel() == 0:
        return
    # The smallest and the largest number need no memory, which counts for many millions of edges.
    low, high = pairs.aminmax()
    if int(low) < 0 or int(high) >= num_nodes:
        bad = ((pairs < 0) | (pairs >= num_nodes)).t().nonzero()
        column, row = bad[0].tolist()
        raise GraphError(
            f"data.{key} must be in [0, {num_nodes - 1}] for {num_nodes} nodes (got "
            f"{int(pairs[row, column])} at row {row}, column {column})"
        )
