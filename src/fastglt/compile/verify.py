"""Proof that a compiled model gives what the masked one gives."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.errors import CompileError

EXACT = 1e-9
"""Largest difference in float64, in units of the largest output."""
ROUNDED = 2e-4
"""The same in float32, but in units of 1 where the largest output is smaller."""
LOW = {torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""The same for kernels of a lower precision, on request, in units of the largest output."""
SUBGRAPHS = 3
"""Random induced subgraphs that are compared."""

Call = Callable[[nn.Module, Data], Tensor]


@dataclass(frozen=True)
class Differences:
    """Largest differences that were seen, in units of the largest output.

    Attributes:
        float64: On the whole graph, in double precision, of the module and of the kernels.
        float32: On the whole graph, in single precision, in units of 1 where outputs are smaller.
        subgraphs: On random induced subgraphs, in double precision.
        predict: Of what is precomputed for this graph, in the model's own precision.
    """

    float64: float
    float32: float
    subgraphs: float
    predict: float


def difference(found: Tensor, expected: Tensor, least: float = 0.0) -> float:
    """Largest difference of two outputs, in units of the largest expected one.

    Args:
        found: Some outputs.
        expected: What they should be.
        least: The smallest unit; if that and all that is expected are 0, the unit is 1.
    """
    if found.shape != expected.shape:
        return float("inf")
    if not expected.numel():
        return 0.0
    found, expected = found.double(), expected.double()
    largest = max(float(expected.abs().max()), least)
    gap = float((found - expected).abs().max()) / (largest or 1.0)
    return gap if gap == gap else float("inf")


@dataclass(frozen=True)
class Reference:
    """What a compiled model is to give.

    Attributes:
        model: The masked model.
        data: Its graph, with the kept edges.
        call: Calls the model on a graph.
    """

    model: nn.Module
    data: Data
    call: Call

    def outputs(self, dtype: torch.dtype, data: Data) -> Tensor:
        """Outputs on a graph, in a precision."""
        return self.call(copy.deepcopy(self.model).eval().to(dtype), _graph_in(data, dtype))


@torch.no_grad()
def verify(
    reference: Reference,
    plain: Callable[[torch.dtype], nn.Module],
    prepare: Callable[[Data], Data],
    kernels: Callable[[torch.dtype], Callable[[], Tensor]],
    predict: Callable[[], Tensor],
    tolerance: float = ROUNDED,
    seed: int = 0,
) -> Differences:
    """Compare a compiled model with the masked one.

    Args:
        reference: What it is to give.
        plain: The compiled module in a precision.
        prepare: Makes a graph ready for it.
        kernels: The program bound to the whole graph, in a precision.
        predict: Gives the whole graph's outputs in the model's own precision.
        tolerance: Largest difference of those.
        seed: Of the random subgraphs.

    Raises:
        CompileError: If they differ by more than :data:`EXACT` in float64, or :data:`ROUNDED` in
            float32, or ``predict`` by more than ``tolerance``, or if the masked model gives NaN or
            infinities.
    """
    data, generator = reference.data, torch.Generator().manual_seed(seed)

    own = reference.call(copy.deepcopy(reference.model).eval(), data)
    if not bool(own.isfinite().all()):
        raise CompileError(
            "the masked model gives NaN or infinities on this graph, so that nothing can be "
            "compared with it"
        )
    # What is expected of the whole graph is computed once in each precision.
    whole = {dtype: reference.outputs(dtype, data) for dtype in (torch.float64, torch.float32)}

    def gap(dtype: torch.dtype, graph: Data) -> float:
        expected = whole[dtype] if graph is data else reference.outputs(dtype, graph)
        ready = _graph_in(prepare(graph), dtype)
        model = plain(dtype)
        weight = ready.get("edge_weight") if model.reads_edge_weight else None
        found = model(ready.x, ready.edge_index, weight)
        return difference(found, expected, 1.0 if dtype == torch.float32 else 0.0)

    parts = [data.subgraph(_some(data, generator)) for _ in range(SUBGRAPHS)]
    double = torch.float64
    bound = difference(kernels(double)(), whole[double])
    result = Differences(
        max(gap(double, data), bound),
        gap(torch.float32, data),
        max(gap(double, part) for part in parts),
        difference(predict(), own, 1.0 if tolerance == ROUNDED else 0.0),
    )
    _check("in float64", result.float64, EXACT)
    _check("in float64 on a random subgraph", result.subgraphs, EXACT)
    _check("in float32", result.float32, ROUNDED)
    if tolerance != ROUNDED and not result.predict <= tolerance:
        raise CompileError(
            f"in the lower precision outputs are off by {result.predict:.3g} of the largest one, "
            f"and {tolerance:g} is allowed; compile in the model's own precision"
        )
    _check("as precomputed for this graph", result.predict, tolerance)
    return result


def _check(where: str, found: float, tolerance: float) -> None:
    if not found <= tolerance:
        raise CompileError(
            f"the compiled model differs from the masked one {where}: by {found:.3g} of the "
            f"largest output, and {tolerance:g} is allowed. Please report this"
        )


def _some(data: Data, generator: torch.Generator) -> Tensor:
    """``[num_nodes]`` bool: about half of the nodes, at least one."""
    keep = torch.rand(data.num_nodes, generator=generator) < 0.5
    keep[torch.randint(data.num_nodes, (1,), generator=generator)] = True
    return keep.to(data.edge_index.device)


def _graph_in(data: Data, dtype: torch.dtype) -> Data:
    result = copy.copy(data)
    for name, value in data:
        if isinstance(value, Tensor) and value.is_floating_point():
            result[name] = value.to(dtype)
    return result
