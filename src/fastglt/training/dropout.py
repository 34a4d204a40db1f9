"""Dropout in a fraction of the time that it takes torch on a CPU.

torch draws one number an element from a sequential generator, which costs more than all else in an
epoch of a two-layer GCN. Sixteen random bits an element do as well.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_LEVELS = 1 << 16
"""The share that is kept is a multiple of one in so many, and outputs are scaled by its inverse."""
_factor: ContextVar[float] = ContextVar("factor of all dropout probabilities", default=1.0)


@contextmanager
def fast_dropout(model: nn.Module) -> Iterator[None]:
    """Let the ``nn.Dropout`` modules of a model draw four elements at a time, within the context.

    Elements of CPU tensors are dropped independently with the given probability, rounded to
    1/65536; expected values are kept exactly. The numbers come from torch's global generator, but
    are others than without this context. Keep it open for the backward too, where checkpointed
    layers compute their dropout again.

    Args:
        model: The model; it is left as it was found.
    """
    modules = [
        module
        for module in model.modules()
        if type(module) is nn.Dropout and "forward" not in vars(module)
    ]
    for module in modules:
        vars(module)["forward"] = functools.partial(_forward, module)
    try:
        yield
    finally:
        for module in modules:
            vars(module).pop("forward", None)


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Nothing is dropped, within the context, also in training mode.

    Args:
        model: The model; it is left as it was found.
    """
    modules = [
        module for module in model.modules() if isinstance(vars(module).get("dropout"), float)
    ]
    shares = [vars(module)["dropout"] for module in modules]
    for module in modules:
        vars(module)["dropout"] = 0.0
    try:
        with _DropsNothing():
            yield
    finally:
        for module, share in zip(modules, shares, strict=True):
            vars(module)["dropout"] = share


@contextmanager
def scaled_dropout(factor: float) -> Iterator[None]:
    """Multiply every dropout probability, within the context.

    That is those of ``nn.Dropout``, of ``F.dropout`` and of attention in PyG's convs; what a model
    drops otherwise, such as whole edges, stays as it is.

    Args:
        factor: In ``[0, 1]``.
    """
    if factor == 1:
        yield
        return
    token = _factor.set(factor)
    try:
        with _Scales():
            yield
    finally:
        _factor.reset(token)


class _Scales(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is F.dropout:
            return _scaled_dropout(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _scaled_dropout(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    return F.dropout(input, _factor.get() * p, training, inplace)


class _DropsNothing(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in (F.dropout, torch.dropout):
            return args[0] if args else kwargs["input"]
        return func(*args, **(kwargs or {}))


def dropout_factor(shape: torch.Size, p: float, like: Tensor) -> Tensor:
    """What to multiply elements by to drop them with probability ``p``, and keep expected values.

    Args:
        shape: Shape of the result.
        p: In ``[0, 1)``, before :func:`scaled_dropout`; rounded to 1/65536 on the CPU.
        like: Of the type and on the device that the result is to have.
    """
    kept = round((1 - _factor.get() * p) * _LEVELS)
    if like.device.type != "cpu" or not 0 < kept < _LEVELS:
        return F.dropout(torch.ones(shape, dtype=like.dtype, device=like.device), p)
    count = math.prod(shape)
    words = torch.empty(-(-count // 4), dtype=torch.int64, device=like.device)
    words.random_(torch.iinfo(torch.int64).min, None)
    bits = words.view(torch.int16)[:count].view(shape)
    factor = torch.empty(shape, dtype=like.dtype, device=like.device)
    torch.lt(bits, kept - _LEVELS // 2, out=factor)
    return factor.mul_(_LEVELS / kept)


def _forward(module: nn.Dropout, input: Tensor) -> Tensor:
    is_plain = input.device.type == "cpu" and input.layout == torch.strided and not module.inplace
    if not (module.training and is_plain and 0 < module.p < 1 and input.is_floating_point()):
        return F.dropout(input, module.p, module.training, module.inplace)
    return input * dropout_factor(input.shape, module.p, input)
