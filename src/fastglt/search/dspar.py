"""DSpar: edges sampled by the degrees of their ends."""

from __future__ import annotations

from fastglt import scores
from fastglt.masks import EdgeMask, select_top
from fastglt.search.base import SearchContext, SearchMethod, SearchResult, full_masks, register
from fastglt.search.swap import num_kept_groups
from fastglt.training.loop import clone_state


@register
class DSpar(SearchMethod):
    """Samples edges with probability proportional to ``1 / d_u + 1 / d_v``; weights stay.

    Source: Liu et al., "DSpar: An Embarrassingly Simple Strategy for Efficient GNN Training and
    Inference via Degree-Based Sparsification", TMLR 2023. The score bounds effective resistance.

    Deviations: exactly the asked number of edges is drawn, without replacement; kept edges are
    plain, where the source weights them by the inverse of their probability, so that masks of all
    methods mean the same.
    """

    name = "dspar"

    def search(self, context: SearchContext) -> SearchResult:
        """Draw the edges; nothing is trained."""
        groups = context.groups
        full = EdgeMask.full(groups).keep
        rate = scores.inverse_degrees(groups, full)
        score = scores.sampling_order(rate, context.generator)
        keep = select_top(score, num_kept_groups(groups, context.settings.edge_sparsity))
        _, weight_mask = full_masks(context, context.model)
        return SearchResult(
            EdgeMask(groups, keep), weight_mask, epochs=0, state=clone_state(context.model)
        )
