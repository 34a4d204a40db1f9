"""A model as a list of operations on node features, which passes read and rewrite.

Values are matrices ``[num_nodes, channels]``, numbered by the operations that write them; value 0
is the input. Parameters are plain tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Linear:
    """``x @ weight.T + bias``.

    Attributes:
        source: The value that is read.
        weight: ``[out, in]``.
        bias: ``[out]``, or ``None``.
    """

    source: int
    weight: Tensor
    bias: Tensor | None = None


@dataclass(frozen=True)
class Rule:
    """How a sum over neighbours is weighted.

    Attributes:
        norm: ``"gcn"`` divides by the square roots of both ends' weighted in-degrees, loops
            included (Kipf & Welling, arXiv 1609.02907), ``"mean"`` by the number of edges, and
            ``"sum"`` by nothing.
        loops: Weight of the self-loop that a node without one gets; ``None`` adds none.
        own: What a node's own row is multiplied by before it is added, after the sum.
        weighted: Whether edges count by ``edge_weight``, if there is one.
    """

    norm: Literal["gcn", "sum", "mean"] = "sum"
    loops: float | None = None
    own: float = 0.0
    weighted: bool = False


@dataclass(frozen=True)
class Aggregate:
    """A weighted sum over the in-neighbours of each node, channel by channel.

    Attributes:
        source: The value that is read.
        rule: How it is weighted.
    """

    source: int
    rule: Rule


@dataclass(frozen=True)
class Attend:
    """A sum over in-neighbours weighted by attention, that of the head of each channel.

    The attention of an edge is the softmax, over the edges into its target, of
    ``leaky_relu(source . att_source + target . att_target)`` within a head (Veličković et al.,
    arXiv 1710.10903).

    Attributes:
        source: The value that is read, ``[num_nodes, channels]``.
        att_source: ``[channels]``.
        att_target: ``[channels]``.
        head: ``[channels]`` int64, ascending: the head of each channel.
        channels: ``[out]`` int64, ascending: the channels that are summed; others only attend.
        slope: Of the leaky ReLU.
        loops: Whether self-loops are replaced by one for each node.
    """

    source: int
    att_source: Tensor
    att_target: Tensor
    head: Tensor
    channels: Tensor
    slope: float
    loops: bool


@dataclass(frozen=True)
class SoftmaxMean:
    """A mean over the in-neighbours of each node, weighted by a softmax in each channel.

    The weights are the softmax of ``temperature * x`` over the edges into a node; a node without
    any gets 0 (Li et al., arXiv 2006.07739).

    Attributes:
        source: The value that is read.
        temperature: ``[1]`` or ``[channels]``.
        learned: Whether the temperature is a parameter.
    """

    source: int
    temperature: Tensor
    learned: bool


@dataclass(frozen=True)
class Pick:
    """Some of the channels.

    Attributes:
        source: The value that is read.
        channels: ``[out]`` int64, ascending.
    """

    source: int
    channels: Tensor


@dataclass(frozen=True)
class Scale:
    """``x * scale + shift``, channel by channel.

    Attributes:
        source: The value that is read.
        scale: ``[channels]``, or ``None`` for 1.
        shift: ``[channels]``, or ``None`` for 0.
    """

    source: int
    scale: Tensor | None = None
    shift: Tensor | None = None


@dataclass(frozen=True)
class Map:
    """A function of each number by itself.

    Attributes:
        source: The value that is read.
        module: The function, without parameters.
    """

    source: int
    module: nn.Module


@dataclass(frozen=True)
class LayerNorm:
    """Every row to mean 0 and variance 1, then scaled and shifted.

    Attributes:
        source: The value that is read.
        weight: ``[channels]``, or ``None``.
        bias: ``[channels]``, or ``None``.
        eps: Added to the variance.
    """

    source: int
    weight: Tensor | None
    bias: Tensor | None
    eps: float


@dataclass(frozen=True)
class Join:
    """Several values in one.

    Attributes:
        sources: The values that are read.
        how: ``"sum"`` and ``"max"`` number by number, ``"cat"`` side by side.
    """

    sources: tuple[int, ...]
    how: Literal["sum", "max", "cat"]


AnyOp = TypeVar("AnyOp", bound="Op")
Op = Linear | Aggregate | Attend | SoftmaxMean | Pick | Scale | Map | LayerNorm | Join


@dataclass(frozen=True)
class Program:
    """Operations in order of execution; the last one's value is the output.

    Attributes:
        columns: ``[channels]`` int64, the columns of the features that make up value 0.
        num_features: Columns of the features.
        ops: The operation at position ``i`` writes value ``i + 1``.
        reads_edge_weight: Whether edges are weighted by ``edge_weight``.
    """

    columns: Tensor
    num_features: int
    ops: tuple[Op, ...]
    reads_edge_weight: bool = False

    def widths(self) -> list[int]:
        """Channels of every value."""
        found = [len(self.columns)]
        for op in self.ops:
            found.append(_width(op, found))
        return found

    def to(self, dtype: torch.dtype) -> Program:
        """The same in another precision."""
        return replace(self, ops=tuple(cast(op, dtype) for op in self.ops))


def sources(op: Op) -> tuple[int, ...]:
    """The values that an operation reads."""
    return op.sources if isinstance(op, Join) else (op.source,)


def reading(op: Op, read: Sequence[int]) -> Op:
    """The same operation on other values."""
    return replace(op, sources=tuple(read)) if isinstance(op, Join) else replace(op, source=read[0])


def tensors(op: Op) -> dict[str, Tensor]:
    """The parameters of an operation by name."""
    return {name: value for name, value in vars(op).items() if isinstance(value, Tensor)}


def cast(op: AnyOp, dtype: torch.dtype) -> AnyOp:
    """An operation in another precision."""
    floats: dict[str, Any] = {
        name: value.to(dtype) for name, value in tensors(op).items() if value.is_floating_point()
    }
    return replace(op, **floats)


def _width(op: Op, widths: Sequence[int]) -> int:
    if isinstance(op, Linear):
        return op.weight.size(0)
    if isinstance(op, (Attend, Pick)):
        return len(op.channels)
    if isinstance(op, Join) and op.how == "cat":
        return sum(widths[source] for source in op.sources)
    return widths[sources(op)[0]]
