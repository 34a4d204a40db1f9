"""What the forms have in common in which a graph of the user's own is kept on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from fastglt.data._checks import check_shape
from fastglt.data._npz_arrays import Arrays
from fastglt.data.entry import LINK_PREDICTION, MULTILABEL, NODE_CLASSIFICATION
from fastglt.data.links import LINK_KEYS
from fastglt.data.loading import LoadedDataset, split_record
from fastglt.data.transforms import replay
from fastglt.data.validate import check_graph, validate
from fastglt.errors import GraphError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch_geometric.data import Data

_METRICS: Final = {
    NODE_CLASSIFICATION: "accuracy",
    MULTILABEL: "roc_auc",
    LINK_PREDICTION: "roc_auc",
}
_SHARES: Final = {"train": 0.6, "val": 0.2}


def own_graph(
    data: Data,
    name: str,
    source: str,
    split_seed: int,
    split: Mapping[str, float] | None,
    transforms: Iterable[Mapping[str, Any]] | None,
) -> LoadedDataset:
    """Check a graph that was read and draw a split of its nodes where it has none.

    Args:
        data: The graph, not yet believed.
        name: What to call it.
        source: Where it was read from.
        split_seed: Seed of the split.
        split: What to draw, also instead of masks that are there; None for the usual shares.
        transforms: Records to replay instead.

    Raises:
        InputError: If a split of the nodes is asked for and edges are predicted.
        GraphError: If something is missing or malformed.
    """
    task = _task(data)
    # Before the split is drawn, so that it is not blamed for what is wrong with the graph.
    check_graph(data)
    records = _records(data, task, split_seed, split, transforms)
    data = replay(data, records)
    num_classes = validate(data, task)
    return LoadedDataset(
        name=name,
        data=data,
        num_classes=num_classes,
        task=task,
        source=source,
        transforms=records,
        metric=_METRICS[task],
        title=name,
    )


def arrays_of(data: Data, *, keep_sparse: bool) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a graph by name, views of its tensors where they are dense and on the CPU.

    Args:
        data: The graph, with a plain ``edge_index``.
        keep_sparse: Whether sparse CSR features stay sparse, as several arrays.

    Raises:
        GraphError: If the graph holds something that has no place; the message names it.
    """
    result: dict[str, np.ndarray[Any, Any]] = {}
    for key, value in data.to_dict().items():
        if key == "num_nodes":
            result[key] = np.asarray(int(value))
        elif key == "repeated_links":
            result[key] = np.asarray(bool(value))
        elif value is not None:
            result.update(_as_arrays(key, value, keep_sparse))
    return result


def _task(data: Data) -> str:
    if any(key in data for key in LINK_KEYS):
        return LINK_PREDICTION
    if data.get("y") is None:
        raise GraphError(
            "the graph must say what is to be predicted: y, or the label edges of link prediction "
            f"({', '.join(LINK_KEYS)}) (got neither)"
        )
    return MULTILABEL if data.y.dim() == 2 else NODE_CLASSIFICATION


def _records(
    data: Data,
    task: str,
    split_seed: int,
    split: Mapping[str, float] | None,
    transforms: Iterable[Mapping[str, Any]] | None,
) -> tuple[dict[str, Any], ...]:
    if transforms is not None:
        return tuple(dict(record) for record in transforms)
    if task == LINK_PREDICTION:
        if split is not None:
            raise InputError(
                "split is for nodes, and the file says which edges are predicted (got "
                f"split={dict(split)}); leave it out"
            )
        return ()
    masks = [key for key in ("train_mask", "val_mask", "test_mask") if key in data]
    if split is None and len(masks) in (1, 2):
        raise GraphError(f"the graph must have all three masks or none (got {', '.join(masks)})")
    if split is None and masks:
        return ()
    check_shape("y", data.y, (data.num_nodes, *data.y.shape[1:]))
    return (split_record(_SHARES if split is None else split, split_seed),)


def _as_arrays(key: str, value: Any, keep_sparse: bool) -> dict[str, np.ndarray[Any, Any]]:
    if key not in Arrays.WRITTEN or not isinstance(value, torch.Tensor):
        raise GraphError(
            f"data.{key} has no place in the file (places: {', '.join(Arrays.WRITTEN)}); delete it"
        )
    value = value.detach().cpu()
    if value.layout != torch.sparse_csr:
        return {key: value.numpy()}
    if not keep_sparse:
        raise GraphError(f"data.{key} must be dense to be mapped (got {value.layout}); densify it")
    return {
        f"{key}_indptr": value.crow_indices().numpy(),
        f"{key}_indices": value.col_indices().numpy(),
        f"{key}_data": value.values().numpy(),
        f"{key}_shape": np.asarray(value.shape),
    }
