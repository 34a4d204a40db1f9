"""GENConv with softmax aggregation as sparse products instead of one row an edge.

Without edge features a message depends on its source node only. With ``e = exp(t·m − max t·m)``,
one row a node, the aggregation is then ``A(e·m) / A e``: two sparse products whose memory does not
grow with the number of edges. Their backward is two products with the transposed matrix.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary
from torch_geometric.nn import GENConv, MessagePassing
from torch_geometric.utils import to_edge_index

MAX_RANGE = 0.7
"""Largest range of ``t·m``, as a share of the exponents that the dtype has below 1.

The weights of a neighbourhood far below a channel's maximum keep their full precision up to it:
61 in float32, 495 in float64.
"""


class Neighbors(NamedTuple):
    """Who hears whom, as two CSR matrices of ones.

    Attributes:
        incoming: ``[num_targets, num_sources]``.
        outgoing: Its transpose.
    """

    incoming: Tensor
    outgoing: Tensor


class SoftmaxGENConv(GENConv):  # type: ignore[misc]  # PyG is untyped
    """PyG's GENConv with softmax aggregation of learned temperature, fast on CSR adjacencies.

    With an ``edge_index``, with edge features, or where the range of ``t·m`` exceeds
    :data:`MAX_RANGE`, it is :class:`~torch_geometric.nn.GENConv` edge by edge; with a native torch
    CSR ``adj_t`` it gives the same by sparse products, up to rounding. Parameters are the same.

    Args:
        in_channels: Columns of ``x``.
        out_channels: Columns of the output.
        t: Initial inverse temperature, which is learned.
        kwargs: Further arguments of GENConv, except ``aggr`` and ``learn_t``.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, t: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(in_channels, out_channels, aggr="softmax", t=t, learn_t=True, **kwargs)
        self.fuse = True

    def propagate(self, edge_index: Tensor, size: Any = None, **kwargs: Any) -> Tensor:
        """As PyG's; the version it compiles for a class would leave out the fused path here."""
        out: Tensor = MessagePassing.propagate(self, edge_index, size, **kwargs)
        return out

    def message_and_aggregate(
        self, adj_t: Tensor, x: tuple[Tensor, Tensor | None], edge_attr: Tensor | None
    ) -> Tensor:
        """Softmax-weighted mean of the messages of each node's neighbours.

        Args:
            adj_t: ``[num_targets, num_sources]``, a sparse matrix; its values are not used, as in
                GENConv.
            x: Features of the sources, ``[num_sources, channels]``, and of the targets.
            edge_attr: ``[num_edges, channels]``, in the order of ``adj_t``.

        Returns:
            ``[num_targets, channels]``, zero for nodes without neighbours.
        """
        if edge_attr is None and adj_t.layout == torch.sparse_csr:
            message = self.message(x[0], None)
            lowest, highest = score_bounds(message.detach(), self.aggr_module.t.detach())
            if float((highest - lowest).max()) <= max_range(message.dtype):
                neighbors = _neighbors(adj_t, message.dtype)
                return _softmax_mean(message, self.aggr_module.t, highest, neighbors)
        return self._edge_by_edge(adj_t, x[0], edge_attr)

    def _edge_by_edge(self, adj_t: Tensor, x: Tensor, edge_attr: Tensor | None) -> Tensor:
        target, source = to_edge_index(adj_t)[0]
        message = self.message(x.index_select(0, source), edge_attr)
        out: Tensor = self.aggregate(message, target, dim_size=adj_t.size(0))
        return out


class _SoftmaxMean(torch.autograd.Function):
    """``out_i = Σ_j e_j m_j / Σ_j e_j`` over the neighbours of i, with ``e = exp(t·m − shift)``.

    In closed form, because composed of torch's operations it would keep five node matrices more
    and transpose the adjacency in every backward.
    """

    @staticmethod
    def forward(
        ctx: Any, message: Tensor, t: Tensor, shift: Tensor, neighbors: Neighbors
    ) -> Tensor:
        weight = (message * t).sub_(shift).exp_()
        total = _spmm(neighbors.incoming, weight)
        # Only nodes without neighbours are below it, whose mean is 0.
        total.clamp_(min=math.exp(-max_range(total.dtype)) / 2)
        out = _spmm(neighbors.incoming, weight * message).div_(total)
        ctx.save_for_backward(message, t, weight, total, out)
        ctx.outgoing = neighbors.outgoing
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        message, t, weight, total, out = ctx.saved_tensors
        share = grad / total
        # e_j·heard = Σ_i g_i ∂out_i/∂m_j at fixed weights; e_j·(heard + t·excess) is all of it.
        heard = _spmm(ctx.outgoing, share)
        recalled = _spmm(ctx.outgoing, share.mul_(out))
        excess = (heard * message).sub_(recalled)
        # In the memory of what is no longer needed: fresh memory costs more than the arithmetic.
        per_node = recalled.copy_(weight).mul_(message).mul_(excess)
        grad_t = per_node.sum(dim=0).sum_to_size(t.shape)
        return excess.mul_(t).add_(heard).mul_(weight), grad_t, None, None


def score_bounds(message: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest ``t·m`` of each channel; ``t`` may be negative.

    Args:
        message: ``[num_nodes, channels]``, of one node at least.
        t: ``[1]`` or ``[channels]``.
    """
    ends = t * message.amin(dim=0), t * message.amax(dim=0)
    return torch.minimum(*ends), torch.maximum(*ends)


def _softmax_mean(message: Tensor, t: Tensor, shift: Tensor, neighbors: Neighbors) -> Tensor:
    out: Tensor = _SoftmaxMean.apply(message, t, shift, neighbors)  # type: ignore[no-untyped-call]
    return out


def max_range(dtype: torch.dtype) -> float:
    """Largest range of ``t·m`` for which products are precise, see :data:`MAX_RANGE`."""
    return -MAX_RANGE * math.log(float(torch.finfo(dtype).tiny))


# Transposing costs half a sparse product; an adjacency serves many layers and epochs.
_NEIGHBORS: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def _neighbors(adj_t: Tensor, dtype: torch.dtype) -> Neighbors:
    if adj_t not in _NEIGHBORS or _NEIGHBORS[adj_t].incoming.dtype != dtype:
        _NEIGHBORS[adj_t] = _with_transpose(adj_t, dtype)
    known: Neighbors = _NEIGHBORS[adj_t]
    return known


def _with_transpose(adj_t: Tensor, dtype: torch.dtype) -> Neighbors:
    (target, source), _ = to_edge_index(adj_t)
    order = source.argsort(stable=True)
    pointers = source.new_zeros(adj_t.size(1) + 1)
    pointers[1:] = source.bincount(minlength=adj_t.size(1)).cumsum(0)
    ones = torch.ones(source.numel(), dtype=dtype, device=source.device)
    backward = pointers, target[order], ones, (adj_t.size(1), adj_t.size(0))
    forward = adj_t.crow_indices(), adj_t.col_indices(), ones, tuple(adj_t.shape)
    return Neighbors(
        torch.sparse_csr_tensor(*forward, check_invariants=False),
        torch.sparse_csr_tensor(*backward, check_invariants=False),
    )


def _spmm(matrix: Tensor, dense: Tensor) -> Tensor:
    if dense.is_cuda:
        return matrix @ dense
    out: Tensor = torch.sparse.mm(matrix, dense, "sum")  # on a CPU faster than `matrix @ dense`
    return out
