"""What a model costs on a graph: parameters and multiply-accumulate operations."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric.nn import MessagePassing

INDEX_BYTES = 4
"""Bytes of an index of a sparse matrix."""


def num_parameters(model: nn.Module, weight_mask: Mapping[str, Tensor] | None = None) -> int:
    """Number of parameters, those that a mask prunes not counted."""
    total = sum(parameter.numel() for parameter in model.parameters())
    pruned = sum(int((~mask).sum()) for mask in (weight_mask or {}).values())
    return total - pruned


def num_bytes(model: nn.Module, weight_mask: Mapping[str, Tensor] | None = None) -> int:
    """Bytes that a model's parameters take, a masked one in the smaller of two forms.

    These are a dense array, and compressed sparse rows with 32-bit indices: for each kept weight
    itself and its column, and for each row (all dimensions but the last) where it starts.
    """
    masks = weight_mask or {}
    total = 0
    for name, parameter in model.named_parameters():
        dense = parameter.numel() * parameter.element_size()
        mask = masks.get(name)
        if mask is not None and parameter.dim() > 0:
            rows = parameter.numel() // max(parameter.size(-1), 1)
            entry = parameter.element_size() + INDEX_BYTES
            dense = min(dense, int(mask.sum()) * entry + (rows + 1) * INDEX_BYTES)
        total += dense
    return total


@torch.no_grad()
def count_macs(
    model: nn.Module,
    call: Callable[[nn.Module], object],
    weight_mask: Mapping[str, Tensor] | None = None,
) -> int:
    """Multiply-accumulates of one whole-graph inference.

    Counted are

    - matrix products and convolutions, whoever computes them: rows x kept weights for a linear
      map of the nodes, of the edges or of their attributes (a sparse ``x`` counts as dense);
    - the aggregation of messages: messages x channels, with the self-loops that a conv adds and
      once for each hop (``ChebConv`` has ``K - 1``). An adjacency matrix counts like its edges.

    Not counted is what is elementwise: attention coefficients of PyG's convs, the normalisation
    of the graph, norms, biases and activations. A product with a matrix that is itself computed
    from parameters (bases of ``RGCNConv``, autocast) counts in full.

    Args:
        model: The model; it is not changed.
        call: Calls the model that it is given on the graph, with the edges that are executed.
        weight_mask: Kept weights by parameter name; weights outside it count in full.
    """
    model = copy.deepcopy(model).eval()
    counter = _MacCounter(model, weight_mask or {})
    for module in model.modules():
        if isinstance(module, MessagePassing):
            # Message and aggregation in one call would hide how many messages there are.
            module.fuse = False
            module.register_message_forward_hook(counter.count_messages)
    with _no_fused_layers(), counter:
        call(model)
    return counter.total


class _MacCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts every product that runs within its context.

    ``torch.utils.flop_counter`` sees shapes only: neither masks nor sparse operands.
    """

    def __init__(self, model: nn.Module, weight_mask: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0
        self._parameters: dict[int, list[tuple[Tensor, Tensor | None]]] = {}
        for name, parameter in model.named_parameters():
            mask = weight_mask.get(name)
            entry = (parameter, None if mask is None else _laid_out_like(parameter, mask))
            self._parameters.setdefault(_storage(parameter), []).append(entry)

    def count_messages(self, _: nn.Module, __: tuple[object, ...], messages: Tensor) -> None:
        self.total += messages.numel()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        rule = _RULES.get(func.overloadpacket)
        if rule is None:
            # Under inference mode composite operations arrive whole.
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        if rule is not None:
            self.total += rule(args, out, self._num_kept)
        return out

    def _num_kept(self, operand: Tensor) -> int | None:
        """Kept entries of an operand that is a view of a parameter, else ``None``."""
        if operand.layout != torch.strided:
            return None
        for parameter, mask in self._parameters.get(_storage(operand), ()):
            offset = operand.storage_offset() - parameter.storage_offset()
            if 0 <= offset < parameter.numel():
                if mask is None:
                    return operand.numel()
                return int(mask.as_strided(operand.size(), operand.stride(), offset).sum())
        return None


_NumKept = Callable[[Tensor], int | None]


def _product(left: Tensor, right: Tensor, num_kept: _NumKept) -> int:
    """``[..., m, k] @ [..., k, n]``, where one of the two may be weights."""
    kept = num_kept(right)
    if kept is not None:
        return left.size(-2) * kept
    kept = num_kept(left)
    if kept is None:
        # A sparse matrix that meets no weights is an adjacency, not features.
        kept = left.numel() if left.layout == torch.strided else left._nnz()
    return kept * right.size(-1)


def _convolution(args: Sequence[Any], out: Tensor, num_kept: _NumKept) -> int:
    inputs, weight, transposed = args[0], args[1], args[6]
    positions = inputs if transposed else out
    kept = num_kept(weight)
    return positions.numel() // positions.size(1) * (weight.numel() if kept is None else kept)


_aten = torch.ops.aten
_RULES: dict[Any, Callable[[Sequence[Any], Tensor, _NumKept], int]] = {
    _aten.mm: lambda args, _, kept: _product(args[0], args[1], kept),
    _aten.bmm: lambda args, _, kept: _product(args[0], args[1], kept),
    _aten.addmm: lambda args, _, kept: _product(args[1], args[2], kept),
    _aten.baddbmm: lambda args, _, kept: _product(args[1], args[2], kept),
    _aten._sparse_addmm: lambda args, _, kept: _product(args[1], args[2], kept),
    _aten.mv: lambda args, _, kept: _product(args[0], args[1].unsqueeze(-1), kept),
    _aten.addmv: lambda args, _, kept: _product(args[1], args[2].unsqueeze(-1), kept),
    _aten.convolution: _convolution,
}


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _laid_out_like(parameter: Tensor, mask: Tensor) -> Tensor:
    """``mask`` with the strides of ``parameter``, so that views of both correspond."""
    result = torch.empty_strided(parameter.size(), parameter.stride(), dtype=torch.bool)
    result.copy_(mask)
    return result


@contextmanager
def _no_fused_layers() -> Iterator[None]:
    """Have recurrent and attention layers compute their products one by one."""
    # Entering and leaving mkldnn.flags() sets TF32 to what it was, which warns without a GPU.
    libraries: tuple[Any, ...] = (torch.backends.mkldnn, torch.backends.cudnn)
    enabled = [library.enabled for library in libraries]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    try:
        for library in libraries:
            library.enabled = False
        torch.backends.mha.set_fastpath_enabled(False)
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for library, before in zip(libraries, enabled, strict=True):
            library.enabled = before
        torch.backends.mha.set_fastpath_enabled(fast_path)
