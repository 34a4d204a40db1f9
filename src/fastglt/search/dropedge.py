"""DropEdge: other random edges in every training step, all of them afterwards."""

from __future__ import annotations

import torch
from torch_geometric.data import Data

from fastglt.masks import select_top
from fastglt.search.base import SearchContext, SearchMethod, SearchResult, full_masks, register
from fastglt.search.swap import num_kept_groups
from fastglt.training.known_graph import kept_view
from fastglt.training.loop import clone_state


@register
class DropEdge(SearchMethod):
    """Trains on a fresh random subset of the edges in each step and predicts on the whole graph.

    Source: Rong et al., "DropEdge: Towards Deep Graph Convolutional Networks on Node
    Classification", ICLR 2020, arXiv 1907.10903. ``edge_sparsity`` is the share that is left out of
    a step. It is a control of training: nothing is pruned in the end.

    Deviations: the two directions of an undirected edge are left out together, and exactly the
    asked number in each step. The adjacency is normalised anew for each subset, as in the source.
    """

    name = "dropedge"

    def search(self, context: SearchContext) -> SearchResult:
        """Full masks, and the subset to be drawn in each step of the retraining."""
        groups = context.groups
        count = num_kept_groups(groups, context.settings.edge_sparsity)

        def drop(data: Data, generator: torch.Generator) -> Data:
            score = torch.rand(groups.num_groups, generator=generator).to(groups.index.device)
            return kept_view(data, groups.to_edges(select_top(score, count), True))

        edge_mask, weight_mask = full_masks(context, context.model)
        return SearchResult(
            edge_mask,
            weight_mask,
            epochs=0,
            state=clone_state(context.model),
            notes=("dropedge leaves edges out while training only; the ticket keeps all",),
            augment=drop,
        )
