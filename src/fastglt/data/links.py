"""Link prediction: which edges are supervision, and which ones messages may pass along.

``data.edge_index`` holds the message-passing edges. Supervision is int64 ``[2, n]`` in
``train_pos_edge_label_index``, ``val_pos_edge_label_index``, ``val_neg_edge_label_index``,
``test_pos_edge_label_index`` and ``test_neg_edge_label_index``; an undirected edge is there once.

No pair is positive in two splits, or both positive and negative in one, unless the graph says
``repeated_links = True``: nodes that were linked before are linked again, as in a split by time.
"""

from __future__ import annotations

import copy
import math
from fractions import Fraction
from typing import Final

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import is_undirected

from fastglt.data._arguments import check_integer, exact_share
from fastglt.data.forms import to_edge_index
from fastglt.errors import GraphError, InputError
from fastglt.gating import keep_edges

EVALUATION_POSITIVES: Final = ("val_pos_edge_label_index", "test_pos_edge_label_index")
LINK_KEYS: Final = (
    "train_pos_edge_label_index",
    "val_pos_edge_label_index",
    "val_neg_edge_label_index",
    "test_pos_edge_label_index",
    "test_neg_edge_label_index",
)
_NODE_KEYS: Final = ("y", "train_mask", "val_mask", "test_mask")
_PYG_KEYS: Final = tuple(
    f"{sign}edge_label{suffix}" for sign in ("", "pos_", "neg_") for suffix in ("", "_index")
)
_MOST_ROUNDS: Final = 200


def pair_codes(pairs: Tensor, num_nodes: int) -> Tensor:
    """One number for each ordered pair ``[2, n]``: ``source * num_nodes + target``, ``[n]``."""
    return pairs[0] * num_nodes + pairs[1]


