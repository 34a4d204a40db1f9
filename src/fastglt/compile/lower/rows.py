"""What is called as ``module(x)``: linear maps, norms, and chains of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch_geometric import nn as gnn
from torch_geometric.nn.conv import gen_conv

from fastglt.compile.lower.base import Lowered, Lowering, Unsupported
from fastglt.compile.program import LayerNorm, Linear, Scale


def chain(low: Lowering, modules: Any, value: int) -> int:
    """Emit modules that are called one after the other."""
    for module in modules:
        value = low.module(module, value)
    return value


def activated(low: Lowering, module: Any, norm: nn.Module, value: int) -> int:
    """Emit norm and activation of an MLP or a BasicGNN, in the order that it has."""
    parts = [part for part in (norm, module.act) if part is not None]
    if module.act_first:
        parts.reverse()
    return chain(low, parts, value)


def mlp_from(low: Lowering, module: Any, value: int) -> int:
    """Emit an MLP after its first linear map."""
    norms = module.norms
    for position, lin in enumerate(module.lins[1:]):
        norm = norms[position] if position < len(norms) else nn.Identity()
        value = low.module(lin, activated(low, module, norm, value))
    if len(norms) == len(module.lins):  # plain_last=False
        value = activated(low, module, norms[-1], value)
    return value


def _mlp(low: Lowering, module: Any, value: int) -> int:
    return mlp_from(low, module, low.module(module.lins[0], value))


def _linear(low: Lowering, module: Any, value: int) -> int:
    bias = None if module.bias is None else module.bias.detach()
    return low.emit(Linear(value, module.weight.detach(), bias))


def _batch_norm(low: Lowering, module: Any, value: int) -> int:
    if isinstance(module, gnn.BatchNorm):  # it holds torch's
        module = module.module
        low.check(module)
    if module.running_mean is None:
        raise Unsupported("a BatchNorm without running statistics depends on all nodes")
    scale = (module.running_var + module.eps).rsqrt()
    if module.weight is not None:
        scale = scale * module.weight.detach()
    shift = -module.running_mean * scale
    if module.bias is not None:
        shift = shift + module.bias.detach()
    return low.emit(Scale(value, scale, shift))


def _layer_norm(low: Lowering, module: Any, value: int) -> int:
    if isinstance(module, gnn.LayerNorm) and module.mode != "node":
        raise Unsupported("a LayerNorm over the whole graph depends on all nodes")
    if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) != 1:
        raise Unsupported("a LayerNorm over several dimensions")
    weight, bias = (None if p is None else p.detach() for p in (module.weight, module.bias))
    return low.emit(LayerNorm(value, weight, bias, module.eps))


LOWERINGS: Mapping[type, Lowered] = {
    nn.Linear: _linear,
    gnn.Linear: _linear,
    nn.Sequential: chain,
    gen_conv.MLP: chain,
    gnn.MLP: _mlp,
    nn.BatchNorm1d: _batch_norm,
    gnn.BatchNorm: _batch_norm,
    nn.LayerNorm: _layer_norm,
    gnn.LayerNorm: _layer_norm,
}
"""Kind of module to what it emits."""
