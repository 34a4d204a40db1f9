"""The order pass: sums over neighbours where there are fewer channels, and scalings in weights.

A linear map without a bias and a weighted sum over neighbours can change places, ``A (X W)`` and
``(A X) W``; and what scales a channel after both can scale the row of the weight.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from fastglt.compile.program import Aggregate, Linear, Op, Program, Scale, sources


def folded(program: Program) -> Program:
    """The program with scalings in the weights of the linear maps that they come after.

    Between the two may be a sum over neighbours, and nobody else may read what is scaled.
    """
    readers = Counter(source for op in program.ops for source in sources(op))
    ops = list(program.ops)
    for position, op in enumerate(ops):
        if not isinstance(op, Scale) or op.scale is None:
            continue
        source = op.source
        while source and readers[source] == 1 and isinstance(ops[source - 1], Aggregate):
            source = sources(ops[source - 1])[0]
        before = ops[source - 1] if source and readers[source] == 1 else None
        if isinstance(before, Linear) and (before.bias is None or source == op.source):
            bias = None if before.bias is None else before.bias * op.scale
            weight = before.weight * op.scale.unsqueeze(1)
            ops[source - 1] = Linear(before.source, weight, bias)
            ops[position] = Scale(op.source, None, op.shift)
    return replace(program, ops=tuple(ops))


def summed_first(program: Program, *, features: bool) -> Program | None:
    """The program with sums over neighbours before linear maps that widen; ``None`` without such.

    Args:
        program: The program.
        features: Whether the features themselves may be summed, which makes sparse ones dense.
    """
    readers = Counter(source for op in program.ops for source in sources(op))
    ops: list[Op] = list(program.ops)
    for position, op in enumerate(program.ops):
        before = ops[position - 1] if position else None
        if not isinstance(op, Aggregate) or not isinstance(before, Linear):
            continue
        adjacent = op.source == position and readers[position] == 1 and before.bias is None
        widens = before.weight.size(0) > before.weight.size(1)
        if adjacent and widens and (features or before.source):
            ops[position - 1] = Aggregate(before.source, op.rule)
            ops[position] = Linear(position, before.weight)
    moved = any(new is not old for new, old in zip(ops, program.ops, strict=True))
    return replace(program, ops=tuple(ops)) if moved else None
