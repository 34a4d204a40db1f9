"""One-shot pruning and gradual denoising."""

from __future__ import annotations

from fastglt.search.base import SearchContext, SearchMethod, SearchResult, register
from fastglt.search.run import cut, denoise, result_of


@register
class FastGLT(SearchMethod):
    """Pre-train, cut once, then swap noisy kept components for promising pruned ones.

    Source: Yue et al., "Fast Track to Winning Tickets", AAAI 2025, arXiv 2412.07605. The preset
    ``paper`` follows it; ``default`` adds the teacher, ERK allocation, the importance of channels,
    regularisation by density and what an edge does for the predictions as its score.
    """

    name = "fastglt"

    def search(self, context: SearchContext) -> SearchResult:
        """Pre-train, cut, denoise; the masks with the best validation metric are returned."""
        run = cut(context, steps=context.settings.denoise_steps)
        denoise(run)
        return result_of(run)
