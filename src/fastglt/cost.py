"""What a model costs on a graph: parameters and multiply-accumulate operations."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.dense.linear import Linear as PyGLinear


def num_parameters(model: nn.Module, weight_mask: Mapping[str, Tensor] | None = None) -> int:
    """Number of parameters, those that a mask prunes not counted."""
    total = sum(parameter.numel() for parameter in model.parameters())
    pruned = sum(int((~mask).sum()) for mask in (weight_mask or {}).values())
    return total - pruned


@torch.no_grad()
def count_macs(
    model: nn.Module,
    call: Callable[[nn.Module], object],
    weight_mask: Mapping[str, Tensor] | None = None,
) -> int:
    """Multiply-accumulates of one whole-graph inference.

    Counted are the products of linear maps (rows x kept weights; input features as dense) and the
    aggregation of messages (messages x channels, with the self-loops that a conv adds). Attention
    coefficients, norms, biases and activations are not counted.

    Args:
        model: The model; it is not changed.
        call: Calls the model that it is given on the graph, with the edges that are executed.
        weight_mask: Kept weights by parameter name; weights outside it count in full.
    """
    counter = _MacCounter(copy.deepcopy(model).eval(), weight_mask or {})
    call(counter.model)
    return counter.total


class _MacCounter:
    def __init__(self, model: nn.Module, weight_mask: Mapping[str, Tensor]) -> None:
        self.model = model
        self.total = 0
        for name, module in model.named_modules():
            if isinstance(module, (nn.Linear, PyGLinear)):
                mask = weight_mask.get(f"{name}.weight" if name else "weight")
                kept = module.weight.numel() if mask is None else int(mask.sum())
                module.register_forward_hook(self._linear_hook(kept))
            elif isinstance(module, MessagePassing):
                module.register_message_forward_hook(self._message_hook)

    def _linear_hook(self, kept_weights: int) -> Callable[..., None]:
        def hook(_: nn.Module, __: tuple[object, ...], out: Tensor) -> None:
            rows = out.numel() // out.size(-1) if out.size(-1) else 0
            self.total += rows * kept_weights

        return hook

    def _message_hook(self, _: nn.Module, __: tuple[object, ...], out: Tensor) -> None:
        self.total += out.numel()
