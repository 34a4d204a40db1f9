"""States that were kept: whether they are of what they are to be taken back to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fastglt.errors import InputError


class Fields:
    """Base of classes whose instances are kept by their attributes."""

    def state_dict(self) -> dict[str, Any]:
        """All attributes."""
        return dict(vars(self))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo :meth:`state_dict`.

        Raises:
            InputError: If one of them has names in it and the other one has not.
        """
        for name, own in vars(self).items():
            value = state[name]
            if isinstance(own, dict) != isinstance(value, dict):
                raise InputError(f"{name!r} must not be a {type(value).__name__}")
        for name in vars(self):
            setattr(self, name, state[name])


def check_like(state: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse a dict of tensors with other names, shapes or types than one's own.

    Args:
        state: What was kept.
        own: What it is to take the place of; entries that are no tensors are not looked at.

    Raises:
        InputError: Naming the entry.
    """
    if state.keys() != own.keys():
        different = sorted(state.keys() ^ own.keys())[0]
        raise InputError(f"entries must be the same (differ in {different!r})")
    for name, value in own.items():
        if isinstance(value, Tensor):
            check_tensor(state[name], value, name)


def check_tensor(value: Any, like: Tensor, name: str) -> None:
    """Refuse what is not a tensor of the same shape and type.

    Raises:
        InputError: Naming it.
    """
    expected = f"{like.dtype} of shape {list(like.shape)}"
    if not isinstance(value, Tensor):
        raise InputError(f"{name!r} must be {expected} (got {type(value).__name__})")
    if (value.shape, value.dtype) != (like.shape, like.dtype):
        raise InputError(
            f"{name!r} must be {expected} (got {value.dtype} of shape {list(value.shape)})"
        )


def to_device_of(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of ``state``, each on the device of the one of that name in ``own``."""
    return {name: value.to(own[name].device) for name, value in state.items()}
