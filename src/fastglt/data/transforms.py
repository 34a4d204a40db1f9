"""Transforms of the catalogue, as plain records that a ticket can hold and that can be replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastglt.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch_geometric.data import Data


def replay(data: Data, records: Iterable[Mapping[str, Any]]) -> Data:
    """Apply recorded transforms in order.

    Args:
        data: The graph; it is left as it is.
        records: JSON-able records such as ``{"name": "NormalizeFeatures"}`` or ``{"name":
            "RandomSplit", "train_per_class": 20, "val_per_class": 30, "seed": 0}``.

    Returns:
        A shallow copy of the graph with the transforms applied.

    Raises:
        UnknownNameError: If a record names a transform that does not exist.
    """
    for record in records:
        settings = dict(record)
        name = str(settings.pop("name", ""))
        if name not in _TRANSFORMS:
            raise UnknownNameError("transform", name, _TRANSFORMS)
        data = _TRANSFORMS[name](data, **settings)
    return data


def _normalize_features(data: Data) -> Data:
    from torch_geometric.transforms import NormalizeFeatures

    result: Data = NormalizeFeatures()(data)
    return result


def _random_split(data: Data, *, seed: int, **counts: int) -> Data:
    import copy

    import torch

    from fastglt.data.splits import random_split

    result = copy.copy(data)
    generator = torch.Generator().manual_seed(seed)
    masks = random_split(data.y, generator=generator, **counts)
    result.train_mask, result.val_mask, result.test_mask = masks
    return result


_TRANSFORMS: dict[str, Callable[..., Data]] = {
    "NormalizeFeatures": _normalize_features,
    "RandomSplit": _random_split,
}
