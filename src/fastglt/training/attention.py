"""Attention over the edges of a graph, all heads at once and without a message an edge.

PyG's GATConv gathers, scales and scatters ``[num_edges, heads, channels]``. But given the
attention, the sum of messages is a product with a sparse matrix, block-diagonal over the heads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastglt.gating import sample, spmm
from fastglt.masks import counting_sort
from fastglt.training.dropout import dropout_factor


class AttentionEdges:
    """The edges of a graph, sorted by target, with one copy for each head.

    Args:
        edge_index: ``[2, num_edges]``.
        shape: Numbers of target and of source nodes.
        heads: Number of heads.

    Attributes:
        source: ``[num_edges]`` int32, source of each edge.
        target: ``[num_edges]`` int32, its target.
    """

    def __init__(self, edge_index: Tensor, shape: tuple[int, int], heads: int) -> None:
        source, target = edge_index
        num_targets, num_sources = shape
        starts, _, self.source = counting_sort(target, num_targets, source)
        nodes = torch.arange(num_targets, dtype=torch.int32, device=starts.device)
        self.target = nodes.repeat_interleave(starts.diff())
        self._pattern = (starts, self.source, shape)
        back_starts, self._back, back_columns = counting_sort(self.source, num_sources, self.target)
        self._forward = _blocks(starts, self.source, (num_targets, num_sources), heads)
        self._backward = _blocks(back_starts, back_columns, (num_sources, num_targets), heads)

    def matrix(self, values: Tensor) -> Tensor:
        """``[heads * num_targets, heads * num_sources]`` with values ``[heads, num_edges]``."""
        return _csr(self._forward, values)

    def transposed(self, values: Tensor) -> Tensor:
        """The transpose of :meth:`matrix`."""
        return _csr(self._backward, values.index_select(1, self._back))

    def highest(self, logit: Tensor) -> Tensor:
        """The highest ``logit`` ``[heads, num_sources]`` among the sources of each target.

        Returns:
            ``[heads, num_targets]``, 0 where there is no edge.
        """
        starts, columns, shape = self._pattern
        if logit.device.type == "cpu":
            ones = logit.new_ones(columns.numel())
            pattern = torch.sparse_csr_tensor(starts, columns, ones, shape, check_invariants=False)
            highest: Tensor = torch.sparse.mm(pattern, logit.t().contiguous(), "amax")
            return highest.t().contiguous()
        index = self.target.long().expand(logit.size(0), -1)
        zero = logit.new_zeros(logit.size(0), shape[0])
        values = logit.index_select(1, self.source)
        return zero.scatter_reduce(1, index, values, "amax", include_self=False)


_Blocks = tuple[Tensor, Tensor, tuple[int, int]]


def _blocks(starts: Tensor, columns: Tensor, shape: tuple[int, int], heads: int) -> _Blocks:
    """Row starts, columns and shape of a block-diagonal matrix with a block for each head."""
    num_edges = columns.numel()
    index = torch.int32 if heads * max(num_edges, *shape) < 2**31 else torch.int64
    head = torch.arange(heads, device=starts.device, dtype=index).unsqueeze(1)
    rows = (starts[1:].to(index) + head * num_edges).view(-1)
    crow = torch.cat([rows.new_zeros(1), rows])
    column = (columns.to(index) + head * shape[1]).view(-1)
    return crow, column, (heads * shape[0], heads * shape[1])


def _csr(blocks: _Blocks, values: Tensor) -> Tensor:
    crow, column, shape = blocks
    return torch.sparse_csr_tensor(crow, column, values.view(-1), shape, check_invariants=False)


def attend(
    edges: AttentionEdges,
    x: Tensor,
    source_logit: Tensor,
    target_logit: Tensor,
    negative_slope: float,
    dropout: float,
) -> Tensor:
    """Mean of the sources of each target, weighted by attention (GAT, arXiv 1710.10903, eq. 3-4).

    The attention is the softmax over the edges into a target of
    ``leaky_relu(source_logit + target_logit)``, of which the share ``dropout`` is dropped.

    Args:
        edges: The edges.
        x: ``[heads, num_sources, channels]``, contiguous.
        source_logit: ``[heads, num_sources]``.
        target_logit: ``[heads, num_targets]``.
        negative_slope: Of the leaky ReLU.
        dropout: In ``[0, 1)``.

    Returns:
        ``[heads, num_targets, channels]``; differentiable once, in all three tensors.
    """
    out: Tensor = _Attend.apply(x, source_logit, target_logit, edges, negative_slope, dropout)  # type: ignore[no-untyped-call]
    return out


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        source_logit: Tensor,
        target_logit: Tensor,
        edges: AttentionEdges,
        negative_slope: float,
        dropout: float,
    ) -> Tensor:
        heads, num_targets = target_logit.shape
        source, target = edges.source, edges.target
        peak = _leaky_relu(edges.highest(source_logit) + target_logit, negative_slope)
        logit = source_logit.index_select(1, source)
        logit += target_logit.index_select(1, target)
        is_negative = logit <= 0  # at 0 torch takes the negative slope
        logit = _leaky_relu(logit, negative_slope)
        share = logit.sub_(peak.index_select(1, target)).exp_()
        total = _row_sums(edges.matrix(share)).view(heads, num_targets)
        share /= total.clamp_min(1e-16).index_select(1, target)
        kept = share
        if dropout > 0:
            kept = share * dropout_factor(share.shape, dropout, share)
        out = spmm(edges.matrix(kept), x.reshape(-1, x.size(-1))).view(heads, num_targets, -1)
        ctx.save_for_backward(x, share, kept, is_negative, out)
        ctx.edges, ctx.negative_slope = edges, negative_slope
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, share, kept, is_negative, out = ctx.saved_tensors
        edges: AttentionEdges = ctx.edges
        heads, channels = x.size(0), x.size(-1)
        flat = gradient.reshape(-1, channels)
        x_gradient = spmm(edges.transposed(kept), flat).view_as(x)
        # The slope of the softmax: share * (slope of the share - mean slope), where the mean over
        # the edges into a target is the product of its output with the output's gradient.
        slope = sample(edges.matrix(torch.zeros_like(kept)), flat, x.reshape(-1, channels))
        slope = slope.view_as(kept).mul_(kept)
        mean = (gradient * out).sum(dim=-1).index_select(1, edges.target)
        slope -= mean.mul_(share)
        slope = torch.where(is_negative, slope * ctx.negative_slope, slope)
        by_target = _row_sums(edges.matrix(slope)).view(heads, -1)
        by_source = _row_sums(edges.transposed(slope)).view(heads, -1)
        return x_gradient, by_source, by_target, None, None, None


def _leaky_relu(values: Tensor, negative_slope: float) -> Tensor:
    return torch.nn.functional.leaky_relu(values, negative_slope)


def _row_sums(matrix: Tensor) -> Tensor:
    return spmm(matrix, matrix.values().new_ones(matrix.size(1), 1))