def random_link_split(
    data: Data,
    val: float = 0.05,
    test: float = 0.1,
    seed: int = 0,
    *,
    negatives: float = 1.0,
) -> Data:
    """Turn any graph into a link-prediction graph.

    On an undirected graph the two directions of an edge, and all its repetitions, stay together.
    Validation and test positives are taken out of ``edge_index``; what stays there are the
    training positives, with their weights and attributes, and self-loops, which are no
    positives. Negatives are pairs of different nodes that no edge of the whole graph joins, on a
    directed graph in that direction: the opposite edge may be there. No pair is a negative twice.

    Args:
        data: The graph, its edges in any form of :mod:`fastglt.data.forms`; it is left as it is.
            Labels and masks of nodes are left out of the result.
        val: Share of the edges that become validation positives, in (0, 1).
        test: Share of the edges that become test positives, in (0, 1); ``val + test < 1``.
        seed: Seed of the split and of the negatives, at least 0.
        negatives: Number of negatives for each validation or test positive, above 0.

    Returns:
        A shallow copy with the edges ``[2, num_message_edges]`` in their given order and the keys
        of this module, each ``[2, n]``; on an undirected graph with ``source < target``.

    Raises:
        InputError: If a share, the seed or ``negatives`` is out of range.
        GraphError: If there are too few edges or too few pairs that are not edges.
    """
    counts = _shares(val, test)
    _check_draw(seed, negatives)
    data = to_edge_index(data)
    num_nodes = int(data.num_nodes or 0)
    undirected = is_undirected(data.edge_index, num_nodes=num_nodes)
    ordered = data.edge_index.sort(dim=0).values if undirected else data.edge_index
    proper = ordered[0] != ordered[1]
    # Every edge, undirected ones and repeated ones once, and which edge each column is of.
    edges, edge_of = torch.unique(pair_codes(ordered, num_nodes)[proper], return_inverse=True)
    num_val, num_test = (math.floor(share * edges.numel()) for share in counts)
    if min(num_val, num_test) == 0:
        raise GraphError(
            f"data.edge_index must have enough edges for val {val} and test {test} to take at "
            f"least one each (got {edges.numel()})"
        )
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(edges.numel(), generator=generator).to(edges.device)
    num_held_out = num_val + num_test
    val_part, test_part = order[:num_val], order[num_val:num_held_out]
    train_part = order[num_held_out:]
    is_message = torch.zeros_like(edges, dtype=torch.bool)
    is_message[train_part] = True
    keep = torch.ones_like(proper)
    keep[proper] = is_message[edge_of]
    num_val_neg, num_test_neg = (max(1, round(negatives * n)) for n in (num_val, num_test))
    absent = _absent_pairs(edges, num_val_neg + num_test_neg, num_nodes, undirected, generator)
    codes = {
        "train_pos": edges[train_part.sort().values],
        "val_pos": edges[val_part],
        "val_neg": absent[:num_val_neg],
        "test_pos": edges[test_part],
        "test_neg": absent[num_val_neg:],
    }
    result = keep_edges(_without(data, *_NODE_KEYS), keep)
    for name, code in codes.items():
        result[f"{name}_edge_label_index"] = torch.stack([code // num_nodes, code % num_nodes])
    return result


def from_link_splits(train_data: Data, val_data: Data, test_data: Data) -> Data:
    """Join the three graphs that PyG's ``RandomLinkSplit`` makes into one.

    Args:
        train_data: Its messages become ``edge_index``; its positives are the training positives.
        val_data: Its positives and negatives are for validation.
        test_data: Its positives and negatives are for testing. Each of the three has
            ``edge_label_index`` with ``edge_label``, positive where above 0, or
            ``pos_edge_label_index`` and ``neg_edge_label_index`` (``split_labels=True``).

    Returns:
        A shallow copy of ``train_data`` with the keys of this module. Messages that the other two
        graphs have beyond those of the training graph are left out: no evaluation sees more
        edges than the search could prune.

    Raises:
        GraphError: If a key is missing.
    """
    result = _without(train_data, *_PYG_KEYS)
    result.train_pos_edge_label_index, _ = _labelled(train_data, "train_data")
    for name, part in (("val", val_data), ("test", test_data)):
        positive, negative = _labelled(part, f"{name}_data")
        if negative is None or negative.size(1) == 0:
            raise GraphError(
                f"{name}_data must have negatives (got none); "
                "leave neg_sampling_ratio of RandomLinkSplit above 0"
            )
        result[f"{name}_pos_edge_label_index"] = positive
        result[f"{name}_neg_edge_label_index"] = negative
    result.num_nodes = train_data.num_nodes
    return result


def remove_evaluation_edges(data: Data) -> Data:
    """Take validation and test positives out of the messages, in both directions.

    Args:
        data: A link-prediction graph; it is left as it is.

    Returns:
        A shallow copy whose ``edge_index`` holds none of them; weights and attributes stay
        aligned.
    """
    num_nodes = int(data.num_nodes or 0)
    positives = torch.cat([data[key] for key in EVALUATION_POSITIVES if key in data], dim=1)
    codes = torch.cat([pair_codes(positives, num_nodes), pair_codes(positives.flip(0), num_nodes)])
    return keep_edges(data, ~torch.isin(pair_codes(data.edge_index, num_nodes), codes))


def _shares(val: float, test: float) -> tuple[Fraction, Fraction]:
    shares = exact_share("val", val), exact_share("test", test)
    if sum(shares) >= 1:
        raise InputError(f"val + test must be below 1 (got {val} + {test})")
    return shares


def _check_draw(seed: int, negatives: float) -> None:
    check_integer("seed", seed)
    if not 0 < negatives < math.inf:
        raise InputError(f"negatives must be finite and above 0 (got {negatives!r})")


def _absent_pairs(
    edges: Tensor, count: int, num_nodes: int, undirected: bool, generator: torch.Generator
) -> Tensor:
    """``[count]`` distinct codes of pairs of different nodes that are not among ``edges``."""
    room = num_nodes * (num_nodes - 1) // (2 if undirected else 1) - edges.numel()
    if count > room:
        raise GraphError(
            f"data must have at least {count} pairs of nodes without an edge, for the negatives "
            f"(got {room}); lower negatives, val or test"
        )
    # Not PyG's negative_sampling, which draws from the global state.
    found = edges.new_empty(0)
    rounds = 0
    while found.numel() < count and rounds < _MOST_ROUNDS:
        draws = 2 * (count - found.numel()) + 16
        pairs = torch.randint(num_nodes, (2, draws), generator=generator).to(edges.device)
        if undirected:
            pairs = pairs.sort(dim=0).values
        fresh = torch.unique(pair_codes(pairs[:, pairs[0] != pairs[1]], num_nodes))
        fresh = fresh[~torch.isin(fresh, torch.cat([edges, found]))]
        # Sorted by unique: cutting the surplus off the end would leave out the last nodes.
        mixed = torch.randperm(fresh.numel(), generator=generator).to(edges.device)
        found = torch.cat([found, fresh[mixed]])[:count]
        rounds += 1
    if found.numel() < count:
        raise GraphError(
            f"data is too dense to draw {count} negatives (got {found.numel()} in {rounds} "
            "rounds); lower negatives, val or test"
        )
    return found


def _without(data: Data, *keys: str) -> Data:
    result = copy.copy(data)
    for key in keys:
        if key in result:
            del result[key]
    return result


def _labelled(data: Data, name: str) -> tuple[Tensor, Tensor | None]:
    """Positives and negatives of one graph of ``RandomLinkSplit``, each ``[2, n]``."""
    if data.get("pos_edge_label_index") is not None:
        return data.pos_edge_label_index, data.get("neg_edge_label_index")
    if data.get("edge_label_index") is None or data.get("edge_label") is None:
        raise GraphError(
            f"{name} must have edge_label_index and edge_label (got neither them nor "
            "pos_edge_label_index); make it with RandomLinkSplit"
        )
    positive = data.edge_label > 0
    return data.edge_label_index[:, positive], data.edge_label_index[:, ~positive]
