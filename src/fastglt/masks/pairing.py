"""Finding the two directions of each edge, and whether they carry the same attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fastglt.masks.sorting import stable_sort

_CHUNK = 1 << 22
"""How many attribute values are compared at a time."""


def may_be_balanced(edge_index: Tensor, num_nodes: int) -> bool:
    """Whether every node has as many edges in as out, without which no graph is balanced.

    Counting takes 16 bytes a node, where sorting takes dozens an edge; with fewer edges than nodes
    it would save nothing, and the answer is yes.

    Args:
        edge_index: ``[2, num_edges]`` int64.
        num_nodes: Number of nodes.
    """
    if edge_index.size(1) < num_nodes:
        return True
    out_degree, in_degree = (torch.bincount(nodes, minlength=num_nodes) for nodes in edge_index)
    return torch.equal(out_degree, in_degree)


@dataclass(frozen=True)
class Pairing:
    """The edges of a graph without its self-loops, sorted by pair ``{u, v}``, then by direction.

    Attributes:
        position: ``[n]`` int64, columns of ``edge_index``; within a pair the edges from its
            lower to its higher node come first, and equal edges keep their order.
        is_first: ``[n]`` bool, whether an edge is the first of its pair.
        is_reverse: ``[n]`` bool, whether an edge leads from the higher to the lower node.
    """

    position: Tensor
    is_first: Tensor
    is_reverse: Tensor

    @classmethod
    def of(cls, edge_index: Tensor, num_nodes: int) -> Pairing:
        """Sort the edges of a graph, ``edge_index`` being ``[2, num_edges]`` int64."""
        source, target = edge_index
        key = torch.minimum(source, target).mul_(num_nodes)
        key.add_(torch.maximum(source, target)).mul_(2).add_(source > target)
        last = 2 * num_nodes**2
        is_loop = source == target
        key.masked_fill_(is_loop, last)
        key, position = stable_sort(key, last + 1)
        count = key.numel() - int(is_loop.count_nonzero())
        key, position = key[:count], position[:count]
        is_reverse = (key & 1).to(torch.bool)
        key = key >> 1
        is_first = torch.ones_like(is_reverse)
        torch.ne(key[1:], key[:-1], out=is_first[1:])
        return cls(position, is_first, is_reverse)

    @property
    def is_balanced(self) -> bool:
        """Whether every pair has as many edges in one direction as in the other."""
        balance = (1 - 2 * self.is_reverse.to(torch.int8)).cumsum(0, dtype=torch.int32)
        is_last = self.is_first.roll(-1)
        return not bool(balance[is_last].any())

    def disagreement(self, edge_index: Tensor, attributes: Mapping[str, Tensor]) -> str | None:
        """Where the two directions of a pair differ, in words, if they do.

        With several edges in each direction, their attributes are compared as multisets.

        Args:
            edge_index: ``[2, num_edges]``; every pair of it must be balanced.
            attributes: ``[num_edges, ...]`` each, by name.
        """
        if not attributes:
            return None
        forward, reverse = self.position[~self.is_reverse], self.position[self.is_reverse]
        pair = (self.is_first.cumsum(0, dtype=torch.int32) - 1)[~self.is_reverse]
        differ = _any_differ(attributes, forward, reverse)
        if not bool(differ.any()):
            return None
        certain = differ & ~_has_equal_neighbour(pair)
        if bool(certain.any()):
            forward, reverse = forward[certain], reverse[certain]
        else:
            among = torch.isin(pair, pair[differ])
            forward = _in_canonical_order(forward[among], pair[among], attributes)
            reverse = _in_canonical_order(reverse[among], pair[among], attributes)
        for name, values in attributes.items():
            where = _differ(values, forward, reverse).nonzero().view(-1)
            if where.numel():
                return _in_words(name, edge_index, int(forward[where[0]]), int(reverse[where[0]]))
        return None


def _in_words(name: str, edge_index: Tensor, forward: int, reverse: int) -> str:
    source, target = edge_index[:, forward].tolist()
    return (
        f"treated as directed: {name} differs between the edges {source} -> {target} and "
        f"{target} -> {source} (columns {forward} and {reverse} of edge_index)"
    )


def _any_differ(attributes: Mapping[str, Tensor], first: Tensor, second: Tensor) -> Tensor:
    result = torch.zeros_like(first, dtype=torch.bool)
    for values in attributes.values():
        result |= _differ(values, first, second)
    return result


def _differ(values: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Whether rows differ, ``[n]`` bool, for ``[n]`` positions of each; NaN equals NaN."""
    rows = _rows(values)
    result = torch.empty_like(first, dtype=torch.bool)
    step = max(1, _CHUNK // max(rows.size(1), 1))
    for start in range(0, first.numel(), step):
        chunk = slice(start, start + step)
        one, other = rows[first[chunk]], rows[second[chunk]]
        result[chunk] = ((one != other) & ~(one.isnan() & other.isnan())).any(dim=1)
    return result


def _rows(values: Tensor) -> Tensor:
    return values.detach().unsqueeze(-1).flatten(start_dim=1)


def _has_equal_neighbour(values: Tensor) -> Tensor:
    result = torch.zeros_like(values, dtype=torch.bool)
    equal = values[1:] == values[:-1]
    result[1:] |= equal
    result[:-1] |= equal
    return result


def _in_canonical_order(position: Tensor, pair: Tensor, attributes: Mapping[str, Tensor]) -> Tensor:
    """Sort edges by pair, then by attributes."""
    order = torch.arange(position.numel(), device=position.device)
    columns = [
        column for values in attributes.values() for column in _rows(values)[position].unbind(dim=1)
    ]
    for column in reversed([pair, *columns]):
        order = order[column[order].argsort(stable=True)]
    return position[order]
