"""Random pairs of nodes that are not linked."""

from __future__ import annotations

import torch
from torch import Tensor

from fastglt.errors import GraphError

_ROUNDS = 100


def pair_keys(index: Tensor, num_nodes: int) -> Tensor:
    """One int64 for each column of ``[2, n]``, the same for both directions, ``[n]``."""
    low, high = torch.minimum(index[0], index[1]), torch.maximum(index[0], index[1])
    return low * num_nodes + high


class NonEdges:
    """Draws random pairs that are neither linked nor self-loops, uniformly.

    PyG's ``negative_sampling`` draws from numpy's global state, which no seed of ours reaches.

    Args:
        keys: Sorted :func:`pair_keys` of the linked pairs ``[n]``.
        num_nodes: Number of nodes.
    """

    def __init__(self, keys: Tensor, num_nodes: int) -> None:
        self._keys = keys.cpu()
        self._num_nodes = num_nodes

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """``[2, count]`` pairs on the CPU; a pair may come twice.

        Raises:
            GraphError: If next to all pairs are linked.
        """
        parts: list[Tensor] = []
        missing = count
        for _ in range(_ROUNDS):
            pairs = torch.randint(self._num_nodes, (2, 2 * missing), generator=generator)
            pairs = pairs[:, self._is_free(pairs)][:, :missing]
            parts.append(pairs)
            missing -= pairs.size(1)
            if missing == 0:
                return torch.cat(parts, dim=1)
        raise GraphError(
            f"data has too few unlinked pairs to draw {count} negatives from: next to all of its "
            f"{self._num_nodes} nodes are linked with each other"
        )

    def _is_free(self, pairs: Tensor) -> Tensor:
        proper = pairs[0] != pairs[1]
        if not len(self._keys):
            return proper
        keys = pair_keys(pairs, self._num_nodes)
        place = torch.searchsorted(self._keys, keys).clamp_max(len(self._keys) - 1)
        return proper & (self._keys[place] != keys)
