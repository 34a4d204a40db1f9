"""Which models can be searched, and how they are made ready for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize, prune
from torch_geometric.nn import Linear as PyGLinear
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
    if not _is_lazy(model):
        return
    before = [(buffer, buffer.clone()) for buffer in model.buffers() if not is_lazy(buffer)]
    gpus = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(gpus)), evaluating(model), torch.no_grad():
        call(model)
        for buffer, value in before:
            buffer.copy_(value)


def initialize_from_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give lazy parameters and buffers the shapes and values that a state dict has for them.

    Args:
        model: The model, changed in place unless nothing of it is lazy. What ``state`` does not
            have stays lazy.
        state: State dict of an initialised model of this architecture.
    """
    if not _is_lazy(model):
        return
    for prefix, module in model.named_modules():
        # Other modules learn their shapes from what they load.
        if not isinstance(module, (MessagePassing, nn.LazyLinear)):
            continue
        for name, parameter in module.named_parameters(prefix, recurse=False):
            if is_lazy(parameter) and name in state:
                shape = state[name].shape
                if isinstance(module, nn.LazyLinear):  # which knows its outputs
                    shape = torch.Size([module.out_features, *shape[1:]])
                parameter.materialize(shape)
    # Of another architecture, parameters keep their own shapes, which can be compared then.
    with suppress(RuntimeError):
        model.load_state_dict(state, strict=False)


def check_module(model: object) -> None:
    """Refuse what is no module.

    Raises:
        ModelError: Saying what ``model`` is.
    """
    if isinstance(model, type):
        raise ModelError(
            f"model must be a torch.nn.Module (got the class {model.__name__}); give an instance "
            "of it"
        )
    if not isinstance(model, nn.Module):
        raise ModelError(f"model must be a torch.nn.Module (got {type(model).__name__})")


def check_copyable(model: nn.Module) -> None:
    """Refuse a model that torch cannot copy.

    Raises:
        ModelError: If ``torch.nn.utils.prune`` is at work, a buffer has no shape yet, a module
            keeps a computed tensor (so does ``torch.nn.utils.weight_norm``), or ``model`` is no
            module.
    """
    check_module(model)
    _check_not_pruned(model)
    for name, module in model.named_modules():
        for key, buffer in module.named_buffers(recurse=False):
            if is_lazy(buffer):
                raise ModelError(
                    f"{type(module).__name__} {name!r} cannot be copied before its buffer {key!r} "
                    "is initialised; run the model once on the graph before, e.g. as "
                    "model(data.x, data.edge_index) in eval mode under torch.no_grad()"
                )
        for key, value in vars(module).items():
            if isinstance(value, Tensor) and not value.is_leaf:
                raise ModelError(
                    f"{type(module).__name__} {name!r} cannot be copied, since its {key!r} is "
                    "computed from parameters; of torch.nn.utils.weight_norm, use the one in "
                    "torch.nn.utils.parametrizations; where a training step left it behind, load "
                    "the state dict into a newly built model"
                )


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
            ``Linear`` of PyG is parametrized (its state dict could not be loaded again), a
            parameter is not initialised yet, there is nothing to train or to prune, or
            ``torch.nn.utils.prune`` is already at work.
    """
    check_module(model)
    for name, module in model.named_modules():
        if isinstance(module, MessagePassing) and getattr(module, "cached", False):
            raise ModelError(
                f"{type(module).__name__} {name!r} has cached=True and would silently ignore a "
                "pruned graph; build it with cached=False"
            )
        if isinstance(module, PyGLinear) and parametrize.is_parametrized(module):
            raise ModelError(
                f"PyG's Linear {name!r} is parametrized, which its state dict does not know of; "
                "use torch.nn.Linear there, or torch.nn.utils.parametrize.remove_parametrizations"
            )
    _check_not_pruned(model)
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


def _is_lazy(model: nn.Module) -> bool:
    return any(is_lazy(tensor) for tensor in chain(model.parameters(), model.buffers()))


def _check_not_pruned(model: nn.Module) -> None:
    if prune.is_pruned(model):
        raise ModelError(
            "the model must not be pruned by torch.nn.utils.prune already: two masks would fight "
            "over its weights; make that one permanent with torch.nn.utils.prune.remove"
        )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode, within the context; a lazy module is the same object before and after."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
