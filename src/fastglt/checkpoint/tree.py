"""Nested values with tensors in them, taken apart into JSON and a list of tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastglt.errors import InputError

_TENSOR, _FLOAT, _TUPLE, _DICT = "tensor", "float", "tuple", "dict"
_ODD_FLOATS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def flatten(value: Any, tensors: list[Tensor]) -> Any:
    """The JSON form of a value.

    Args:
        value: None, bool, int, float, str, a dense tensor, or a list, tuple or dict (with keys
            that are text or whole numbers) of such.
        tensors: The tensors in it are appended to these, and stand in the JSON by their places.

    Raises:
        InputError: If it holds anything else.
    """
    if isinstance(value, Tensor):
        if value.layout != torch.strided:
            raise InputError(f"a checkpoint holds dense tensors only (got {value.layout})")
        tensors.append(value)
        return {_TENSOR: len(tensors) - 1}
    if isinstance(value, np.generic):  # what a metric of the user's may be
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [flatten(each, tensors) for each in value]
    if isinstance(value, tuple):
        return {_TUPLE: [flatten(each, tensors) for each in value]}
    if isinstance(value, dict):
        if not all(isinstance(key, str | int) for key in value):
            raise InputError("keys in a checkpoint must be text or whole numbers")
        return {_DICT: [[key, flatten(each, tensors)] for key, each in value.items()]}
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise InputError(f"a checkpoint cannot hold a {kind}")


def unflatten(form: Any, tensors: Sequence[Tensor]) -> Any:
    """Undo :func:`flatten`.

    Raises:
        ValueError: If ``form`` is none that it makes.
    """
    if isinstance(form, list):
        return [unflatten(each, tensors) for each in form]
    if not isinstance(form, dict):
        return form
    if len(form) != 1:
        raise ValueError("a value has one kind")
    ((kind, content),) = form.items()
    if kind == _TENSOR and type(content) is int and 0 <= content < len(tensors):
        return tensors[content]
    if kind == _FLOAT and isinstance(content, str) and content in _ODD_FLOATS:
        return _ODD_FLOATS[content]
    if kind == _TUPLE and isinstance(content, list):
        return tuple(unflatten(each, tensors) for each in content)
    if kind == _DICT and isinstance(content, list):
        return dict(_entry(each, tensors) for each in content)
    raise ValueError(f"no value of kind {kind!r} can be {str(content)[:40]}")


def copied(value: Any) -> Any:
    """A copy that shares no memory, on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True).contiguous()
    if isinstance(value, list | tuple):
        return type(value)(copied(each) for each in value)
    if isinstance(value, dict):
        return {key: copied(each) for key, each in value.items()}
    return value


def _entry(form: Any, tensors: Sequence[Tensor]) -> tuple[Any, Any]:
    if not isinstance(form, list) or len(form) != 2 or not isinstance(form[0], str | int):
        raise ValueError("an entry must be a pair of key and value")
    return form[0], unflatten(form[1], tensors)
