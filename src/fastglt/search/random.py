"""Random masks: the control that every method must beat."""

from __future__ import annotations

import torch

from fastglt import scores
from fastglt.gating import prunable_weights
from fastglt.masks import EdgeMask, select_top
from fastglt.search.base import SearchContext, SearchMethod, SearchResult, cut_as_asked, register
from fastglt.search.swap import num_kept_groups
from fastglt.training.loop import clone_state


@register
class RandomSearch(SearchMethod):
    """Uniformly random edge groups, and uniformly random weights within each layer's budget.

    The layers' budgets follow the same allocation rule as every other method's.
    """

    name = "random"

    def search(self, context: SearchContext) -> SearchResult:
        """Draw the masks; nothing is trained."""
        settings, groups = context.settings, context.groups
        weight_scores = scores.uniform_noise(
            prunable_weights(context.model, settings.include, settings.exclude), context.generator
        )
        weight_mask = cut_as_asked(weight_scores, settings)
        edge_score = torch.rand(groups.num_groups, generator=context.generator)
        keep = select_top(edge_score, num_kept_groups(groups, settings.edge_sparsity))
        edge_mask = EdgeMask(groups, keep.to(groups.index.device))
        return SearchResult(edge_mask, weight_mask, epochs=0, state=clone_state(context.model))
