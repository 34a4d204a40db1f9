"""Convs and linear layers that compute with what is kept of a graph.

To serve another conv, write its forward pass here and enter it in :data:`FORWARDS`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv, GINConv, GraphConv, MessagePassing, SAGEConv
from torch_geometric.nn import Linear as PyGLinear

from fastglt.gating import has_csr_messages, has_message_hooks
from fastglt.training.attention import attend
from fastglt.training.channels import LiveLinear
from fastglt.training.product import Kind

if TYPE_CHECKING:
    from fastglt.training.known_graph import KnownGraph


@contextmanager
def serving(model: nn.Module, known: KnownGraph) -> Iterator[None]:
    """Let a graph serve the model's convs and linear layers, within the context.

    A conv is served wherever it gets the graph's matrix, a linear layer wherever it gets a CSR
    matrix that the graph knows.

    Args:
        model: The model; it is left as it was found.
        known: The graph.
    """
    convs = [module for module in model.modules() if is_served(module)]
    linears = [module for module in model.modules() if _is_plain_linear(module)]
    before = [vars(linear).get("forward") for linear in linears]
    for conv in convs:
        vars(conv)["forward"] = functools.partial(FORWARDS[type(conv)], known, conv)
    for linear in linears:
        vars(linear)["forward"] = _KnownLinear(known, linear)
    try:
        yield
    finally:
        for module in (*convs, *linears):
            del vars(module)["forward"]
        for linear, forward in zip(linears, before, strict=True):
            if forward is not None:
                vars(linear)["forward"] = forward


def is_served(module: nn.Module) -> bool:
    """Whether a module is a conv that is served.

    These are GCNConv, GINConv, SAGEConv and GraphConv with sum or mean aggregation, and GATConv
    without edge features, but not subclasses of them, and without message hooks or a ``forward``
    of the instance.
    """
    if type(module) not in FORWARDS or "forward" in vars(module):
        return False
    if isinstance(module, GATConv):
        is_plain = module.lin is not None and module.edge_dim is None
        is_plain &= module.aggr in ("add", "sum")
        is_plain &= module.flow == "source_to_target" and module.explain is None
        return bool(is_plain) and module.decomposed_layers == 1 and not has_message_hooks(module)
    return isinstance(module, MessagePassing) and has_csr_messages(module)


def _is_plain_linear(module: nn.Module) -> bool:
    forward = vars(module).get("forward")
    is_linear = type(module) in (nn.Linear, PyGLinear)
    is_linear &= not module._forward_hooks and not module._forward_pre_hooks
    return is_linear and (forward is None or isinstance(forward, LiveLinear))


class _KnownLinear:
    """The forward pass of a linear layer that may get a CSR matrix that the graph knows."""

    def __init__(self, known: KnownGraph, linear: Any) -> None:
        self._known = known
        self._linear = linear
        self.live: LiveLinear | None = vars(linear).get("forward")

    def __call__(self, x: Tensor) -> Tensor:
        if x.layout == torch.sparse_csr:
            out = self.widen(self.narrow(x))
            return out if not self.has_bias else out + self._linear.bias
        if self.live is not None:
            return self.live(x)
        plain: Tensor = type(self._linear).forward(self._linear, x)
        return plain

    @property
    def has_bias(self) -> bool:
        """Whether the layer adds a bias."""
        return self._linear.bias is not None

    def narrow(self, x: Tensor) -> Tensor:
        """The live outputs, without bias."""
        live = self.live
        if x.layout == torch.sparse_csr and self._known.is_constant(x):
            if live is None:
                return self._known.product_of(x)(self._linear.weight.t())
            return self._known.product_of(x, live.inputs)(live.weight())
        if live is not None:
            return live.narrow(x)
        out: Tensor = x @ self._linear.weight.t()
        return out

    def widen(self, out: Tensor) -> Tensor:
        """All outputs of the live ones."""
        return out if self.live is None else self.live.widen(out)


def _known_linear(module: nn.Module) -> _KnownLinear | None:
    forward = vars(module).get("forward")
    return forward if isinstance(forward, _KnownLinear) else None


def _gcn(
    known: KnownGraph,
    conv: GCNConv,
    x: Tensor,
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
) -> Tensor:
    """GCNConv with the linear map on the cheaper side."""
    out: Tensor
    if edge_weight is not None or not _is_known(known, x, edge_index):
        return _own(known, conv, x, edge_index, edge_weight)
    call = known.begin()
    kind = Kind("sum", x.dtype, weighted=True)
    if conv.normalize:
        kind = Kind("gcn", x.dtype, True, conv.improved, conv.add_self_loops)
    if x.layout == torch.strided and (known.is_raw(x) or x.size(1) < conv.out_channels):
        out = conv.lin(known.aggregated(kind, call, x))
    elif (linear := _known_linear(conv.lin)) is not None and not linear.has_bias:
        out = linear.widen(known.aggregated(kind, call, linear.narrow(x)))
    else:
        out = known.aggregated(kind, call, conv.lin(x))
    return out if conv.bias is None else out + conv.bias


def _gin(
    known: KnownGraph, conv: GINConv, x: Tensor, edge_index: Tensor, size: Any = None
) -> Tensor:
    """GINConv; an ``eps`` that is not trained is part of the matrix."""
    is_simple = not conv.eps.requires_grad and size is None
    if not is_simple or not _is_known(known, x, edge_index) or not _is_usable(known, x):
        return _neighbors(known, conv, x, edge_index, size=size)
    kind = Kind(_aggr(conv), x.dtype, weighted=False, root=1 + known.number(conv.eps))
    out: Tensor = conv.nn(known.aggregated(kind, known.begin(), x))
    return out


def _neighbors(
    known: KnownGraph, conv: MessagePassing, x: Tensor, edge_index: Tensor, *args: Any, **named: Any
) -> Tensor:
    """A conv that also reads the nodes themselves, its sum of messages being served."""
    if not _is_known(known, x, edge_index):
        return _own(known, conv, x, edge_index, *args, **named)
    call = known.begin()
    before = vars(conv).get("propagate")  # PyG leaves one there after an explanation
    vars(conv)["propagate"] = functools.partial(_propagate, known, conv, call)
    try:
        ends = (x, known.targets(call, x))
        out: Tensor = type(conv).forward(conv, ends, edge_index, *args, **named)
        return out
    finally:
        del vars(conv)["propagate"]
        if before is not None:
            vars(conv)["propagate"] = before


def _propagate(
    known: KnownGraph,
    conv: MessagePassing,
    call: int,
    edge_index: Tensor,
    size: Any = None,
    **arguments: Any,
) -> Tensor:
    source = arguments["x"][0]
    is_edge_weighted = arguments.get("edge_weight") is not None
    if edge_index is not known.matrix or is_edge_weighted or not _is_usable(known, source):
        _check_no_token(known, conv, edge_index)
        out: Tensor = type(conv).propagate(conv, edge_index, size=size, **arguments)
        return out
    kind = Kind(_aggr(conv), source.dtype, weighted=isinstance(conv, GraphConv))
    return known.aggregated(kind, call, source)


def _gat(
    known: KnownGraph,
    conv: GATConv,
    x: Tensor,
    edge_index: Tensor,
    edge_attr: Tensor | None = None,
    size: Any = None,
    return_attention_weights: bool | None = None,
) -> Tensor:
    """GATConv without edge features: softmax and sum of all heads in one."""
    others = (edge_attr, size, return_attention_weights)
    if any(value is not None for value in others) or not _is_known(known, x, edge_index):
        return _own(known, conv, x, edge_index, *others)
    call = known.begin()
    edges = known.attention_edges(call, conv.add_self_loops, conv.heads)
    # Heads first, so that each of them is a block of its own.
    source = conv.lin(x).view(-1, conv.heads, conv.out_channels).transpose(0, 1).contiguous()
    target = known.targets(call, source.transpose(0, 1)).transpose(0, 1)
    source_logit = (source * conv.att_src.transpose(0, 1)).sum(dim=-1)
    target_logit = (target * conv.att_dst.transpose(0, 1)).sum(dim=-1)
    dropout = conv.dropout if conv.training else 0.0
    out = attend(edges, source, source_logit, target_logit, conv.negative_slope, dropout)
    out = out.transpose(0, 1).flatten(1) if conv.concat else out.mean(dim=0)
    if conv.res is not None:
        out = out + conv.res(known.targets(call, x))
    return out if conv.bias is None else out + conv.bias


def _own(
    known: KnownGraph, conv: MessagePassing, x: Any, edge_index: Tensor, *args: Any, **named: Any
) -> Tensor:
    """The conv's own forward pass."""
    _check_no_token(known, conv, edge_index)
    out: Tensor = type(conv).forward(conv, x, edge_index, *args, **named)
    return out


def _check_no_token(known: KnownGraph, conv: MessagePassing, edge_index: Tensor) -> None:
    """Refuse to compute with a matrix that does not hold the edges."""
    if known.is_token and edge_index is known.matrix:
        raise RuntimeError(f"{type(conv).__name__} was called in a way that cannot be served")


def _is_known(known: KnownGraph, x: object, edge_index: Tensor) -> bool:
    return edge_index is known.matrix and isinstance(x, Tensor)


def _is_usable(known: KnownGraph, x: Tensor) -> bool:
    return x.layout == torch.strided or known.is_raw(x)


def _aggr(conv: MessagePassing) -> str:
    return "mean" if conv.aggr == "mean" else "sum"


FORWARDS: dict[type[nn.Module], Callable[..., Tensor]] = {
    GCNConv: _gcn,
    GINConv: _gin,
    SAGEConv: _neighbors,
    GraphConv: _neighbors,
    GATConv: _gat,
}
"""The forward pass of each conv that is served, called with the graph and the conv before what the
conv itself is called with."""
