"""The states of what a loop changes, checked before they are taken back."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fastglt.errors import CheckpointError, InputError, cut
from fastglt.training.states import check_like, check_tensor


class Part(Protocol):
    """Anything with a state that can be kept and taken back."""

    def state_dict(self) -> Any:
        """The state."""

    def load_state_dict(self, state: Any) -> Any:
        """Take a state back."""


def as_part(value: Any) -> Part:
    """What keeps the state of a module, an optimizer, a generator, a tensor or one of its own.

    Raises:
        TypeError: If it is none of these.
    """
    if isinstance(value, nn.Module):
        return _Module(value)
    if isinstance(value, torch.optim.Optimizer):
        return _Optimizer(value)
    if isinstance(value, torch.Generator):
        return _Generator(value)
    if isinstance(value, Tensor):
        return _Tensor(value)
    if hasattr(value, "state_dict") and hasattr(value, "load_state_dict"):
        part: Part = value
        return part
    raise TypeError(f"no state can be kept of a {type(value).__name__}")


def restore(part: Any, state: Any, where: str) -> None:
    """Let a part take a state back.

    Raises:
        CheckpointError: If the state is not one of that part.
    """
    try:
        as_part(part).load_state_dict(state)
    except InputError as error:
        raise CheckpointError(f"{where}: {error}") from None
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        # What a state of another run, or a forged one, makes of the code that takes it back.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{where} cannot be taken back: {cut(reason)}") from error


class _Module:
    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def state_dict(self) -> Any:
        return {"training": self._module.training, "state": dict(self._module.state_dict())}

    def load_state_dict(self, state: Any) -> None:
        check_like(state["state"], self._module.state_dict())
        self._module.load_state_dict(state["state"])
        self._module.train(bool(state["training"]))


class _Optimizer:
    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer

    def state_dict(self) -> Any:
        return dict(self._optimizer.state_dict())

    def load_state_dict(self, state: Any) -> None:
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        for place, entries in state["state"].items():
            if type(place) is not int or not 0 <= place < len(parameters):
                raise InputError(f"there is no parameter {place!r}")
            like = parameters[place]
            for name, value in entries.items():
                if isinstance(value, Tensor) and value.dim() > 0:
                    check_tensor(value, like, f"{name} of parameter {place}")
        self._optimizer.load_state_dict(state)


class _Generator:
    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def state_dict(self) -> Tensor:
        return self._generator.get_state()

    def load_state_dict(self, state: Any) -> None:
        check_tensor(state, self._generator.get_state(), "random state")
        self._generator.set_state(state)


class _Tensor:
    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def state_dict(self) -> Tensor:
        return self._tensor.detach()

    @torch.no_grad()
    def load_state_dict(self, state: Any) -> None:
        check_tensor(state, self._tensor, "tensor")
        self._tensor.copy_(state)


class RandomState:
    """torch's global random state, of the CPU and of the current CUDA device."""

    def state_dict(self) -> dict[str, Tensor]:
        """The state."""
        state = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            state["cuda"] = torch.cuda.get_rng_state()
        return state

    def load_state_dict(self, state: Any) -> None:
        """Take a state back."""
        check_tensor(state["cpu"], torch.get_rng_state(), "random state")
        torch.set_rng_state(state["cpu"])
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda"])
