"""The graphs that the stages of a run see."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Data

from fastglt.errors import InputError
from fastglt.training.tasks import (
    MultiLabelNodeClassification,
    NodeClassification,
)

INDUCTIVE_TASKS = (NodeClassification.name, MultiLabelNodeClassification.name, "custom")


@dataclass(frozen=True)
class Views:
    """What of a graph a stage may look at.

    Attributes:
        whole: Everything, for validation and test.
        train: What training under the masks sees.
        search: What teacher and search see; masks are chosen on its validation nodes.
        edges: ``[num_visible_edges]`` places in ``whole`` of the edges of ``train`` and
            ``search``; ``None`` where these are the whole graph.
    """

    whole: Data
    train: Data
    search: Data
    edges: Tensor | None = None

    @property
    def are_inductive(self) -> bool:
        """Whether teacher and search see less than everything."""
        return self.edges is not None

    def whole_keep(self, keep: Tensor, unseen: Tensor | None = None) -> Tensor:
        """Spread a mask over the edges of ``search`` to all edges.

        Args:
            keep: Bool, one for each edge of ``search``.
            unseen: ``[num_edges]`` bool, what to do with the edges that ``search`` lacks; ``None``
                keeps them.
        """
        if self.edges is None:
            return keep
        result = torch.ones(self.whole.num_edges, dtype=torch.bool, device=keep.device)
        if unseen is not None:
            result &= unseen
        result[self.edges] = keep
        return result


def transductive(data: Data) -> Views:
    """Every stage sees the whole graph."""
    return Views(data, data, data)


def inductive(data: Data, holdout: float, seed: int) -> Views:
    """Validation and test nodes and all their edges are left out of training and search.

    Nothing about them, not even their number, reaches ``train`` and ``search``, which are
    subgraphs of their own. A seeded share of the training nodes, of every class where a node has
    one, takes the place of the validation nodes in ``search``.

    Args:
        data: A graph with ``edge_index``, ``x``, which may be CSR, ``y``, ``train_mask`` and
            ``val_mask``, and ``test_mask`` if there is one.
        holdout: Share of the training nodes that masks are chosen on.
        seed: Seed of the holdout.

    Raises:
        InputError: If there are too few training nodes to hold any out.
    """
    visible = ~data.val_mask
    if data.get("test_mask") is not None:
        visible = visible & ~data.test_mask
    source, target = data.edge_index
    edges = (visible[source] & visible[target]).nonzero().view(-1)
    train = _densified(data).subgraph(visible)
    for name in ("val_mask", "test_mask"):
        train[name] = torch.zeros_like(train.train_mask)
    search = copy.copy(train)
    search.val_mask = _held_out(train, holdout, seed)
    search.train_mask = train.train_mask & ~search.val_mask
    return Views(data, train, search, edges)


def _densified(data: Data) -> Data:
    """``data`` with dense features, since PyG cannot take rows of a CSR matrix."""
    if data.x.layout == torch.strided:
        return data
    result = copy.copy(data)
    result.x = data.x.to_dense()
    return result


def _held_out(data: Data, share: float, seed: int) -> Tensor:
    """``[num_nodes]`` mask of training nodes, spread evenly over the classes."""
    nodes = data.train_mask.nonzero().view(-1).cpu()
    count = round(share * len(nodes))
    if not 0 < count < len(nodes):
        raise InputError(
            f"holdout={share} of {len(nodes)} training nodes must leave some on either side "
            f"(got {count} held out)"
        )
    shuffled = nodes[torch.randperm(len(nodes), generator=torch.Generator().manual_seed(seed))]
    y = data.y[shuffled].cpu()
    if y.dim() == 1:
        shuffled = shuffled[torch.argsort(y, stable=True)]
    # Evenly spaced among nodes sorted by class.
    places = (torch.arange(count) * len(nodes)) // count
    mask = torch.zeros_like(data.train_mask)
    mask[shuffled[places]] = True
    return mask
