"""Operations in the making, and which modules may be taken at their word."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.nn import Sequential as RoutedSequential

from fastglt.compile.lower.pointwise import NOTHING, pointwise
from fastglt.compile.program import Map, Op, Scale, reading, sources
from fastglt.gating import has_message_hooks


class Unsupported(Exception):  # noqa: N818 - it is caught, and ends up in a report
    """Why a model cannot be written as a program."""


class Lowering:
    """Operations in the making.

    Args:
        rows: Kinds of modules that are called as ``module(x)``, and what each of them emits.
            Subclasses may compute something else, and need entries.
        graphs: The same of those that are called as ``module(x, edge_index)``.
        weighted: Whether they are called with ``edge_weight`` too.

    Attributes:
        ops: What was emitted so far.
        weighted: Whether modules are called with ``edge_weight`` now.
        reads_edge_weight: Whether any has read it.
    """

    def __init__(
        self, rows: Mapping[type, Lowered], graphs: Mapping[type, Lowered], *, weighted: bool
    ) -> None:
        self.ops: list[Op] = []
        self.weighted = weighted
        self.reads_edge_weight = False
        self._graphs = graphs
        self._kinds = {**rows, **graphs}
        self._overwritten: dict[int, int] = {}

    def emit(self, op: Op) -> int:
        """Append an operation and return the number of its value."""
        self.ops.append(reading(op, [self._now(source) for source in sources(op)]))
        return len(self.ops)

    def module(self, module: object, value: int) -> int:
        """Emit what a module, or a function of each number by itself, makes of a value.

        Raises:
            Unsupported: If this kind of module is not known, or an option of it.
        """
        self.check(module)
        if type(module) in NOTHING:
            return value
        function = pointwise(module)
        if function is None:
            return self._kinds[type(module)](self, module, value)
        before = self._now(value)
        after = self.emit(Map(before, function))
        if getattr(module, "inplace", False):
            self._overwritten[before] = after
        return after

    def check(self, module: object) -> None:
        """Refuse a module that may compute something else than its kind says.

        Raises:
            Unsupported: If its kind is not known, or it has hooks or a ``forward`` of its own.
        """
        kind = type(module)
        if pointwise(module) is None and kind not in {*self._kinds, *NOTHING}:
            if not isinstance(module, nn.Module):
                name = getattr(module, "__name__", kind.__name__)
                raise Unsupported(f"the function {name} is not taken apart")
            library = kind.__module__.partition(".")[0]
            raise Unsupported(f"{library}'s {kind.__name__} is not taken apart")
        check_unaltered(module)

    def hears(self, module: object) -> bool:
        """Whether a module is called as ``module(x, edge_index)``."""
        return type(module) in self._graphs

    @contextmanager
    def called_with(self, *, weighted: bool) -> Iterator[None]:
        """Whether modules are called with ``edge_weight`` meanwhile."""
        before, self.weighted = self.weighted, weighted
        try:
            yield
        finally:
            self.weighted = before

    def shift(self, value: int, bias: Tensor | None) -> int:
        """Emit the sum of a value and a bias, if there is one."""
        return value if bias is None else self.emit(Scale(value, shift=bias.detach()))

    def _now(self, value: int) -> int:
        """What the memory of a value holds now."""
        while value in self._overwritten:
            value = self._overwritten[value]
        return value


Lowered = Callable[[Lowering, Any, int], int]
"""Emits what a module makes of a value, and returns the number of the result."""


def check_unaltered(module: object) -> None:
    """Refuse a module that does not do what its class says.

    Raises:
        Unsupported: If it has hooks or a ``forward`` of its own.
    """
    if not isinstance(module, nn.Module):
        return
    hooks = (module._forward_hooks, module._forward_pre_hooks)
    listened = isinstance(module, MessagePassing) and has_message_hooks(module)
    if any(hooks) or listened or not _has_the_forward_of_its_class(module):
        raise Unsupported(f"{type(module).__name__} has hooks, or a forward of its own")


def _has_the_forward_of_its_class(module: nn.Module) -> bool:
    own = vars(module).get("forward")
    if own is None:
        return True
    # PyG writes one for every Sequential, in a module that is named after it.
    written = f"{RoutedSequential.__module__}_{RoutedSequential.__name__}_"
    return type(module) is RoutedSequential and own.__module__.startswith(written)
