"""What each task needs besides the graph: labels and masks, or label edges."""

from __future__ import annotations

from itertools import combinations
from typing import Final

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.utils import is_undirected

from fastglt.data._checks import check_pairs, check_shape, tensor
from fastglt.data.forms import message_edges
from fastglt.data.links import EVALUATION_POSITIVES, LINK_KEYS, pair_codes
from fastglt.errors import GraphError

_MASKS: Final = ("train_mask", "val_mask", "test_mask")
_POSITIVES: Final = ("train_pos_edge_label_index", *EVALUATION_POSITIVES)
_CONTRADICTIONS: Final = tuple((key, key.replace("pos", "neg")) for key in EVALUATION_POSITIVES)


def check_masks(data: Data, size: int, what: str = "node") -> dict[str, Tensor]:
    """Check the masks, ``[size]`` boolean each, and return them; there may be no test mask.

    Args:
        data: The graph.
        size: Number of nodes, or of graphs.
        what: What the masks choose from, for the messages.

    Raises:
        GraphError: If a mask is missing, malformed or empty, or two overlap.
    """
    if data.get("train_mask") is None:
        _refuse_pyg_links(data)
    masks: dict[str, Tensor] = {}
    for key in _MASKS:
        if data.get(key) is None and key == "test_mask":
            continue
        mask = tensor(data, key)
        if mask.dtype != torch.bool:
            raise GraphError(f"data.{key} must be torch.bool (got {mask.dtype})")
        hint = f"; choose one split, e.g. data.{key}[:, 0]" if mask.dim() == 2 else ""
        check_shape(key, mask, (size,), hint)
        if key != "test_mask" and not bool(mask.any()):
            raise GraphError(f"data.{key} must hold at least one {what} (got none)")
        masks[key] = mask
    for (key, mask), (other_key, other) in combinations(masks.items(), 2):
        both = (mask & other).nonzero()
        if both.numel():
            raise GraphError(
                f"data.{key} and data.{other_key} must not overlap "
                f"(got {what} {int(both[0])} in both, {both.size(0)} in all)"
            )
    return masks


def check_classes(data: Data, size: int, masks: dict[str, Tensor], what: str = "node") -> int:
    """Check int64 ``y`` ``[size]`` where a mask looks at it; return the number of classes.

    Raises:
        GraphError: If it is missing, malformed or negative.
    """
    y = tensor(data, "y")
    if y.dim() == 2 and y.size(1) > 1:
        raise GraphError(
            f"data.y must have shape [{size}] for one label a {what} (got {list(y.shape)}); for "
            "several labels use data.y.float() and the task multilabel-node-classification"
        )
    if y.dtype != torch.long:
        raise GraphError(f"data.y must be torch.int64 (got {y.dtype})")
    hint = "; use data.y.squeeze(-1)" if tuple(y.shape) == (size, 1) else ""
    check_shape("y", y, (size,), hint)
    used = _used(masks)
    bad = (used & (y < 0)).nonzero()
    if bad.numel():
        first = int(bad[0])
        raise GraphError(
            f"data.y must be in [0, num_classes) where a mask is True (got {int(y[first])} at "
            f"{what} {first}); a {what} with a negative label is unlabelled and belongs in no mask"
        )
    return int(y[used].max()) + 1


def check_multilabel(data: Data, size: int, masks: dict[str, Tensor], what: str = "node") -> int:
    """Check float ``y`` ``[size, num_labels]`` of 0, 1 and NaN; return ``num_labels``.

    Raises:
        GraphError: If it is missing, malformed or holds another number.
    """
    y = tensor(data, "y")
    if not y.is_floating_point():
        raise GraphError(f"data.y must be floating point (got {y.dtype}); use data.y.float()")
    if y.dim() != 2 or y.size(0) != size or y.size(1) == 0:
        raise GraphError(f"data.y must have shape [{size}, num_labels] (got {list(y.shape)})")
    wrong = ~((y == 0) | (y == 1) | y.isnan())
    bad = (wrong & _used(masks).unsqueeze(1)).nonzero()
    if bad.numel():
        row, column = bad[0].tolist()
        raise GraphError(
            "data.y must be 0, 1 or NaN for unlabelled "
            f"(got {float(y[row, column])} at {what} {row}, label {column})"
        )
    return int(y.size(1))


