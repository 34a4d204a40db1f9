"""Soft edge gates, which exist only to obtain gradients.

They act through ``edge_weight`` where every conv takes it, else on the finished messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch_geometric.explain.algorithm.utils import clear_masks, set_masks
from torch_geometric.nn import MessagePassing

from fastglt.errors import ModelError
from fastglt.gating.attention import attention_gate, has_attention
from fastglt.masks import SELF_LOOP, EdgeGroups


@contextmanager
def message_gate(model: nn.Module, edge_index: Tensor, gate: Tensor) -> Iterator[None]:
    """Multiply every conv's finished messages by a gate, within the context.

    This is PyG's explanation mask without the sigmoid. It acts after normalisation or softmax, so
    it is not the same as removing edges; use it for gradients only. GATConv and GATv2Conv share
    their attention out anew instead, see :func:`fastglt.gating.attention.attention_gate`.
    Self-loops must come last in ``edge_index`` (see :func:`loops_last`), else convs that add their
    own are misaligned.

    Args:
        model: The model; it is left as it was found.
        edge_index: ``[2, num_edges]``, what the model is going to be called with.
        gate: ``[num_edges]``, differentiable.

    Raises:
        ModelError: If a conv cannot be gated: it opts out of explanations, is being explained or
            splits its features (``decomposed_layers``).
    """
    _check_gateable(model)
    convs = [module for module in model.modules() if isinstance(module, MessagePassing)]
    attentive = [conv for conv in convs if has_attention(conv)]
    others = nn.ModuleList(conv for conv in convs if conv not in attentive)
    set_masks(others, gate, edge_index, apply_sigmoid=False)
    try:
        with attention_gate(attentive, edge_index, gate):
            yield
    finally:
        clear_masks(others)


def _check_gateable(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if not isinstance(module, MessagePassing):
            continue
        if module.explain is not None or module.decomposed_layers > 1:
            raise ModelError(
                f"{type(module).__name__} {name!r} must be free for PyG's explanation masks to "
                f"score edges by gradients (got explain={module.explain}, decomposed_layers="
                f"{module.decomposed_layers}); leave both at their defaults"
            )
        # What an explainer left behind would turn the gate into a parameter without history.
        module._parameters.pop("_edge_mask", None)


def loops_last(edge_index: Tensor) -> Tensor:
    """Permutation ``[num_edges]`` that puts self-loops last, sorted by node."""
    loop = edge_index[0] == edge_index[1]
    return torch.argsort(torch.where(loop, edge_index[0] + 1, 0), stable=True)


def edge_gradient(
    loss: Callable[[Tensor, Tensor], Tensor],
    edge_index: Tensor,
    groups: EdgeGroups,
    keep: Tensor,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Gradient of a loss with respect to the gate of every edge group, kept or not.

    Kept groups and self-loops have gate 1 and pruned ones 0, so for convs that take
    ``edge_weight`` this is the gradient on exactly the kept graph. Where a node without any kept
    neighbour makes the normalisation singular, its gradient is taken as 0.

    Args:
        loss: Called as ``loss(edge_index, edge_weight)`` with the whole graph; returns a scalar.
        edge_index: ``[2, num_edges]``.
        groups: The graph's edge groups.
        keep: ``[num_groups]`` bool.
        dtype: Type of the gates, which should be the model's.

    Returns:
        ``[num_groups]`` of ``dtype``; the two directions of a pair are added.

    Raises:
        ModelError: If the loss does not depend on the gates.
    """
    gate = unit_gates(groups, keep, dtype)
    with torch.enable_grad():
        value = loss(edge_index, gate)
    return gate_gradient(value, gate, groups)


def unit_gates(groups: EdgeGroups, keep: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """``[num_edges]`` gates that require gradients: 1 for kept edges and self-loops, else 0."""
    return groups.to_edges(keep.to(dtype), 1.0).requires_grad_()


def gate_gradient(value: Tensor, gate: Tensor, groups: EdgeGroups) -> Tensor:
    """Gradient of a scalar with respect to ``[num_edges]`` gates, summed to ``[num_groups]``.

    Raises:
        ModelError: If ``value`` does not depend on the gates.
    """
    if not value.requires_grad:
        raise ModelError(_NO_EDGE_GRADIENT)
    (gradient,) = torch.autograd.grad(value, gate, allow_unused=True)
    if gradient is None:
        raise ModelError(_NO_EDGE_GRADIENT)
    return sum_over_groups(gradient.contiguous().nan_to_num_(0.0, 0.0, 0.0), groups)


def mean_over_groups(edge_values: Tensor, groups: EdgeGroups) -> Tensor:
    """Mean of ``[num_edges]`` values within each group, ``[num_groups]``."""
    size = sum_over_groups(torch.ones_like(edge_values), groups)
    return sum_over_groups(edge_values, groups) / size


def sum_over_groups(edge_values: Tensor, groups: EdgeGroups) -> Tensor:
    """Sum ``[num_edges]`` values within each group, ``[num_groups]``; self-loops do not count."""
    # One place more, for self-loops: cheaper than picking the other edges out.
    total = edge_values.new_zeros(groups.num_groups + 1)
    return total.index_add_(0, groups.index - SELF_LOOP, edge_values)[-SELF_LOOP:]


_NO_EDGE_GRADIENT = (
    "the loss does not depend on edge_weight: pass edge_weight on to the model, or call it within "
    "fastglt.gating.message_gate, or leave out score= so that edges are chosen by degree alone"
)
