"""Models wrapped by ``torch.compile``, which prefixes every name of theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

T = TypeVar("T")

_INNER = "_orig_mod"


def uncompiled(model: nn.Module) -> nn.Module:
    """The model that ``torch.compile`` wraps; another one as it is."""
    inner: nn.Module = getattr(model, _INNER, model)
    return inner


def uncompiled_names(tensors: Mapping[str, T]) -> dict[str, T]:
    """Entries by their names in the model that ``torch.compile`` wraps."""
    return {name.removeprefix(f"{_INNER}."): value for name, value in tensors.items()}
