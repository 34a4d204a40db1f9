"""Transforms of the catalogue, as plain records that a ticket can hold and that can be replayed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from fastglt.errors import GraphError, InputError, UnknownNameError

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
        InputError: If a transform does not fit the graph.
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


def _to_undirected(data: Data) -> Data:
    from torch_geometric.transforms import ToUndirected

    result: Data = ToUndirected()(data)
    return result


def _random_split(data: Data, *, seed: int, **amounts: Any) -> Data:
    import torch

    from fastglt.data.splits import fraction_split, random_split

    result = copy.copy(data)
    generator = torch.Generator().manual_seed(seed)
    draw: Callable[..., Any] = fraction_split if "train" in amounts else random_split
    masks = draw(data.y, generator=generator, **amounts)
    result.train_mask, result.val_mask, result.test_mask = masks
    return result


def _official_split(data: Data, *, column: int) -> Data:
    result = copy.copy(data)
    for key in ("train_mask", "val_mask", "test_mask"):
        masks = data[key]
        if masks.dim() != 2 or not 0 <= column < masks.size(1):
            raise InputError(
                f"column must be one of the splits in data.{key}, of shape [num_nodes, num_splits] "
                f"(got {column} for shape {list(masks.shape)})"
            )
        result[key] = masks[:, column].contiguous()
    return result


def _remove_evaluation_edges(data: Data) -> Data:
    from fastglt.data.links import remove_evaluation_edges

    result = remove_evaluation_edges(data)
    result.repeated_links = True
    return result


def _edge_features_to_nodes(data: Data, *, reduce: str) -> Data:
    from torch_geometric.utils import scatter

    if data.get("edge_attr") is None:
        raise GraphError("data.edge_attr is missing; there is nothing to gather at the nodes")
    result = copy.copy(data)
    target = data.edge_index[1]
    result.x = scatter(data.edge_attr, target, dim_size=data.num_nodes, reduce=reduce)
    return result


_TRANSFORMS: dict[str, Callable[..., Data]] = {
    "NormalizeFeatures": _normalize_features,
    "ToUndirected": _to_undirected,
    "RandomSplit": _random_split,
    "OfficialSplit": _official_split,
    "RemoveEvaluationEdges": _remove_evaluation_edges,
    "EdgeFeaturesToNodes": _edge_features_to_nodes,
}
