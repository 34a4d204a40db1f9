"""A narrower dense model with as many weights: is sparsity worth anything?"""

from __future__ import annotations

from torch import nn

from fastglt.errors import InputError
from fastglt.gating import initialize_lazy, prunable_weights
from fastglt.masks import num_removed
from fastglt.search.base import (
    Narrow,
    SearchContext,
    SearchMethod,
    SearchResult,
    full_masks,
    register,
)
from fastglt.training.loop import clone_state
from fastglt.training.seeding import seeded


@register
class SmallDense(SearchMethod):
    """The widest model of the same kind that has no more weights than the ticket would keep.

    Its prunable weights are counted against ``(1 - weight_sparsity)`` of the wide model's. It keeps
    all edges, also where an edge sparsity is asked for: it is the control of the weights. Where
    even the narrowest model has more weights, that one is taken and a note says so.
    """

    name = "small-dense"

    def search(self, context: SearchContext) -> SearchResult:
        """Choose the width; nothing is trained."""
        settings = context.settings
        if context.narrow is None:
            raise InputError(
                "method 'small-dense' has to build the model narrower: pass "
                "narrow=lambda width: Model(..., hidden_channels=width) to find"
            )
        if settings.recover != "rewind":
            raise InputError('method "small-dense" trains a new model; use recover="rewind"')
        total = _num_weights(context.model, context)
        budget = total - num_removed(total, settings.weight_sparsity)
        width = self._width(context, context.narrow, budget)
        model = self._build(context, context.narrow, width)
        count = _num_weights(model, context)
        notes: tuple[str, ...] = ()
        if count > budget:
            notes = (
                f"the narrowest model has {count:,} prunable weights, more than the {budget:,} of "
                "the budget",
            )
        if settings.edge_sparsity > 0:
            notes += ("small-dense keeps all edges",)
        edge_mask, weight_mask = full_masks(context, model)
        return SearchResult(
            edge_mask,
            weight_mask,
            epochs=0,
            state=clone_state(model),
            metrics={"width": width},
            notes=notes,
            model=model,
        )

    def _width(self, context: SearchContext, narrow: Narrow, budget: int) -> int:
        """The largest width within the budget, at least 1, by doubling and bisection."""

        def count(width: int) -> int:
            return _num_weights(self._build(context, narrow, width), context)

        low, high, fewer = 1, 2, count(1)
        while (more := count(high)) <= budget:
            if more <= fewer:
                raise InputError(
                    f"narrow({high}) must have more prunable weights than narrow({low}) "
                    f"(got {more:,} and {fewer:,})"
                )
            low, high, fewer = high, 2 * high, more
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if count(middle) <= budget else (low, middle)
        return low

    @staticmethod
    def _build(context: SearchContext, narrow: Narrow, width: int) -> nn.Module:
        with seeded(context.settings.seed):
            model = narrow(width)
            if not isinstance(model, nn.Module):
                raise InputError(
                    f"narrow({width}) must return a torch.nn.Module (got {type(model).__name__})"
                )
            model = model.to(context.groups.index.device)
            task = context.objective.task
            initialize_lazy(model, lambda lazy: task.forward(lazy, context.data))
        return model


def _num_weights(model: nn.Module, context: SearchContext) -> int:
    settings = context.settings
    weights = prunable_weights(model, settings.include, settings.exclude)
    return sum(weight.numel() for weight in weights.values())