def check_links(data: Data, num_nodes: int) -> int:
    """Check the label edges, and that no validation or test positive is known; return 0.

    Raises:
        GraphError: If one is missing or malformed, a validation or test positive is a message
            edge, or (unless ``data.repeated_links``) a pair is positive in two splits or both
            positive and negative in one.
    """
    if all(data.get(key) is None for key in LINK_KEYS):
        _refuse_pyg_links(data)
    for key in LINK_KEYS:
        check_pairs(key, tensor(data, key), num_nodes, "num_label_edges")
        if data[key].size(1) == 0:
            raise GraphError(f"data.{key} must hold at least one pair of nodes (got none)")
    edges = message_edges(data)
    messages = pair_codes(edges, num_nodes)
    for key in EVALUATION_POSITIVES:
        pairs = data[key]
        # The direction in which a pair is written says nothing on an undirected graph, whose
        # messages pass both ways; on a directed one the opposite edge is another edge.
        seen = torch.isin(pair_codes(pairs, num_nodes), messages).nonzero()
        if seen.numel():
            column = int(seen[0])
            raise GraphError(
                f"data.{key} must not be among the message-passing edges "
                f"(got {tuple(pairs[:, column].tolist())} at column {column}, "
                f"{seen.size(0)} in all); fastglt.data.links.remove_evaluation_edges takes them out"
            )
    if not data.get("repeated_links"):
        _check_distinct(data, num_nodes, is_undirected(edges, num_nodes=num_nodes))
    return 0


def _refuse_pyg_links(data: Data) -> None:
    """Say what to do with one of the graphs that PyG's ``RandomLinkSplit`` makes."""
    for key in ("edge_label_index", "pos_edge_label_index"):
        if data.get(key) is not None:
            raise GraphError(
                f"data must hold the links of all splits, {LINK_KEYS[0]} and so on (got {key}, as "
                "RandomLinkSplit makes it for one split); split the whole graph with "
                "fastglt.data.random_link_split, or join the three graphs with "
                "fastglt.data.from_link_splits"
            )


def _check_distinct(data: Data, num_nodes: int, undirected: bool) -> None:
    """Refuse a pair that is positive in two splits, or positive and negative in one."""
    codes = {
        key: pair_codes(data[key].sort(dim=0).values if undirected else data[key], num_nodes)
        for key in LINK_KEYS
    }
    for first, second in (*combinations(_POSITIVES, 2), *_CONTRADICTIONS):
        shared = torch.isin(codes[second], codes[first]).nonzero()
        if shared.numel():
            column = int(shared[0])
            hint = (
                "where nodes are linked again later, as in a split by time, set "
                "data.repeated_links = True"
                if second in _POSITIVES
                else "draw negatives among the pairs without an edge"
            )
            raise GraphError(
                f"data.{second} must share no pair with data.{first} "
                f"(got {tuple(data[second][:, column].tolist())} at column {column}, "
                f"{shared.size(0)} in all); {hint}"
            )


def check_batch(data: Data) -> int:
    """Expect a batch of graphs and return their number.

    Raises:
        GraphError: If it is a single graph, or nodes are not assigned to graphs in order.
    """
    if not isinstance(data, Batch):
        raise GraphError(
            f"data must be a torch_geometric.data.Batch (got {type(data).__name__}); "
            "make one with Batch.from_data_list"
        )
    batch = tensor(data, "batch")
    num_graphs = int(data.num_graphs)
    bad = ((batch < 0) | (batch >= num_graphs)).nonzero()
    if bad.numel():
        node = int(bad[0])
        raise GraphError(
            f"data.batch must be in [0, {num_graphs - 1}] for {num_graphs} graphs "
            f"(got {int(batch[node])} at node {node})"
        )
    return num_graphs


def _used(masks: dict[str, Tensor]) -> Tensor:
    """Where some mask looks."""
    return torch.stack(list(masks.values())).any(dim=0)
