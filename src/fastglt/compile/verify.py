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
"""Largest difference in float64, in units of the largest output or 1."""
ROUNDED = 2e-4
"""The same in float32."""
SUBGRAPHS = 3
"""Random induced subgraphs that are compared."""

Call = Callable[[nn.Module, Data], Tensor]


@dataclass(frozen=True)
class Differences:
    """Largest differences that were seen, in units of the largest output or 1.

    Attributes:
        float64: On the whole graph, in double precision.
        float32: On the whole graph, in single precision.
        subgraphs: On random induced subgraphs, in double precision.
        predict: Of what is precomputed for this graph, in the model's own precision.
    """

    float64: float
    float32: float
    subgraphs: float
    predict: float


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference of two outputs, in units of the largest expected one or 1."""
    if found.shape != expected.shape:
        return float("inf")
    if not expected.numel():
        return 0.0
    found, expected = found.double(), expected.double()
    largest = float(expected.abs().max().clamp_min(1))
    gap = float((found - expected).abs().max()) / largest
    return gap if gap == gap else float("inf")


@torch.no_grad()
def verify(
    reference: tuple[nn.Module, Data, Call],
    compiled: tuple[Callable[[torch.dtype], nn.Module], Callable[[Data], Data], Call],
    predict: Callable[[], Tensor],
    seed: int = 0,
) -> Differences:
    """Compare a compiled model with the masked one.

    Args:
        reference: The masked model, its graph, and how it is called.
        compiled: What gives the compiled model in a precision, what makes its graph of one of the
            former, and how it is called.
        predict: Gives the whole graph's outputs in the model's own precision.
        seed: Of the random subgraphs.

    Raises:
        CompileError: If they differ by more than :data:`EXACT` in float64, or :data:`ROUNDED` in
            float32.
    """
    model, data, call = reference
    small, prepare, call_small = compiled

    def gap(dtype: torch.dtype, graph: Data) -> float:
        expected = call(_in(model, dtype), _graph_in(graph, dtype))
        found = call_small(small(dtype), _graph_in(prepare(graph), dtype))
        return difference(found, expected)

    generator = torch.Generator().manual_seed(seed)
    parts = [data.subgraph(_some(data, generator)) for _ in range(SUBGRAPHS)]
    result = Differences(
        gap(torch.float64, data),
        gap(torch.float32, data),
        max(gap(torch.float64, part) for part in parts),
        difference(predict(), call(copy.deepcopy(model).eval(), data)),
    )
    _check("in float64", result.float64, EXACT)
    _check("in float64 on a random subgraph", result.subgraphs, EXACT)
    _check("in float32", result.float32, ROUNDED)
    _check("as precomputed for this graph", result.predict, ROUNDED)
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


def _in(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    return copy.deepcopy(model).eval().to(dtype)


def _graph_in(data: Data, dtype: torch.dtype) -> Data:
    result = copy.copy(data)
    for name, value in data:
        if isinstance(value, Tensor) and value.is_floating_point():
            result[name] = value.to(dtype)
    return result
