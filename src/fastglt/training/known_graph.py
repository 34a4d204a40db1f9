"""Aggregations on a graph that stays the same from one forward pass to the next.

In every forward and backward pass of every conv PyG normalises the adjacency matrix and transposes
it, and it aggregates the raw features, which do not change either. Here this is done once a graph.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv, GINConv, GraphConv, MessagePassing, SAGEConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import to_torch_csr_tensor

from fastglt._csr import ignore_csr_warnings
from fastglt.gating import Adjacency, has_csr_messages, spmm


class Kind(NamedTuple):
    """Which matrix a conv multiplies by.

    Attributes:
        name: ``"gcn"``, ``"sum"`` or ``"mean"``.
        dtype: Type of its values.
        weighted: Whether edge weights count.
        improved: Of GCNConv.
        add_self_loops: Of GCNConv.
    """

    name: str
    dtype: torch.dtype
    weighted: bool
    improved: bool = False
    add_self_loops: bool = False


class KnownGraph:
    """The matrices of one graph, and the aggregates of its features, as convs ask for them.

    Args:
        data: The graph; its edges, weights and features must not be changed in place.
    """

    def __init__(self, data: Data) -> None:
        self._data = copy.copy(data)
        self._products: dict[Kind, Product] = {}
        self._aggregates: dict[Kind, Tensor] = {}

    def is_of(self, data: Data) -> bool:
        """Whether ``data`` still has the edges and the edge weights that this was made of."""
        return all(data.get(name) is self._data.get(name) for name in ("edge_index", "edge_weight"))

    @functools.cached_property
    def matrix(self) -> Tensor:
        """The transposed adjacency matrix, CSR ``[num_nodes, num_nodes]``, of the features' type.

        This is what a model is called with instead of ``edge_index``.
        """
        data, num_nodes = self._data, self._data.num_nodes
        with ignore_csr_warnings():
            matrix: Tensor = to_torch_csr_tensor(
                data.edge_index.flip(0), data.get("edge_weight"), size=(num_nodes, num_nodes)
            )
            x: Tensor | None = data.get("x")
            return matrix if x is None or not x.is_floating_point() else matrix.to(x.dtype)

    @contextmanager
    def known_to(self, model: nn.Module) -> Iterator[None]:
        """Serve the model's convs, within the context, wherever they get :attr:`matrix`.

        These are GCNConv, GINConv, SAGEConv and GraphConv with sum or mean aggregation, but not
        subclasses of them, and without message hooks or a ``forward`` of the instance; others do as
        they always do.

        Args:
            model: The model; it is left as it was found.
        """
        convs = [module for module in model.modules() if _is_served(module)]
        for conv in convs:
            if isinstance(conv, GCNConv):
                vars(conv)["forward"] = functools.partial(self._gcn, conv)
            else:
                vars(conv)["propagate"] = functools.partial(self._propagate, conv)
        try:
            yield
        finally:
            for conv in convs:
                vars(conv).pop("forward", None)
                vars(conv).pop("propagate", None)

    def _gcn(
        self, conv: GCNConv, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None
    ) -> Tensor:
        """The forward pass of a GCNConv, with the linear map on the cheaper side."""
        if edge_index is not self.matrix or edge_weight is not None:
            out: Tensor = GCNConv.forward(conv, x, edge_index, edge_weight)
            return out
        kind = Kind("sum", x.dtype, weighted=True)
        if conv.normalize:
            kind = Kind("gcn", x.dtype, True, conv.improved, conv.add_self_loops)
        if x.layout == torch.strided and (self._is_raw(x) or x.size(1) < conv.out_channels):
            out = conv.lin(self._aggregated(kind, x))
        else:
            out = self._aggregated(kind, conv.lin(x))
        return out if conv.bias is None else out + conv.bias

    def _propagate(
        self, conv: MessagePassing, edge_index: Tensor, size: Any = None, **arguments: Any
    ) -> Tensor:
        x = arguments["x"]
        source = x[0] if isinstance(x, tuple) else x
        if edge_index is not self.matrix or source.layout != torch.strided:
            out: Tensor = type(conv).propagate(conv, edge_index, size=size, **arguments)
            return out
        name = "mean" if conv.aggr == "mean" else "sum"
        return self._aggregated(Kind(name, source.dtype, isinstance(conv, GraphConv)), source)

    def _is_raw(self, x: Tensor) -> bool:
        return x is self._data.get("x") and not x.requires_grad

    def _aggregated(self, kind: Kind, x: Tensor) -> Tensor:
        """The aggregate of dense ``x``, which is kept if that is the graph's own features."""
        if kind not in self._products:
            self._products[kind] = self._new_product(kind)
        if not self._is_raw(x):
            return self._products[kind](x)
        kept = self._aggregates.get(kind)
        if kept is None or kept._version > 0:  # a model may have changed it in place
            kept = self._products[kind](x)
            if kept.is_inference():  # of no use to autograd later
                return kept
            self._aggregates[kind] = kept
        return kept

    def _new_product(self, kind: Kind) -> Product:
        data, edge_index = self._data, self._data.edge_index
        weight: Tensor | None = data.get("edge_weight") if kind.weighted else None
        if kind.name == "gcn":
            edge_index, weight = gcn_norm(
                edge_index,
                data.get("edge_weight"),
                data.num_nodes,
                kind.improved,
                kind.add_self_loops,
                dtype=kind.dtype,
            )
        if weight is None:
            weight = torch.ones(edge_index.size(1), device=edge_index.device)
        weight = weight.view(-1).to(kind.dtype)
        adjacency = Adjacency(edge_index, data.num_nodes, data.num_nodes)
        if kind.name == "mean":
            weight = weight / adjacency.in_degree[edge_index[1]]
        return Product(adjacency, weight)


class Product:
    """A constant sparse matrix ``[n, n]`` to multiply by; its transpose is made once.

    Args:
        adjacency: The places of its values.
        values: ``[num_edges]``.
    """

    def __init__(self, adjacency: Adjacency, values: Tensor) -> None:
        self.matrix = adjacency.by_target.matrix(values)
        self._source: tuple[Adjacency, Tensor] | None = (adjacency, values)
        self._transposed: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """``A @ x``, ``[n, channels]``; differentiable in ``x``."""
        out: Tensor = _Apply.apply(x, self)  # type: ignore[no-untyped-call]
        return out

    @property
    def transposed(self) -> Tensor:
        """``A.T``, CSR; what it was made of is given up then."""
        if self._source is not None:
            adjacency, values = self._source
            self._transposed, self._source = adjacency.by_source.matrix(values), None
        assert self._transposed is not None
        return self._transposed


class _Apply(torch.autograd.Function):
    """``A @ x``, with ``A.T @ gradient`` in the backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, product: Product) -> Tensor:
        ctx.product = product
        return spmm(product.matrix, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return spmm(ctx.product.transposed, gradient), None


def _is_served(module: nn.Module) -> bool:
    is_kind = type(module) in (GCNConv, GINConv, SAGEConv, GraphConv)
    return is_kind and "forward" not in vars(module) and has_csr_messages(module)
