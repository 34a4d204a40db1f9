"""How masks act on a model and a graph.

A hard edge mask is a shorter ``edge_index`` and nothing else, which is exact for every conv. A
hard weight mask is enforced after each optimizer step. Soft edge gates exist only to obtain
gradients: through ``edge_weight`` where every conv takes it, else on the finished messages.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch_geometric.data import Data
from torch_geometric.explain.algorithm.utils import clear_masks, set_masks
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.dense.linear import Linear as PyGLinear
from torch_geometric.nn.models.basic_gnn import BasicGNN
from torch_geometric.utils import select

from fastglt.errors import GraphError, ModelError
from fastglt.masks import EdgeGroups, WeightMask


def check_model(model: nn.Module) -> None:
    """Refuse models that cannot be searched exactly.

    Raises:
        ModelError: If a conv caches its normalised graph (it would ignore a changed one), a
            parameter is not initialised yet, or there is no linear map to prune.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"model must be a torch.nn.Module (got {type(model).__name__})")
    for name, module in model.named_modules():
        if isinstance(module, MessagePassing) and getattr(module, "cached", False):
            raise ModelError(
                f"{type(module).__name__} {name!r} has cached=True and would silently ignore a "
                "pruned graph; build it with cached=False"
            )
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise ModelError(
                f"parameter {name!r} is not initialised; run the model once before the search"
            )
    if not prunable_weights(model):
        raise ModelError(
            "the model has no prunable weights (expected at least one torch.nn.Linear or "
            f"torch_geometric.nn.Linear, got {type(model).__name__})"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError("the model has no parameters that require gradients; unfreeze some")


def prunable_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weight matrices of the linear maps of a model, by parameter name.

    Biases, norms, attention vectors and embeddings are not prunable. A parameter that several
    modules share appears once.
    """
    prefixes = {
        f"{name}.weight" if name else "weight"
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, PyGLinear))
    }
    return {name: parameter for name, parameter in model.named_parameters() if name in prefixes}


class WeightGate:
    """Keeps pruned weights at exactly 0 while an optimizer trains them.

    The mask is enforced by a post-step hook, since masking gradients is not enough: momentum and
    weight decay would revive pruned weights.

    Args:
        parameters: The masked parameters by name; their pruned entries are set to 0 at once.
        optimizer: The optimizer that holds the parameters.
        mask: Which entries are kept, for each of ``parameters``.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        mask: WeightMask,
    ) -> None:
        self._parameters = {name: parameters[name] for name in mask}
        self._optimizer = optimizer
        self._pruned: dict[str, Tensor] = {}
        self.mask = mask
        self._set(mask)
        self._hook = optimizer.register_step_post_hook(lambda *_: self.enforce())

    @torch.no_grad()
    def enforce(self) -> None:
        """Set every pruned weight to 0."""
        for name, pruned in self._pruned.items():
            self._parameters[name].masked_fill_(pruned, 0)

    @torch.no_grad()
    def update(self, mask: WeightMask) -> None:
        """Replace the mask; weights that were dropped or grown start from 0 without momentum."""
        for name, parameter in self._parameters.items():
            changed = mask[name] ^ self.mask[name]
            parameter.masked_fill_(changed, 0)
            clear_moments(self._optimizer, parameter, changed)
        self._set(mask)

    def remove(self) -> None:
        """Stop enforcing the mask."""
        self._hook.remove()

    def _set(self, mask: WeightMask) -> None:
        self.mask = mask
        self._pruned = {name: ~keep for name, keep in mask.items()}
        self.enforce()


@torch.no_grad()
def clear_moments(optimizer: torch.optim.Optimizer, parameter: Tensor, entries: Tensor) -> None:
    """Zero the optimizer's per-entry state (momentum, second moments) of the given entries."""
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value.masked_fill_(entries, 0)


