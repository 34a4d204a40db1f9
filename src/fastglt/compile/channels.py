"""The channel pass: what is the same for every node, or read by nobody, is not computed.

A unit without a kept input is a constant. Constants are carried through activations and norms and
folded into the bias of the linear maps that read them; channels that no kept weight reads are left
out with all that only they need. Outputs stay equal up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fastglt.compile.program import (
    Aggregate,
    Attend,
    Join,
    LayerNorm,
    Linear,
    Map,
    Op,
    Pick,
    Program,
    Scale,
    SoftmaxMean,
    reading,
    sources,
    tensors,
)


@dataclass(frozen=True)
class Constant:
    """Which channels of a value are the same for every node of every graph.

    Attributes:
        known: ``[channels]`` bool.
        value: ``[channels]``, 0 where unknown.
    """

    known: Tensor
    value: Tensor


def live_channels(program: Program) -> Program:
    """The program with its live channels only."""
    constants = _constants(program)
    needed = _needed(program, constants)
    columns = program.columns[needed[0]]
    ops: list[Op] = []
    number = [0]
    for position, op in enumerate(program.ops, start=1):
        read = [number[source] for source in sources(op)]
        if _is_by_channel(op):
            # What others need of its sources is not computed again here.
            for place, source in enumerate(sources(op)):
                surplus = needed[source] & ~needed[position]
                if bool(surplus.any()):
                    ops.append(Pick(read[place], _places(needed[source], needed[position])))
                    read[place] = len(ops)
        ops.append(reading(_narrowed(op, constants, needed, position), read))
        number.append(len(ops))
    return replace(program, columns=columns, ops=tuple(ops))


def merged(program: Program) -> Program:
    """The program with consecutive scalings and shifts in one operation."""
    readers = _num_readers(program)
    ops = list(program.ops)
    for position, op in enumerate(ops):
        if not isinstance(op, Scale) or op.source == 0 or readers[op.source] > 1:
            continue
        first = ops[op.source - 1]
        if isinstance(first, Scale):
            ops[position] = _composed(first, op)
            ops[op.source - 1] = Scale(first.source)
    return _without_nothing(replace(program, ops=tuple(ops)))


def _composed(first: Scale, second: Scale) -> Scale:
    scale, shift = first.scale, first.shift
    if second.scale is not None:
        scale = second.scale if scale is None else scale * second.scale
        shift = None if shift is None else shift * second.scale
    if second.shift is not None:
        shift = second.shift if shift is None else shift + second.shift
    return Scale(first.source, scale, shift)


def _without_nothing(program: Program) -> Program:
    """Leave out scalings by 1, and number the values anew."""
    number = [0]
    ops: list[Op] = []
    for op in program.ops:
        read = [number[source] for source in sources(op)]
        if isinstance(op, Scale) and op.scale is None and op.shift is None:
            number.append(read[0])
            continue
        ops.append(reading(op, read))
        number.append(len(ops))
    return replace(program, ops=tuple(ops))


def _num_readers(program: Program) -> list[int]:
    count = [0] * (len(program.ops) + 1)
    for op in program.ops:
        for source in sources(op):
            count[source] += 1
    count[-1] += 1
    return count


def _constants(program: Program) -> list[Constant]:
    width, device = len(program.columns), program.columns.device
    dtype = next(
        value.dtype
        for op in program.ops
        for value in tensors(op).values()
        if value.is_floating_point()
    )
    known = torch.zeros(width, dtype=torch.bool, device=device)
    found = [Constant(known, torch.zeros(width, dtype=dtype, device=device))]
    for op in program.ops:
        found.append(_constant(op, [found[source] for source in sources(op)]))
    return found


def _constant(op: Op, read: Sequence[Constant]) -> Constant:
    known, value = read[0].known, read[0].value
    if isinstance(op, Linear):
        known = ~(op.weight[:, ~known] != 0).any(dim=1)
        value = op.weight @ value
        if op.bias is not None:
            value = value + op.bias
    elif isinstance(op, (Aggregate, Attend, SoftmaxMean)):
        # What comes of a constant depends on the number of neighbours, unless it is 0.
        known = known & (value == 0)
        if isinstance(op, Attend):
            known, value = known[op.channels], value[op.channels]
    elif isinstance(op, Pick):
        known, value = known[op.channels], value[op.channels]
    elif isinstance(op, Scale):
        value = value if op.scale is None else value * op.scale
        value = value if op.shift is None else value + op.shift
    elif isinstance(op, Map):
        value = op.module(value.clone())  # it may overwrite what it reads
    elif isinstance(op, LayerNorm):
        known = torch.zeros_like(known)
    elif op.how == "cat":
        known = torch.cat([one.known for one in read])
        value = torch.cat([one.value for one in read])
    else:
        values = torch.stack([one.value for one in read])
        known = torch.stack([one.known for one in read]).all(dim=0)
        value = values.sum(dim=0) if op.how == "sum" else values.amax(dim=0)
    return Constant(known, torch.where(known, value, torch.zeros_like(value)))


def _needed(program: Program, constants: Sequence[Constant]) -> list[Tensor]:
    """``[channels]`` bool for every value: whether it has to be computed."""
    needed = [torch.zeros_like(one.known) for one in constants]
    needed[-1].fill_(True)
    for position in range(len(program.ops), 0, -1):
        _ask(program.ops[position - 1], needed, position, constants)
    for position, op in enumerate(program.ops, start=1):
        if isinstance(op, Join) and op.how == "cat":  # it has all that its sources have
            needed[position].copy_(torch.cat([needed[source] for source in op.sources]))
    return needed


def _ask(op: Op, needed: Sequence[Tensor], position: int, constants: Sequence[Constant]) -> None:
    """What an operation reads is needed."""
    wanted = needed[position]
    if isinstance(op, Linear):
        read = (op.weight[wanted] != 0).any(dim=0)
        needed[op.source] |= read & ~constants[op.source].known
    elif isinstance(op, Attend):
        needed[op.source] |= _attended(op, op.channels[wanted], constants[op.source])
    elif isinstance(op, Pick):
        needed[op.source][op.channels[wanted]] = True
    elif isinstance(op, LayerNorm):
        if bool(wanted.any()):
            needed[op.source].fill_(True)
            wanted.fill_(True)
    elif isinstance(op, Join) and op.how == "cat":
        start = 0
        for source in op.sources:
            end = start + len(needed[source])
            needed[source] |= wanted[start:end]
            start = end
    else:
        for source in sources(op):
            needed[source] |= wanted


def _is_by_channel(op: Op) -> bool:
    """Whether a channel depends on the same channel of what is read, and on no other."""
    if isinstance(op, Join):
        return op.how != "cat"
    return isinstance(op, (Aggregate, SoftmaxMean, Scale, Map, LayerNorm))


def _places(there: Tensor, wanted: Tensor) -> Tensor:
    """``[k]`` int64: where the ``wanted`` channels are among those that are ``there``."""
    return wanted[there].nonzero().view(-1)


def _attended(op: Attend, summed: Tensor, constant: Constant) -> Tensor:
    """Channels that are summed, and those that the attention of their heads goes by."""
    in_use = torch.isin(op.head, op.head[summed])
    zero = constant.known & (constant.value == 0)
    heard = (op.att_source != 0) | (op.att_target != 0)
    read = in_use & heard & ~zero
    read[summed] = True
    return read


def _narrowed(op: Op, constants: Sequence[Constant], needed: Sequence[Tensor], position: int) -> Op:
    """The operation on the needed channels of its sources, for those of its own value."""
    rows = needed[position].nonzero().view(-1)
    if isinstance(op, Linear):
        constant, read = constants[op.source], needed[op.source]
        folded = constant.known & ~read
        weight, bias = op.weight[rows], None if op.bias is None else op.bias[rows]
        if bool((constant.value[folded] != 0).any()):
            inner = weight[:, folded] @ constant.value[folded]
            bias = inner if bias is None else bias + inner
        return Linear(op.source, weight[:, read].contiguous(), bias)
    if isinstance(op, Attend):
        read = needed[op.source]
        return replace(
            op,
            att_source=op.att_source[read],
            att_target=op.att_target[read],
            head=op.head[read],
            channels=_numbered(read)[op.channels[rows]],
        )
    if isinstance(op, Pick):
        return Pick(op.source, _numbered(needed[op.source])[op.channels[rows]])
    if isinstance(op, SoftmaxMean) and len(op.temperature) > 1:
        return replace(op, temperature=op.temperature[rows])
    if isinstance(op, Scale):
        scale, shift = (None if p is None else p[rows] for p in (op.scale, op.shift))
        return Scale(op.source, scale, shift)
    if isinstance(op, LayerNorm):
        factor, shift = (None if p is None else p[rows] for p in (op.weight, op.bias))
        return replace(op, weight=factor, bias=shift)
    return op


def _numbered(there: Tensor) -> Tensor:
    """The place of each channel among those that are ``there``."""
    return there.cumsum(0) - 1
