"""The functions of ``kernels.cpp`` on tensors."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

import torch
from torch import Tensor

from fastglt.compile.edges import Graph
from fastglt.compile.layout import Memory
from fastglt.compile.native.build import load
from fastglt.compile.program import Rule

MAPPED = 64
"""Outputs of a linear map up to which it may be done together with the sum before it."""
VECTOR = 16
"""Channels that kernels compute at once."""
PADDING = 16
"""Entries after the last one that may be looked at (``kAhead`` in the source)."""
CHUNKS = 64
"""Parts that the rows are divided into, for threads to take one after the other."""
_WORKING = {
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.bfloat16: torch.float32,
}
"""Precision of the values to that of weights and sums."""

_INTEGER, _REAL, _POINTER, _THREADS = (
    ctypes.c_int64,
    ctypes.c_double,
    ctypes.c_void_p,
    ctypes.c_int,
)
_ROWS = [_POINTER, _POINTER, _POINTER]
_VALUES = [_POINTER, _INTEGER]
_ENDING = [_POINTER, _REAL, _POINTER, _INTEGER]
_ARGUMENTS: dict[str, list[Any]] = {
    "product": [
        _INTEGER, *_ROWS, *_VALUES, _INTEGER, _INTEGER, _INTEGER, _POINTER, _REAL, _POINTER,
        _INTEGER, _INTEGER, *_ENDING, _INTEGER, _THREADS,
    ],
    "attend": [
        _INTEGER, _POINTER, _POINTER, _POINTER, _POINTER, _INTEGER, _INTEGER, _POINTER, _POINTER,
        _REAL, *_VALUES, _INTEGER, *_ENDING, _INTEGER, _THREADS,
    ],
    "sparse_linear": [_INTEGER, _INTEGER, _INTEGER, *_ROWS, *_VALUES, *_ENDING, _THREADS],
}  # fmt: skip


def supports(x: Tensor, num_edges: int) -> bool:
    """Whether there are kernels for values like these, on a graph of so many edges."""
    entries = 0 if x.layout == torch.strided else x._nnz()
    small = max(entries, *x.shape, num_edges + x.size(0)) < 2**31
    return x.device.type == "cpu" and x.dtype in _WORKING and small


def padded_heads(heads: int) -> int:
    """The number of heads, with empty ones added, that attention is computed for at once."""
    return next((size for size in (1, 2, 4) if heads <= size), -(-heads // 8) * 8)


def working(dtype: torch.dtype) -> torch.dtype:
    """The precision of weights and sums where values have this one."""
    return _WORKING[dtype]


@dataclass(frozen=True)
class Ending:
    """What is done with sums before they are written.

    Attributes:
        shift: ``[channels]``, added first; ``None`` adds nothing.
        slope: What is below 0 then is multiplied by it: 1 is no activation, 0 a ReLU.
    """

    shift: Tensor | None = None
    slope: float = 1.0


class Rows:
    """A CSR matrix as the kernels read it, in their working precision.

    Args:
        matrix: ``[rows, columns]`` CSR of less than 2^31 entries, rows and columns.
        dtype: Of the values that it will be multiplied with.
    """

    def __init__(self, matrix: Tensor, dtype: torch.dtype) -> None:
        self.starts = matrix.crow_indices().to(torch.int32).contiguous()
        columns = matrix.col_indices().to(torch.int32)
        self.columns = torch.cat([columns, columns.new_zeros(PADDING)])
        self.values = matrix.values().to(working(dtype)).contiguous()
        self.shape = (matrix.size(0), matrix.size(1))
        self.num_entries = columns.numel()
        self.chunk = max(1, self.shape[0] // CHUNKS)

        # They hold for this object alone: runners are neither pickled nor copied.
        self.pointers = tuple(part.data_ptr() for part in (self.starts, self.columns, self.values))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a matrix of the kernels holds addresses, and cannot be pickled")


def rows_of(graph: Graph, rule: Rule, dtype: torch.dtype) -> Rows:
    """The adjacency matrix by which neighbours are summed, one for all layers."""
    matrix = graph.adjacency(rule, working(dtype))
    return graph.once((Rows, rule, working(dtype)), lambda: Rows(matrix, dtype))


class Narrow:
    """A linear map to few channels, and its ending, that a kernel does before it writes.

    Args:
        weight: ``[out, in]``.
        ending: What is done with its sums.
        dtype: Of the values.
    """

    def __init__(self, weight: Tensor, ending: Ending, dtype: torch.dtype) -> None:
        self.width = weight.size(0)
        if self.width > MAPPED:
            raise ValueError(f"a map has at most {MAPPED} outputs (got {self.width})")
        stride = next((size for size in (4, 8) if self.width <= size), None)
        stride = stride or -(-self.width // VECTOR) * VECTOR
        self.weight = weight.new_zeros(weight.size(1), stride, dtype=working(dtype))
        self.weight[:, : self.width] = weight.t()
        self.ending = ending


def product(
    matrix: Rows,
    x: Tensor,
    ending: Ending,
    memory: Memory,
    block: int | None = None,
    then: Narrow | None = None,
) -> Tensor:
    """``matrix @ x`` and its ending: ``[rows, channels]``.

    Args:
        matrix: ``[rows, columns]``.
        x: ``[columns, channels]``.
        ending: What is done with the sums.
        memory: What the result is written to.
        block: Channels that are computed at a time; all by default, and where a map follows.
        then: A map of each row, the result of which is written.
    """
    x = _by_rows(x)
    out = memory.new(x, matrix.shape[0], x.size(1) if then is None else then.width)
    next_map: tuple[Any, ...] = (None, 0, 0, None, 1.0)
    if then is not None:
        shift, slope = _pointer(then.ending.shift), then.ending.slope
        next_map = (then.weight.data_ptr(), then.width, then.weight.size(1), shift, slope)
    if out.numel():
        function = _function("product", x.dtype)
        function(
            matrix.shape[0], *matrix.pointers, x.data_ptr(), x.stride(0), x.size(1),
            x.nbytes, block or x.size(1), _pointer(ending.shift), ending.slope, *next_map,
            out.data_ptr(), out.stride(0), matrix.chunk,
            torch.get_num_threads(),
        )  # fmt: skip
    return out


def attend(
    pattern: Rows,
    scores: Tensor,
    segments: Tensor,
    head_of: Tensor,
    attention_slope: float,
    x: Tensor,
    ending: Ending,
    memory: Memory,
) -> Tensor:
    """Rows of ``x`` summed by attention, and their ending: ``[num_nodes, channels]``.

    Args:
        pattern: ``[num_nodes, num_nodes]``, who is heard by whom.
        scores: ``[num_nodes, 2 * heads]`` in the working precision: the terms of a node as a
            source, then as a target. ``heads`` is what :func:`padded_heads` gives.
        segments: ``[heads + 1]`` int32, where the channels of each head begin and end.
        head_of: ``[channels]`` int32, ascending, the head of each channel.
        attention_slope: Of the leaky ReLU of scores.
        x: ``[num_nodes, channels]``.
        ending: What is done with the sums.
        memory: What the result is written to.
    """
    x, heads = _by_rows(x), scores.size(1) // 2
    by_target = scores.data_ptr() + heads * scores.element_size()
    out = memory.new(x, pattern.shape[0], x.size(1))
    if out.numel():
        function = _function("attend", x.dtype)
        function(
            pattern.shape[0], *pattern.pointers[:2], scores.data_ptr(), by_target,
            scores.stride(0), heads, segments.data_ptr(), head_of.data_ptr(),
            attention_slope, x.data_ptr(), x.stride(0), x.nbytes, _pointer(ending.shift),
            ending.slope, out.data_ptr(), out.stride(0), pattern.chunk, torch.get_num_threads(),
        )  # fmt: skip
    return out


def sparse_linear(weight: Rows, x: Tensor, ending: Ending, memory: Memory) -> Tensor:
    """``x @ weight.T`` and its ending: ``[num_nodes, out]``.

    Args:
        weight: ``[out, in]``.
        x: ``[num_nodes, in]``.
        ending: What is done with the sums.
        memory: What the result is written to.
    """
    x = _by_rows(x)
    out = memory.new(x, x.size(0), weight.shape[0])
    if out.numel():
        function = _function("sparse_linear", x.dtype)
        function(
            x.size(0), weight.shape[1], weight.shape[0], *weight.pointers, x.data_ptr(),
            x.stride(0), _pointer(ending.shift), ending.slope, out.data_ptr(), out.stride(0),
            torch.get_num_threads(),
        )  # fmt: skip
    return out


def _by_rows(x: Tensor) -> Tensor:
    return x if x.stride(1) == 1 or x.size(1) == 1 else x.contiguous()


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


@lru_cache
def _function(name: str, dtype: torch.dtype) -> Any:
    function = getattr(load(), f"fastglt_{name}_{str(dtype).removeprefix('torch.')}")
    function.argtypes, function.restype = _ARGUMENTS[name], None
    return function
