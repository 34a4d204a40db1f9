"""The kernel pass: a program bound to one graph, by the kernels that were fastest here.

Every operation that can be computed in several ways is timed on the actual operands.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastglt._csr import ignore_csr_warnings
from fastglt.compile.edges import Graph, csr
from fastglt.compile.plain import Joined, RowNorm, in_place
from fastglt.compile.program import (
    Aggregate,
    Attend,
    Join,
    LayerNorm,
    Linear,
    Map,
    Op,
    Program,
    Scale,
    sources,
)

REPEATS = 5
"""Timed calls of each kernel, in turn."""
SPARSE_FEATURES, SPARSE_WEIGHTS = 0.5, 0.2
"""Shares of entries that are not 0 up to which a sparse kernel is tried."""

Kernel = Callable[..., Tensor]


@dataclass(frozen=True)
class Choice:
    """Which kernel an operation got.

    Attributes:
        op: What is computed.
        kernel: The fastest.
        milliseconds: Median of each that was tried.
    """

    op: str
    kernel: str
    milliseconds: Mapping[str, float]


@dataclass(frozen=True)
class Step:
    """An operation bound to its graph.

    Attributes:
        kernel: What is called.
        sources: The values that it reads.
        last_read: Values that nobody reads afterwards.
    """

    kernel: Kernel
    sources: tuple[int, ...]
    last_read: tuple[int, ...]


class Runner:
    """Computes a program on one graph.

    Attributes:
        choices: The kernels that were chosen.
    """

    def __init__(self, program: Program, graph: Graph, x: Tensor) -> None:
        self._x = _smallest(x)
        self.choices: list[Choice] = []
        with torch.no_grad(), ignore_csr_warnings():
            self._steps = _bind(program, graph, self._x, self.choices)

    @torch.no_grad()
    def __call__(self) -> Tensor:
        """Output ``[num_nodes, num_outputs]``."""
        values: list[Tensor | None] = [self._x]
        with ignore_csr_warnings():
            for step in self._steps:
                values.append(step.kernel(*(values[source] for source in step.sources)))
                for value in step.last_read:
                    values[value] = None
        out = values[-1]
        assert out is not None
        return out


def _smallest(x: Tensor) -> Tensor:
    """Features as CSR where most of them are 0."""
    if x.layout != torch.strided:
        return x
    entries = x.nonzero().t()
    if entries.size(1) > SPARSE_FEATURES * x.numel():
        return x.contiguous()
    return csr(entries, x[entries[0], entries[1]], (x.size(0), x.size(1)))


def _bind(program: Program, graph: Graph, x: Tensor, choices: list[Choice]) -> list[Step]:
    values: list[Tensor] = [x]
    last = {source: position for position, op in enumerate(program.ops) for source in sources(op)}
    steps = []
    for position, op in enumerate(program.ops):
        read = sources(op)
        inputs = [values[source] for source in read]
        # What nobody else reads may be overwritten.
        own = [last[s] == position and s > 0 and read.count(s) == 1 for s in read]
        kernels = _kernels(op, graph, inputs, overwrites=own[0])
        name = next(iter(kernels))
        if len(kernels) > 1:
            times = in_turn(kernels, *inputs)
            name = min(times, key=times.__getitem__)
            choices.append(Choice(_title(op), name, times))
        freed = tuple({source for source in read if last[source] == position})
        steps.append(Step(kernels[name], read, freed))
        values.append(kernels[name](*(one.clone() for one in inputs)))
    return steps


def _title(op: Op) -> str:
    if isinstance(op, Linear):
        return f"Linear({op.weight.size(1)}, {op.weight.size(0)})"
    return type(op).__name__


def in_turn(kernels: Mapping[str, Callable[..., object]], *inputs: Tensor) -> dict[str, float]:
    """Median milliseconds of each, called in turn."""
    times: dict[str, list[float]] = {name: [] for name in kernels}
    for repeat in range(REPEATS + 1):
        for name, kernel in kernels.items():
            start = time.perf_counter()
            kernel(*inputs)
            if repeat:
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(found) for name, found in times.items()}


def _kernels(op: Op, graph: Graph, inputs: list[Tensor], *, overwrites: bool) -> dict[str, Kernel]:
    """The ways to compute an operation, by name."""
    if isinstance(op, Linear):
        return _linear_kernels(op, inputs[0])
    if isinstance(op, Aggregate):
        matrix = graph.adjacency(op.rule, inputs[0].dtype)
        return {
            "library product": lambda x: matrix @ x,
            "row by row": lambda x: torch.sparse.mm(matrix, x, "sum"),
        }
    if isinstance(op, Attend):
        return {"products by head": AttendedProducts(op, graph)}
    if isinstance(op, Scale):
        return {"elementwise": _scale(op, overwrites)}
    if isinstance(op, Map):
        return {"elementwise": in_place(copy.deepcopy(op.module), overwrites)}
    if isinstance(op, LayerNorm):
        return {"elementwise": RowNorm(op)}
    assert isinstance(op, Join)
    return {"elementwise": Joined(op.how)}


def _linear_kernels(op: Linear, x: Tensor) -> dict[str, Kernel]:
    weight, bias = op.weight, op.bias
    transposed = weight.t().contiguous()
    if x.layout != torch.strided:
        dense = x.to_dense()

        def product(x: Tensor) -> Tensor:
            out = x @ transposed
            return out if bias is None else out.add_(bias)

        def by_rows(x: Tensor) -> Tensor:
            out: Tensor = torch.sparse.mm(x, transposed, "sum")
            return out if bias is None else out.add_(bias)

        return {
            "sparse features, library product": product,
            "sparse features, row by row": by_rows,
            "dense": lambda _: F.linear(dense, weight, bias),
        }
    kernels: dict[str, Kernel] = {"dense": lambda x: F.linear(x, weight, bias)}
    entries = weight.nonzero().t()
    if 0 < entries.size(1) <= SPARSE_WEIGHTS * weight.numel():
        values = weight[entries[0], entries[1]]
        matrix = csr(entries, values, (weight.size(0), weight.size(1)))

        def by_weights(x: Tensor) -> Tensor:
            out = (matrix @ x.t()).t().contiguous()
            return out if bias is None else out.add_(bias)

        kernels["sparse weights"] = by_weights
    return kernels


def _scale(op: Scale, overwrites: bool) -> Kernel:
    def kernel(x: Tensor) -> Tensor:
        if op.scale is not None:
            x = x.mul_(op.scale) if overwrites else x * op.scale
            return x if op.shift is None else x.add_(op.shift)
        assert op.shift is not None
        return x.add_(op.shift) if overwrites else x + op.shift

    return kernel


class AttendedProducts(nn.Module):
    """Attention as one sparse product for each head, with nothing of the size edges x channels."""

    def __init__(self, op: Attend, graph: Graph) -> None:
        super().__init__()
        graph = graph.with_loops() if op.loops else graph
        self.source, self.target = graph.edge_index
        shape = (graph.num_nodes, graph.num_nodes)
        values = op.att_source.new_ones(self.source.numel())
        matrix = csr(graph.edge_index.flip(0), values, shape)
        self.starts, self.columns = matrix.crow_indices(), matrix.col_indices()
        self.offsets = self.starts.to(torch.int64)
        self.shape = shape
        heads, head = torch.unique(op.head, return_inverse=True)
        by_head = F.one_hot(head, max(len(heads), 1)).to(op.att_source)
        self.by_source = by_head * op.att_source.unsqueeze(1)
        self.by_target = by_head * op.att_target.unsqueeze(1)
        summed = head[op.channels]
        self.parts = [op.channels[summed == one] for one in range(len(heads))]
        self.slope = op.slope

    def forward(self, x: Tensor) -> Tensor:
        """Sums ``[num_nodes, out]`` of ``[num_nodes, channels]``."""
        by_source, by_target = x @ self.by_source, x @ self.by_target
        score = by_source.index_select(0, self.source).add_(by_target.index_select(0, self.target))
        score = F.leaky_relu_(score, self.slope)
        largest = torch.segment_reduce(score, "max", offsets=self.offsets, axis=0)
        largest = torch.where(largest.isfinite(), largest, 0.0)
        share = score.sub_(largest.index_select(0, self.target)).exp_().t().contiguous()
        out = []
        for head, channels in enumerate(self.parts):
            if not len(channels):
                continue
            matrix = torch.sparse_csr_tensor(
                self.starts, self.columns, share[head], self.shape, check_invariants=False
            )
            wide = torch.cat([x.index_select(1, channels), x.new_ones(x.size(0), 1)], dim=1)
            summed = matrix @ wide
            total = summed[:, -1:].clamp_(min=torch.finfo(x.dtype).tiny)
            out.append(summed[:, :-1] / total)
        return torch.cat(out, dim=1) if out else x.new_empty(x.size(0), 0)
