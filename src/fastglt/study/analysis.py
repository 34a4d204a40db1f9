"""What became of a graph and of its nodes under a ticket, as JSON-able figures.

Test labels are read here, so this comes after every choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import degree, homophily, k_hop_subgraph, remove_self_loops
from torchmetrics.functional.classification import multiclass_calibration_error

HOMOPHILY_BINS = 5
"""Bins of equal width that local homophily is put into."""
NEIGHBOURHOOD = range(12, 41)
"""How many nodes a neighbourhood that is to be drawn should have."""
TRIALS = 200
"""How many nodes are tried as its middle."""


@dataclass(frozen=True)
class Outcome:
    """What a run of ``find`` leaves to look at.

    Attributes:
        data: The whole graph.
        keep: ``[num_edges]`` bool, the kept edges.
        weight_masks: Kept weights by parameter name.
        dense: The dense model's predictions on the whole graph.
        ticket: The ticket's predictions on the kept graph.
    """

    data: Data
    keep: Tensor
    weight_masks: Mapping[str, Tensor]
    dense: Tensor
    ticket: Tensor


def analyse(outcome: Outcome) -> dict[str, Any]:
    """All figures of an outcome.

    Returns:
        ``graph`` and ``layers``, and where nodes have one class each also ``groups`` (accuracy of
        test nodes by class, degree and local homophily), ``agreement`` of both models on them,
        ``calibration`` (expected calibration error of both) and a ``neighbourhood`` to draw.
    """
    data = outcome.data
    result: dict[str, Any] = {
        "graph": _graph(data, outcome.keep),
        "layers": _layers(outcome.weight_masks),
    }
    if not _has_classes(data, outcome.dense):
        return result
    result["neighbourhood"] = _neighbourhood(data, outcome.keep)
    test = data.get("test_mask")
    if test is not None and bool(test.any()):
        result |= _harm(outcome, test)
    return result


def _has_classes(data: Data, out: Tensor) -> bool:
    y = data.get("y")
    return (
        isinstance(y, Tensor)
        and y.shape == (data.num_nodes,)
        and not y.is_floating_point()
        and out.dim() == 2
        and out.size(0) == y.numel()
        and out.size(1) > 1
    )


def _layers(weight_masks: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    return [
        {"name": name, "shape": list(mask.shape), "kept": int(mask.sum()), "total": mask.numel()}
        for name, mask in weight_masks.items()
    ]


def _graph(data: Data, keep: Tensor) -> dict[str, Any]:
    before, after = _figures(data, data.edge_index), _figures(data, data.edge_index[:, keep])
    degrees = _degrees(data, data.edge_index), _degrees(data, data.edge_index[:, keep])
    return {
        "num_nodes": int(data.num_nodes),
        "before": before,
        "after": after,
        "degrees": [
            {"name": name, "before": nodes_before, "after": nodes_after}
            for name, nodes_before, nodes_after in _degree_histogram(*degrees)
        ],
    }


def _figures(data: Data, edge_index: Tensor) -> dict[str, Any]:
    """Size and shape of a graph; homophily is ``None`` where nodes have no class."""
    proper, _ = remove_self_loops(edge_index)
    source, target = proper.cpu().numpy()
    shape = (data.num_nodes, data.num_nodes)
    matrix = coo_array((torch.ones(len(source)).numpy(), (source, target)), shape)
    count, component = connected_components(matrix, directed=False)
    y = data.get("y")
    classes = isinstance(y, Tensor) and y.shape == (data.num_nodes,) and not y.is_floating_point()
    return {
        "edges": int(edge_index.size(1)),
        "isolated": int(data.num_nodes) - int(proper.unique().numel()),
        "components": int(count),
        "largest_component": int(torch.from_numpy(component).bincount().max()),
        "homophily": homophily(proper, y) if classes and proper.size(1) else None,
    }


def _degrees(data: Data, edge_index: Tensor) -> Tensor:
    """``[num_nodes]`` number of incoming edges, self-loops not counted."""
    proper, _ = remove_self_loops(edge_index)
    result: Tensor = degree(proper[1], data.num_nodes, dtype=torch.long)
    return result


def _degree_histogram(before: Tensor, after: Tensor) -> list[tuple[str, int, int]]:
    """Nodes by degree, before and after, in bins that double."""
    return [
        (name, _between(before, low, high), _between(after, low, high))
        for name, low, high in _degree_bins(int(before.max()))
    ]


def _between(values: Tensor, low: int, high: int) -> int:
    return int(((values >= low) & (values <= high)).sum())


def _degree_bins(top: int) -> list[tuple[str, int, int]]:
    """``0``, ``1``, ``2``, ``3-4``, ``5-8`` and so on up to ``top``."""
    bins = [("0", 0, 0), ("1", 1, 1), ("2", 2, 2)]
    for power in range(1, max(1, math.ceil(math.log2(max(top, 1))))):
        low, high = 2**power + 1, 2 ** (power + 1)
        bins.append((f"{low}-{high}", low, high))
    return bins


def _harm(outcome: Outcome, test: Tensor) -> dict[str, Any]:
    y = outcome.data.y[test]
    dense, ticket = outcome.dense[test], outcome.ticket[test]
    right = (dense.argmax(dim=-1) == y, ticket.argmax(dim=-1) == y)
    members = _membership(outcome.data, test)
    return {
        "groups": {
            kind: [
                {"name": name, "nodes": int(group.sum())}
                | {
                    model: float(hits[group].float().mean())
                    for model, hits in zip(("dense", "ticket"), right, strict=True)
                }
                for name, group in groups
                if bool(group.any())
            ]
            for kind, groups in members.items()
        },
        "agreement": float((dense.argmax(dim=-1) == ticket.argmax(dim=-1)).float().mean()),
        "calibration": {
            name: float(multiclass_calibration_error(out.softmax(dim=-1), y, out.size(1)))
            for name, out in (("dense", dense), ("ticket", ticket))
        },
    }


def _membership(data: Data, test: Tensor) -> dict[str, list[tuple[str, Tensor]]]:
    """Groups of the test nodes by kind: name and ``[num_test_nodes]`` bool."""
    y, degrees = data.y[test], _degrees(data, data.edge_index)
    local = _local_homophily(data)[test]
    bins = [
        (f"{step / HOMOPHILY_BINS:.1f}-{(step + 1) / HOMOPHILY_BINS:.1f}",
         (local * HOMOPHILY_BINS).long().clamp(max=HOMOPHILY_BINS - 1) == step)
        for step in range(HOMOPHILY_BINS)
    ]  # fmt: skip
    isolated = local.isnan()
    return {
        "class": [(str(label), y == label) for label in range(int(data.y.max()) + 1)],
        "degree": [
            (name, (degrees[test] >= low) & (degrees[test] <= high))
            for name, low, high in _degree_bins(int(degrees.max()))
        ],
        "homophily": [(name, group & ~isolated) for name, group in bins],
    }


def _local_homophily(data: Data) -> Tensor:
    """``[num_nodes]`` share of a node's neighbours in its class; NaN without neighbours."""
    (source, target), _ = remove_self_loops(data.edge_index)
    same = (data.y[source] == data.y[target]).float()
    total = torch.zeros(data.num_nodes, device=same.device).index_add_(0, target, same)
    share: Tensor = total / degree(target, data.num_nodes)
    return share


def _neighbourhood(data: Data, keep: Tensor) -> dict[str, Any] | None:
    """Nodes and edges around a node, two hops wide, with the kept edges marked."""
    for middle in range(min(TRIALS, data.num_nodes)):
        nodes, edge_index, _, mask = k_hop_subgraph(
            middle, 2, data.edge_index, relabel_nodes=True, num_nodes=data.num_nodes
        )
        if len(nodes) in NEIGHBOURHOOD:
            return {
                "middle": middle,
                "nodes": [
                    {"id": int(node), "class": int(label)}
                    for node, label in zip(nodes, data.y[nodes], strict=True)
                ],
                "edges": _drawn_edges(edge_index, keep[mask]),
            }
    return None


def _drawn_edges(edge_index: Tensor, keep: Tensor) -> list[list[Any]]:
    """Pairs of nodes, once each, and whether an edge between them is kept."""
    pairs: dict[tuple[int, int], bool] = {}
    for source, target, kept in zip(*edge_index.tolist(), keep.tolist(), strict=True):
        pair = min(source, target), max(source, target)
        pairs[pair] = pairs.get(pair, False) or kept
    return [[*pair, kept] for pair, kept in pairs.items() if pair[0] != pair[1]]
