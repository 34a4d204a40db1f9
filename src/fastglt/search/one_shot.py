"""Pre-train, cut once, done."""

from __future__ import annotations

from fastglt.search.base import SearchContext, SearchMethod, SearchResult, register
from fastglt.search.run import cut, result_of


@register
class OneShot(SearchMethod):
    """A single pruning after a short pre-training: what FastGLT starts from, without denoising."""

    name = "one-shot"

    def search(self, context: SearchContext) -> SearchResult:
        """Pre-train and cut."""
        return result_of(cut(context, steps=0))