def apply_weight_mask(state: Mapping[str, Tensor], mask: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A copy of a state dict in which the pruned weights are exactly 0."""
    return {
        name: tensor.detach().masked_fill(~mask[name], 0) if name in mask else tensor.clone()
        for name, tensor in state.items()
    }


def takes_edge_weight(model: nn.Module) -> bool:
    """Whether an ``edge_weight`` given to the model reaches every conv of it."""
    if isinstance(model, BasicGNN):
        return bool(model.supports_edge_weight)
    convs = [module for module in model.modules() if isinstance(module, MessagePassing)]
    modules: list[nn.Module] = [model, *convs]
    return bool(convs) and all("edge_weight" in _arguments(module.forward) for module in modules)


@contextmanager
def message_gate(model: nn.Module, edge_index: Tensor, gate: Tensor) -> Iterator[None]:
    """Multiply every conv's finished messages by a gate, within the context.

    This is PyG's explanation mask without the sigmoid. It acts after normalisation or softmax, so
    it is not the same as removing edges; use it for gradients only. Self-loops must come last in
    ``edge_index`` (see :func:`loops_last`), else convs that add their own are misaligned.

    Args:
        model: The model; it is left as it was found.
        edge_index: ``[2, num_edges]``, what the model is going to be called with.
        gate: ``[num_edges]``, differentiable.
    """
    set_masks(model, gate, edge_index, apply_sigmoid=False)
    try:
        yield
    finally:
        clear_masks(model)


def keep_edges(data: Data, keep: Tensor) -> Data:
    """A copy of a graph with some of its edges; the tensors of the nodes are shared.

    Args:
        data: The graph; it is not changed.
        keep: ``[num_edges]`` bool.

    Returns:
        The kept edges in their given order with everything that belongs to them, and an explicit
        ``num_nodes``. Nodes keep their numbers, also those that become isolated. Supervision
        edges (``edge_label_index`` and the like) stay whole.

    Raises:
        GraphError: ``data`` also holds an adjacency matrix, which would keep every edge.
    """
    for name in ("adj", "adj_t"):
        if data.get(name) is not None:
            raise GraphError(
                f"data.{name} must not stand beside edge_index: a model that reads it would see "
                "the pruned edges; delete it"
            )
    result = copy.copy(data)
    for name in data.edge_attrs():
        if "edge_label" not in name:  # supervision, which may happen to have num_edges entries
            value = data[name]
            result[name] = _selected(value, keep, data.__cat_dim__(name, value))
    result.num_nodes = data.num_nodes
    return result


def loops_last(edge_index: Tensor) -> Tensor:
    """Permutation ``[num_edges]`` that puts self-loops last, sorted by node."""
    loop = edge_index[0] == edge_index[1]
    return torch.argsort(torch.where(loop, edge_index[0] + 1, 0), stable=True)


def edge_gradient(
    loss: Callable[[Tensor, Tensor], Tensor],
    edge_index: Tensor,
    groups: EdgeGroups,
    keep: Tensor,
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

    Returns:
        ``[num_groups]`` float32; the two directions of a pair are added.

    Raises:
        ModelError: If the loss does not depend on the gates.
    """
    gate = unit_gates(groups, keep)
    with torch.enable_grad():
        value = loss(edge_index, gate)
    return gate_gradient(value, gate, groups)


def unit_gates(groups: EdgeGroups, keep: Tensor) -> Tensor:
    """``[num_edges]`` gates that require gradients: 1 for kept edges and self-loops, else 0."""
    return groups.to_edges(keep.to(torch.float32), 1.0).requires_grad_()


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
    return sum_over_groups(gradient.nan_to_num(0.0, 0.0, 0.0), groups)


def mean_over_groups(edge_values: Tensor, groups: EdgeGroups) -> Tensor:
    """Mean of ``[num_edges]`` values within each group, ``[num_groups]``."""
    size = sum_over_groups(torch.ones_like(edge_values), groups)
    return sum_over_groups(edge_values, groups) / size


def sum_over_groups(edge_values: Tensor, groups: EdgeGroups) -> Tensor:
    """Sum ``[num_edges]`` values within each group, ``[num_groups]``; self-loops do not count."""
    proper = groups.index >= 0
    total = edge_values.new_zeros(groups.num_groups)
    return total.index_add_(0, groups.index[proper], edge_values[proper])


_NO_EDGE_GRADIENT = (
    "the loss does not depend on edge_weight: pass edge_weight on to the model, or leave out "
    "score= so that edges are chosen by degree alone"
)


def _selected(value: Any, keep: Tensor, dim: int) -> Any:
    if isinstance(value, np.ndarray):
        return np.compress(keep.cpu().numpy(), value, axis=dim)
    if isinstance(value, torch.Tensor):
        keep = keep.to(value.device)
    return select(value, keep, dim)


def _arguments(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters)
