"""The kernel pass: a program bound to one graph, by the kernels that were fastest here.

Every operation that can be computed in several ways is timed on the actual operands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from fastglt._csr import ignore_csr_warnings
from fastglt.compile.candidates import Place, groups, ways
from fastglt.compile.edges import Graph, csr
from fastglt.compile.layout import Memory
from fastglt.compile.native import build
from fastglt.compile.native.library import VECTOR
from fastglt.compile.order import padded
from fastglt.compile.program import Linear, Op, Program, sources
from fastglt.compile.timing import in_turn
from fastglt.compile.ways import Cost, Way, sparse_entries

HANDICAP = 1.25
"""What the time of a library's kernel counts beside that of one of ours.

Calling a library takes several times as long after other work as in a loop, which is not seen here.
"""
SPARSE_FEATURES = 0.5
"""Share of the features that may be other than 0 for sparse kernels to be tried."""


@dataclass(frozen=True)
class Choice:
    """Which kernel an operation got.

    Attributes:
        op: What is computed.
        kernel: The fastest; one of ours where a library's is not much faster.
        milliseconds: Median of each that was tried.
    """

    op: str
    kernel: str
    milliseconds: Mapping[str, float]


@dataclass(frozen=True)
class Step:
    """An operation bound to its graph.

    Attributes:
        way: What is called.
        sources: The values that it reads.
        value: The value that it writes.
        last_read: Values that nobody reads afterwards.
        owned: Those of them whose memory can be used again.
        cost: What it takes.
    """

    way: Way
    sources: tuple[int, ...]
    value: int
    last_read: tuple[int, ...]
    owned: tuple[int, ...]
    cost: Cost


class Runner:
    """Computes a program on one graph.

    Attributes:
        choices: The kernels that were chosen.
        cost: What a call takes.
    """

    def __init__(self, program: Program, graph: Graph, x: Tensor) -> None:
        products = all(isinstance(op, Linear) for op in program.ops if 0 in sources(op))
        self._x = _smallest(x) if products else x.clone(memory_format=torch.contiguous_format)
        self.choices: list[Choice] = []
        place = Place(graph, x.device.type == "cpu" and build.why_not() is None)
        program = padded(program, VECTOR) if place.native else program
        self._memory = place.memory
        with torch.no_grad(), ignore_csr_warnings():
            self._steps = _bind(program, place, self._x, self.choices)
        self._output = len(program.ops)
        self.cost = sum((step.cost for step in self._steps), Cost(0, 0))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._x.device

    @torch.no_grad()
    def __call__(self) -> Tensor:
        """Output ``[num_nodes, num_outputs]``, in the same precision under autocast too."""
        if torch.is_autocast_enabled(self._x.device.type):
            with torch.autocast(self._x.device.type, enabled=False):
                return self._computed()
        return self._computed()

    def _computed(self) -> Tensor:
        values, memory = {0: self._x}, self._memory
        for step in self._steps:
            values[step.value] = step.way(*(values[source] for source in step.sources))
            for value in step.last_read:
                freed = values.pop(value)
                if value in step.owned:
                    memory.give_back(freed)
        out = values[self._output]
        memory.hand_over(out)
        return out.contiguous()

    def num_bytes_kept(self) -> int:
        """Bytes of memory that are kept from call to call."""
        return self._memory.num_bytes()


def _owned(values: dict[int, Tensor], numbers: tuple[int, ...]) -> tuple[int, ...]:
    """Those of ``numbers`` whose memory can be used again, for no other value lies in it."""
    held = Counter(value.untyped_storage().data_ptr() for value in values.values() if _plain(value))
    return tuple(
        number
        for number in numbers
        if _plain(values[number]) and held[values[number].untyped_storage().data_ptr()] == 1
    )


def _plain(value: Tensor) -> bool:
    return value.layout == torch.strided


def density(x: Tensor) -> float:
    """Share of the features that are not 0."""
    if x.layout != torch.strided:
        return x._nnz() / max(x.numel(), 1)
    return float(x.count_nonzero()) / max(x.numel(), 1)


def _smallest(x: Tensor) -> Tensor:
    """Features as CSR where most of them are 0."""
    if x.layout != torch.strided:
        return x
    if density(x) > SPARSE_FEATURES:
        return x.clone(memory_format=torch.contiguous_format)
    return csr(*sparse_entries(x))


def _bind(program: Program, place: Place, x: Tensor, choices: list[Choice]) -> list[Step]:
    values = {0: x}
    last = {source: position for position, op in enumerate(program.ops) for source in sources(op)}
    steps = []
    for group in groups(program):
        op, read = group.head, sources(group.head)
        inputs = [values[source] for source in read]
        # What nobody else reads may be overwritten, but for the features.
        overwrites = last[read[0]] == group.position and read[0] > 0 and read.count(read[0]) == 1
        tried = ways(group, place, inputs, overwrites=overwrites)
        way = _fastest(op, tried, inputs, choices, place.memory)
        cost = _cost(way, inputs, overwrites)
        # Not on copies: which values share memory is seen here.
        out = way(*inputs)
        values[group.value] = out
        freed = tuple({source for source in read if source and last[source] == group.position})
        owned = _owned(values, freed)
        steps.append(Step(way, read, group.value, freed, owned, cost))
        for source in freed:
            value = values.pop(source)
            if source in owned:
                place.memory.give_back(value)
    return steps


def _cost(way: Way, inputs: list[Tensor], overwrites: bool) -> Cost:
    copies = [one.clone() for one in inputs] if overwrites else inputs
    return way.cost(copies, way(*copies))


def _fastest(
    op: Op, tried: list[Way], inputs: list[Tensor], choices: list[Choice], memory: Memory
) -> Way:
    if len(tried) == 1:
        return tried[0]
    by_name, title = {way.name: way for way in tried}, _title(op, inputs)
    for choice in choices:  # layers alike are timed once
        if choice.op == title and choice.milliseconds.keys() == by_name.keys():
            return by_name[choice.kernel]
    calls = {name: partial(_call, way, memory) for name, way in by_name.items()}
    times = in_turn(calls, *inputs)
    name = min(times, key=lambda name: times[name] * (1 if "native" in name else HANDICAP))
    choices.append(Choice(title, name, times))
    return by_name[name]


def _call(way: Way, memory: Memory, *inputs: Tensor) -> None:
    """A call as it will be in the runner, whose memory is used again."""
    memory.give_back(way(*inputs))


def _title(op: Op, inputs: list[Tensor]) -> str:
    if isinstance(op, Linear):
        return f"Linear({op.weight.size(1)}, {op.weight.size(0)})"
    return f"{type(op).__name__}({inputs[0].size(1)})"
