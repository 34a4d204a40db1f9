"""Which models can be searched, and how they are made ready for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import prune
from torch_geometric.nn import MessagePassing

from fastglt.errors import ModelError
from fastglt.gating.parameters import check_initialized, prunable_weights


def initialize_lazy(model: nn.Module, call: Callable[[nn.Module], object]) -> None:
    """Give lazy modules their shapes by one forward pass; other models are not run.

    The new parameters are drawn from the global random state as it is, so seeding it makes them
    reproducible. Afterwards that state, the running statistics, every other buffer and the
    training flags are as before.

    Args:
        model: The model; its lazy parameters and buffers are initialised in place.
        call: Calls the model that it is given on the graph.
    """
    if not any(is_lazy(tensor) for tensor in chain(model.parameters(), model.buffers())):
        return
    before = [(buffer, buffer.clone()) for buffer in model.buffers() if not is_lazy(buffer)]
    gpus = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(gpus)), _evaluating(model), torch.no_grad():
        call(model)
        for buffer, value in before:
            buffer.copy_(value)


def check_model(
    model: nn.Module, include: Collection[str] = (), exclude: Collection[str] = ()
) -> None:
    """Refuse models that cannot be searched exactly.

    Args:
        model: The model, after :func:`initialize_lazy`.
        include: See :func:`~fastglt.gating.prunable_weights`.
        exclude: See :func:`~fastglt.gating.prunable_weights`.

    Raises:
        InputError: If a pattern matches no parameter.
        ModelError: If a conv caches its normalised graph (it would ignore a changed one), a
            parameter is not initialised yet, there is nothing to train or to prune, or
            ``torch.nn.utils.prune`` is already at work.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"model must be a torch.nn.Module (got {type(model).__name__})")
    for name, module in model.named_modules():
        if isinstance(module, MessagePassing) and getattr(module, "cached", False):
            raise ModelError(
                f"{type(module).__name__} {name!r} has cached=True and would silently ignore a "
                "pruned graph; build it with cached=False"
            )
    if prune.is_pruned(model):
        raise ModelError(
            "the model must not be pruned by torch.nn.utils.prune already: two masks would fight "
            "over its weights; make that one permanent with torch.nn.utils.prune.remove"
        )
    check_initialized(model)
    parameters = list(model.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        raise ModelError("the model has no parameters that require gradients; unfreeze some")
    if not prunable_weights(model, include, exclude):
        raise ModelError(
            "the model has no prunable weights (expected at least one trainable torch.nn.Linear, "
            f"torch_geometric.nn.Linear or matrix of a conv, got {type(model).__name__}); "
            "name others in include, or fewer in exclude"
        )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode, within the context; a lazy module is the same object before and after."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
