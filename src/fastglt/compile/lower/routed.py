"""PyG's ``Sequential``, whose modules say by name what they read and write."""

from __future__ import annotations

import operator
from collections.abc import Callable
from enum import Enum
from typing import Any, Literal

import torch
from torch import nn

from fastglt.compile.lower.base import Lowering, Unsupported
from fastglt.compile.program import Join
from fastglt.gating.keywords import argument_names


class Edges(Enum):
    """What a name may stand for beside a value."""

    INDEX = "edge_index"
    WEIGHT = "edge_weight"


JOINS: tuple[tuple[Callable[..., Any], Literal["sum", "max"]], ...] = (
    (operator.add, "sum"),
    (torch.add, "sum"),
    (torch.maximum, "max"),
)
"""Functions of two values that are known."""


def routed(low: Lowering, model: Any, value: int) -> int:
    """Emit a ``Sequential`` that is called as ``model(x, edge_index)``."""
    bound = _bound(low, list(model.signature.param_dict), value)
    for child in model._children:
        module = getattr(model, child.name)
        written = child.return_names
        if not all(name in bound for name in child.param_names) or len(written) != 1:
            raise Unsupported(f"a Sequential whose {child.name} returns several things")
        value = _called(low, module, [bound[name] for name in child.param_names])
        bound[written[0]] = value
    return value


def _bound(low: Lowering, names: list[str], value: int) -> dict[str, int | Edges]:
    weights = ["edge_weight"] if low.weighted else []
    if len(names) < 2 or names[2:] != weights:
        raise Unsupported(f"a Sequential of {', '.join(names)}")
    return dict(zip(names, (value, Edges.INDEX, Edges.WEIGHT), strict=False))


def _called(low: Lowering, module: object, given: list[int | Edges]) -> int:
    """Emit a module, or a known function, that is called with values and edges."""
    join = next((how for function, how in JOINS if function is module), None)
    values = [one for one in given if isinstance(one, int)]
    if join is not None and len(values) == len(given) == 2:
        return low.emit(Join(tuple(values), join))
    low.check(module)
    edges = [one for one in given if isinstance(one, Edges)]
    expected = [Edges.INDEX, Edges.WEIGHT][: len(edges)] if low.hears(module) else []
    if given != [*values[:1], *expected] or low.hears(module) != bool(edges):
        raise Unsupported(f"a Sequential that calls {type(module).__name__} in a way of its own")
    weighted = Edges.WEIGHT in edges
    if weighted and isinstance(module, nn.Module) and argument_names(module)[2] != "edge_weight":
        raise Unsupported(f"a Sequential that calls {type(module).__name__} with edge weights")
    with low.called_with(weighted=weighted):
        return low.module(module, values[0])
