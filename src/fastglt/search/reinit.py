"""The ticket's masks with fresh weights: is the initialisation part of the ticket?"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from fastglt.errors import InputError, ModelError
from fastglt.gating import prunable_weights
from fastglt.search.base import SearchContext, SearchMethod, SearchResult, get_method, register
from fastglt.training.loop import clone_state
from fastglt.training.seeding import seeded

FRESH = 1_000_003
"""Added to the seed for the fresh weights."""


@register
class Reinit(SearchMethod):
    """Masks as :class:`~fastglt.search.fastglt.FastGLT` finds them, retrained from other weights.

    Source: the random re-initialisation of Frankle and Carbin, "The Lottery Ticket Hypothesis",
    ICLR 2019, arXiv 1803.03635. A ticket that wins by its initialisation loses here; one that wins
    by its masks alone does not.
    """

    name = "reinit"

    def search(self, context: SearchContext) -> SearchResult:
        """Search the masks, then draw the weights anew by the modules' ``reset_parameters``."""
        if context.settings.recover != "rewind":
            raise InputError('method "reinit" retrains from fresh weights; use recover="rewind"')
        fresh = fresh_state(context.model, context.settings.seed + FRESH)
        return replace(get_method("fastglt").search(context), start=fresh)


def fresh_state(model: nn.Module, seed: int) -> dict[str, Tensor]:
    """State dict of the model with its weights drawn anew.

    Args:
        model: The model; it is not changed.
        seed: Seed of the weights.

    Raises:
        ModelError: If a module holds parameters and neither it nor one that it is part of has
            ``reset_parameters``, or if that leaves a matrix as it was.
    """
    other = copy.deepcopy(model)
    before = {name: weight.detach().clone() for name, weight in prunable_weights(other).items()}
    with seeded(seed):
        _reset(other, "")
    for name, weight in prunable_weights(other).items():
        if torch.equal(weight, before[name]):
            raise ModelError(
                f"reset_parameters of the model leaves {name!r} as it was, so its weights cannot "
                "be drawn anew"
            )
    return clone_state(other)


def _reset(module: nn.Module, name: str) -> None:
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()
        return
    if next(module.parameters(recurse=False), None) is not None:
        raise ModelError(
            f"{type(module).__name__} {name!r} has no reset_parameters(), so its weights cannot be "
            "drawn anew; give it one, or leave method 'reinit' out"
        )
    for child_name, child in module.named_children():
        _reset(child, f"{name}.{child_name}" if name else child_name)
