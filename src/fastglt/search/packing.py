"""What a search found, as a checkpoint keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fastglt.masks import EdgeGroups, EdgeMask, WeightMask
from fastglt.search.base import SearchResult
from fastglt.training.states import check_tensor


def packed_result(result: SearchResult) -> dict[str, Any] | None:
    """A result as tensors, numbers, text and containers of them.

    ``None`` where it has a model or a function in it; such a search has to be run again.
    """
    if result.model is not None or result.augment is not None:
        return None
    return {
        "keep": result.edge_mask.keep,
        "weight_mask": dict(result.weight_mask),
        "epochs": result.epochs,
        "state": result.state,
        "history": result.history,
        "metrics": result.metrics,
        "notes": tuple(result.notes),
        "start": result.start,
    }


def unpacked_result(groups: EdgeGroups, packed: Mapping[str, Any]) -> SearchResult:
    """Undo :func:`packed_result`.

    Args:
        groups: The edge groups that were searched.
        packed: What it returned, on any device.

    Raises:
        InputError: If the masks are of other groups.
    """
    full = EdgeMask.full(groups)
    check_tensor(packed["keep"], full.keep, "keep")
    device = full.keep.device

    def here(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(device) for name, tensor in tensors.items()}

    return SearchResult(
        EdgeMask(groups, packed["keep"].to(device)),
        WeightMask(here(packed["weight_mask"])),
        packed["epochs"],
        here(packed["state"]),
        packed["history"],
        packed["metrics"],
        packed["notes"],
        None if packed["start"] is None else here(packed["start"]),
    )
