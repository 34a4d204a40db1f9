"""The order pass: sums over neighbours where there are fewer channels, and scalings in weights.

A linear map without a bias and a weighted sum over neighbours can change places, ``A (X W)`` and
``(A X) W``; and what scales a channel after both can scale the row of the weight.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from fastglt.compile.program import Aggregate, Linear, Map, Op, Program, Scale, sources


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


def padded(program: Program, lanes: int) -> Program:
    """The program with empty channels between linear maps, up to a multiple of ``lanes``.

    Rows are then aligned with vectors and lines of caches. Only where sums over neighbours and
    functions of single numbers lie between two maps, and nobody else reads them.
    """
    readers = Counter(source for op in program.ops for source in sources(op))
    reader = {s: place for place, op in enumerate(program.ops) for s in sources(op)}
    ops = list(program.ops)
    for start, op in enumerate(program.ops):
        if not isinstance(op, Linear):
            continue
        between: list[int] = []
        following = reader.get(start + 1)
        while following is not None and isinstance(ops[following], (Aggregate, Scale, Map)):
            between.append(following)
            following = reader.get(following + 1)
        alone = all(readers[place + 1] == 1 for place in (start, *between))
        end = None if following is None else ops[following]
        more = -op.weight.size(0) % lanes
        if not alone or not isinstance(end, Linear) or op.weight.size(0) <= lanes // 2 or not more:
            continue
        first = ops[start]
        assert isinstance(first, Linear)
        assert following is not None
        weight, bias = F.pad(first.weight, (0, 0, 0, more)), _more(first.bias, more)
        ops[start] = replace(first, weight=weight, bias=bias)
        ops[following] = replace(end, weight=F.pad(end.weight, (0, more)))
        for place in between:
            scaled = ops[place]
            if isinstance(scaled, Scale):
                scale, shift = _more(scaled.scale, more), _more(scaled.shift, more)
                ops[place] = replace(scaled, scale=scale, shift=shift)
    return replace(program, ops=tuple(ops))


def _more(vector: Tensor | None, more: int) -> Tensor | None:
    return None if vector is None else F.pad(vector, (0, more))


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
