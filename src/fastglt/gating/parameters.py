"""Which parameters of a model can be pruned, and which models can be searched."""

from __future__ import annotations

from torch import nn
from torch.nn.parameter import is_lazy
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.dense.linear import Linear as PyGLinear

from fastglt.errors import ModelError


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
