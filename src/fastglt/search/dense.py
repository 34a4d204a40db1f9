"""Nothing is pruned: the dense model, trained once more as tickets are."""

from __future__ import annotations

from fastglt.search.base import SearchContext, SearchMethod, SearchResult, full_masks, register
from fastglt.training.loop import clone_state


@register
class Dense(SearchMethod):
    """Keeps everything, whatever sparsities are asked for, and searches nothing.

    What is retrained is the dense model under the loss of the tickets. With a teacher it is the
    control that says what the teacher is worth without any pruning; without one it repeats the
    dense run.
    """

    name = "dense"

    def search(self, context: SearchContext) -> SearchResult:
        """Full masks."""
        edge_mask, weight_mask = full_masks(context, context.model)
        return SearchResult(edge_mask, weight_mask, epochs=0, state=clone_state(context.model))
