"""Linear maps whose weights take few bytes in a file, and are unpacked when they are used."""

from __future__ import annotations

import copy
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST_GAP = 255
"""What a byte can hold."""
LARGEST_INT8 = 127


def packed(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The kept numbers of a matrix, and how far each is from the one before.

    Args:
        matrix: ``[rows, columns]``, with at least one number.

    Returns:
        ``values`` ``[n]`` and ``gaps`` ``[n]`` uint8, the distances of their places in the
        flattened matrix. What no byte can hold is bridged by values that are 0.
    """
    flat = matrix.flatten()
    kept = flat.nonzero().view(-1)
    before = torch.cat([kept.new_zeros(1), kept[:-1]])
    bridges = (kept - before) // LARGEST_GAP
    bridges[kept - before == bridges * LARGEST_GAP] -= 1  # a whole number of steps is no bridge
    bridges.clamp_(min=0)
    place = torch.arange(len(kept), device=kept.device) + bridges.cumsum(0)
    length = max(1, len(kept) + int(bridges.sum()))
    values = flat.new_zeros(length).scatter(0, place, flat[kept])
    gaps = kept.new_full((length,), LARGEST_GAP if len(kept) else 0)
    gaps = gaps.scatter(0, place, kept - before - bridges * LARGEST_GAP)
    return values, gaps.to(torch.uint8)


def unpacked(values: Tensor, gaps: Tensor, rows: int, columns: int) -> Tensor:
    """The matrix ``[rows, columns]`` that :func:`packed` was given."""
    flat = values.new_zeros(rows * columns)
    return flat.scatter(0, gaps.to(torch.int64).cumsum(0), values).view(rows, columns)


def rounded(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix in whole numbers, symmetric around 0, and the unit of each row.

    Returns:
        ``[rows, columns]`` int8 and ``[rows]`` in the precision of the matrix.
    """
    largest = matrix.abs().amax(dim=1) if matrix.size(1) else matrix.new_zeros(matrix.size(0))
    unit = torch.where(largest == 0, 1.0, largest / LARGEST_INT8)
    return (matrix / unit.unsqueeze(1)).round().to(torch.int8), unit


class CompactLinear(nn.Module):
    """``x @ weight.T + bias`` with the weight packed where that takes fewer bytes.

    Args:
        linear: The map that it stands for.
        weights: ``"float"`` keeps the weight as it is, ``"int8"`` rounds it.
    """

    values: Tensor
    gaps: Tensor | None
    unit: Tensor | None
    bias: Tensor | None

    def __init__(self, linear: nn.Linear, weights: Literal["float", "int8"]) -> None:
        super().__init__()
        values, gaps, unit = linear.weight.detach(), None, None
        self.rows, self.columns = values.shape
        if weights == "int8":
            values, unit = rounded(values)
        if values.numel():
            few, steps = packed(values)
            if few.nbytes + steps.nbytes < values.nbytes:
                values, gaps = few, steps
        self.register_buffer("values", values)
        self.register_buffer("gaps", gaps)
        self.register_buffer("unit", unit)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def weight(self) -> Tensor:
        """``[rows, columns]``."""
        weight = self.values if self.unit is None else self.values.to(self.unit.dtype)
        if self.gaps is not None:
            weight = unpacked(weight, self.gaps, self.rows, self.columns)
        return weight if self.unit is None else weight * self.unit.unsqueeze(1)

    def forward(self, x: Tensor) -> Tensor:
        """``[num_nodes, rows]`` of ``[num_nodes, columns]``."""
        return F.linear(x, self.weight(), self.bias)

    def extra_repr(self) -> str:
        """Sizes and form."""
        form = "dense" if self.gaps is None else f"{len(self.values)} packed"
        return f"{self.columns} -> {self.rows}, {form}, {self.values.dtype}"


def compact(model: nn.Module, weights: Literal["float", "int8"]) -> nn.Module:
    """A copy of a model in evaluation, its linear maps as :class:`CompactLinear`."""
    model = copy.deepcopy(model).eval().requires_grad_(False)
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear:
            model.set_submodule(name, CompactLinear(module, weights))
    return model
