"""Functions of each number by itself, as modules and as functions."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn.resolver import swish

POINTWISE: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh,
    nn.Sigmoid, nn.Softplus, nn.Softsign, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.LogSigmoid,
    nn.Softshrink, nn.Hardshrink, nn.Tanhshrink, nn.Threshold,
)  # fmt: skip
"""Kinds of modules."""
NOTHING: tuple[type[nn.Module], ...] = (nn.Identity, nn.Dropout, nn.AlphaDropout)
"""What does nothing in evaluation."""
FUNCTIONS: tuple[tuple[Callable[..., Tensor], type[nn.Module]], ...] = (
    (torch.relu, nn.ReLU), (F.relu, nn.ReLU), (Tensor.relu, nn.ReLU),
    (torch.tanh, nn.Tanh), (F.tanh, nn.Tanh), (Tensor.tanh, nn.Tanh),
    (torch.sigmoid, nn.Sigmoid), (F.sigmoid, nn.Sigmoid), (Tensor.sigmoid, nn.Sigmoid),
    (F.relu6, nn.ReLU6), (F.leaky_relu, nn.LeakyReLU), (F.elu, nn.ELU),
    (F.celu, nn.CELU), (torch.celu, nn.CELU), (F.selu, nn.SELU), (torch.selu, nn.SELU),
    (F.gelu, nn.GELU), (F.silu, nn.SiLU), (swish, nn.SiLU), (F.mish, nn.Mish),
    (F.softplus, nn.Softplus), (F.softsign, nn.Softsign), (F.logsigmoid, nn.LogSigmoid),
    (F.hardswish, nn.Hardswish), (F.hardsigmoid, nn.Hardsigmoid), (F.hardtanh, nn.Hardtanh),
    (F.softshrink, nn.Softshrink), (F.hardshrink, nn.Hardshrink), (F.tanhshrink, nn.Tanhshrink),
)  # fmt: skip
"""Functions, with the kind of module that with its defaults is each of them with its own."""


def pointwise(module: object) -> nn.Module | None:
    """A module or a function as a module without parameters; ``None`` if it is of another kind."""
    if isinstance(module, nn.Module):
        return module if type(module) in POINTWISE else None
    return next((kind() for function, kind in FUNCTIONS if function is module), None)
