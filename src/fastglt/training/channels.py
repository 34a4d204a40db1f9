"""Linear layers that compute with their live channels only.

Where most weights are pruned, many rows and columns of a weight matrix are zero as a whole. Leaving
them out of the products changes neither outputs nor the gradients of kept weights; those of pruned
weights, which nobody reads while masks stand, become 0 or stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch_geometric.nn import Linear as PyGLinear

WORTHWHILE = 0.6
"""Share of a weight matrix that its live rows and columns may span for the rest to be left out."""


class LiveLinear:
    """A linear layer with only those inputs and outputs that have a kept weight.

    Args:
        linear: The layer, whose pruned weights are 0.
        inputs: ``[k]`` int64, the live columns of its weight.
        outputs: ``[l]`` int64, the live rows.
    """

    def __init__(self, linear: nn.Linear, inputs: Tensor, outputs: Tensor) -> None:
        self._linear = linear
        self.inputs, self.outputs = inputs, outputs

    def __call__(self, x: Tensor) -> Tensor:
        """What the layer returns, ``[n, out_features]``; the rows of ``x`` may have any shape."""
        return self.finish(self.narrow(x))

    def weight(self) -> Tensor:
        """``[k, l]``, the live part of the transposed weight."""
        return self._linear.weight.index_select(0, self.outputs).index_select(1, self.inputs).t()

    def narrow(self, x: Tensor) -> Tensor:
        """The live outputs ``[n, l]``, without bias, of ``x`` ``[n, in_features]``."""
        if x.layout != torch.strided:
            return x @ self._linear.weight.index_select(0, self.outputs).t()
        if len(self.inputs) < x.size(-1):
            x = _Columns.apply(x, self.inputs)  # type: ignore[no-untyped-call]
        return x @ self.weight()

    def widen(self, out: Tensor) -> Tensor:
        """All outputs ``[n, out_features]``, 0 where none is live."""
        if len(self.outputs) == self._linear.weight.size(0):
            return out
        wide: Tensor = _Spread.apply(out, self.outputs, self._linear.weight.size(0))  # type: ignore[no-untyped-call]
        return wide

    def finish(self, out: Tensor) -> Tensor:
        """:meth:`widen`, and the bias."""
        wide, bias = self.widen(out), self._linear.bias
        return wide if bias is None else wide + bias


class LiveChannels:
    """Lets linear layers of a model compute with their live channels.

    These are plain ``nn.Linear`` and PyG's ``Linear`` where little of the weight is live.

    Args:
        model: The model, whose pruned weights are 0.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._mask: Mapping[str, Tensor] | None = None
        self._layers: dict[nn.Module, LiveLinear] = {}

    @contextmanager
    def under(self, mask: Mapping[str, Tensor] | None) -> Iterator[None]:
        """Serve the layers, within the context; the model is left as it was found.

        Args:
            mask: Kept weights by parameter name; ``None`` changes nothing.
        """
        served = {} if mask is None else self._live_layers(mask)
        served = {module: live for module, live in served.items() if "forward" not in vars(module)}
        for module, live in served.items():
            vars(module)["forward"] = live
        try:
            yield
        finally:
            for module in served:
                del vars(module)["forward"]

    def _live_layers(self, mask: Mapping[str, Tensor]) -> dict[nn.Module, LiveLinear]:
        if mask is not self._mask:
            masks = {id(p): mask.get(name) for name, p in self._model.named_parameters()}
            layers = {
                module: _live(module, masks.get(id(getattr(module, "weight", None))))
                for module in self._model.modules()
            }
            self._mask = mask
            self._layers = {module: live for module, live in layers.items() if live is not None}
        return self._layers


def _live(module: nn.Module, keep: Tensor | None) -> LiveLinear | None:
    if keep is None or type(module) not in (nn.Linear, PyGLinear):
        return None
    inputs, outputs = keep.any(dim=0).nonzero().view(-1), keep.any(dim=1).nonzero().view(-1)
    if len(inputs) * len(outputs) > WORTHWHILE * keep.numel():
        return None
    return LiveLinear(module, inputs, outputs)  # type: ignore[arg-type]


class _Columns(torch.autograd.Function):
    """Some columns of a matrix; the others get no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, columns: Tensor) -> Tensor:
        ctx.columns, ctx.width = columns, x.size(-1)
        return x.index_select(-1, columns)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _spread(gradient, ctx.columns, ctx.width), None


class _Spread(torch.autograd.Function):
    """Columns put into a wider matrix of zeros."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, columns: Tensor, width: int) -> Tensor:
        ctx.columns = columns
        return _spread(x, columns, width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.index_select(-1, ctx.columns), None, None


def _spread(values: Tensor, columns: Tensor, width: int) -> Tensor:
    wide = values.new_zeros(*values.shape[:-1], width)
    return wide.scatter_(-1, columns.expand(values.shape), values)
