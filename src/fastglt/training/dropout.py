"""Dropout in a fraction of the time that it takes torch on a CPU.

torch draws one number an element from a sequential generator, which costs more than all else in an
epoch of a two-layer GCN. Sixteen random bits an element do as well.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 1 << 16
"""The share that is kept is a multiple of one in so many, and outputs are scaled by its inverse."""


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


def _forward(module: nn.Dropout, input: Tensor) -> Tensor:
    kept = round((1 - module.p) * _LEVELS)
    is_plain = input.device.type == "cpu" and input.layout == torch.strided and not module.inplace
    if not (module.training and is_plain and 0 < kept < _LEVELS and input.is_floating_point()):
        return F.dropout(input, module.p, module.training, module.inplace)
    words = torch.empty(-(-input.numel() // 4), dtype=torch.int64, device=input.device)
    words.random_(torch.iinfo(torch.int64).min, None)
    bits = words.view(torch.int16)[: input.numel()].view(input.shape)
    factor = torch.empty(input.shape, dtype=input.dtype, device=input.device)
    torch.lt(bits, kept - _LEVELS // 2, out=factor)
    return input * factor.mul_(_LEVELS / kept)
