"""Aggregations on a graph that stays the same from one forward pass to the next.

In every forward and backward pass of every conv PyG normalises the adjacency matrix and transposes
it, and it aggregates the raw features, which do not change either. Here this is done once a graph,
and where only some nodes' predictions are wanted, only for the nodes that they depend on.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import add_remaining_self_loops, to_torch_csr_tensor

from fastglt._csr import ignore_csr_warnings
from fastglt.gating import Adjacency, keep_edges
from fastglt.training.attention import AttentionEdges
from fastglt.training.field import Field
from fastglt.training.product import Kind, Product
from fastglt.training.rows import first_rows, take_columns, take_rows
from fastglt.training.served import serving
from fastglt.training.task import ADJACENCY

_CHOICES = 8
"""How many products with constant CSR matrices are kept."""
_LEAN = 0.25
"""Share of non-zeros above which an aggregate of sparse features takes less memory if dense."""


class Reach(NamedTuple):
    """What has been proven of a model: its predictions for some nodes, computed from these alone.

    Attributes:
        num_convs: How many convs it calls, one after the other.
        in_training: Whether it holds in training mode too.
    """

    num_convs: int
    in_training: bool


class KnownGraph:
    """The matrices of one graph, and the aggregates of its features, as convs ask for them.

    Args:
        data: The graph; its edges, weights and features must not be changed in place.
        is_token: Whether :attr:`matrix`, which takes the place of ``edge_index``, may be empty,
            since the model's convs are served and nothing else reads it.
        reach: What is proven of the model that is called on it.
        plain_x: What the model takes instead of ``data.x`` where it is called on edges.
        weighted: Whether the model is to be called with the edge weights of ``data``.
        field: The nodes to compute for; ``None`` for all. Then :attr:`x` has rows for the nodes
            that the first conv reads, and the model returns one row a wanted node.
    """

    def __init__(
        self,
        data: Data,
        is_token: bool = False,
        reach: Reach | None = None,
        plain_x: Tensor | None = None,
        weighted: bool = True,
        field: Field | None = None,
    ) -> None:
        self._data = copy.copy(data)
        self.is_token = is_token
        self.reach = reach
        self.plain_x = plain_x
        self.weighted = weighted
        self._field = field
        x: Tensor | None = data.get("x")
        self.x = x if x is None or field is None else field.rows(x)
        self._call = 0
        self._products: dict[tuple[Kind, int], Product] = {}
        self._attention: dict[tuple[bool, int, int], AttentionEdges] = {}
        self._aggregates: dict[tuple[Kind, int], Tensor] = {}
        self._constants: dict[tuple[int, int], tuple[Tensor, Tensor | None, Product]] = {}
        self._roots: dict[int, Tensor] = {}
        self._numbers: dict[int, tuple[Tensor, int, float]] = {}

    def is_of(self, data: Data) -> bool:
        """Whether ``data`` still has the edges and the edge weights that this was made of."""
        return all(data.get(name) is self._data.get(name) for name in ("edge_index", "edge_weight"))

    def like(self, data: Data, field: Field | None = None) -> KnownGraph:
        """The same for another graph that the same model is called on, or for some of its nodes."""
        plain_x = self.plain_x if field is None else None
        return KnownGraph(data, self.is_token, self.reach, plain_x, self.weighted, field)

    def of_part(self, part: Data, field: Field | None = None) -> KnownGraph:
        """The same for a part of the graph, whose ``n_id`` are the places of its nodes."""
        plain_x = None
        if self.plain_x is not None and field is None:
            plain_x = take_rows(self.plain_x, part.n_id)
        return KnownGraph(part, self.is_token, None, plain_x, self.weighted, field)

    @property
    def field(self) -> Field | None:
        """The nodes that it computes for."""
        return self._field

    def x_on_edges(self, x: Tensor | None) -> Tensor | None:
        """``x`` in the form that the model takes together with ``edge_index``."""
        return self.plain_x if x is self.x and self.plain_x is not None else x

    def forget(self) -> None:
        """Give up all matrices and aggregates; they are made anew when they are asked for."""
        for kept in (self._products, self._attention, self._aggregates, self._constants):
            kept.clear()
        self._roots.clear()
        vars(self).pop("matrix", None)

    @functools.cached_property
    def matrix(self) -> Tensor:
        """The transposed adjacency matrix, CSR ``[num_nodes, num_nodes]``, of the features' type.

        This is what a model is called with instead of ``edge_index``.
        """
        data, num_nodes = self._data, self._data.num_nodes
        edge_index, weight = data.edge_index, self._edge_weight
        if self.is_token:
            edge_index, weight = edge_index[:, :0], None
        with ignore_csr_warnings():
            matrix: Tensor = to_torch_csr_tensor(
                edge_index.flip(0), weight, size=(num_nodes, num_nodes)
            )
            x: Tensor | None = data.get("x")
            return matrix if x is None or not x.is_floating_point() else matrix.to(x.dtype)

    @contextmanager
    def known_to(self, model: nn.Module) -> Iterator[None]:
        """Serve the model's convs and linear layers, within the context.

        See :mod:`fastglt.training.served` for which these are, and when they are; others do as
        they always do.

        Args:
            model: The model; it is left as it was found.
        """
        self._call = 0
        with serving(model, self):
            yield

    @property
    def num_calls(self) -> int:
        """How many convs have been served since :meth:`known_to` was entered."""
        return self._call

    def begin(self) -> int:
        """Count one more conv; which one it is, from 0."""
        self._call += 1
        return self._call - 1

    def is_raw(self, x: Tensor) -> bool:
        """Whether ``x`` is the graph's own features and no gradient is wanted for it."""
        return x is self.x and not x.requires_grad

    def targets(self, call: int, x: Tensor) -> Tensor:
        """The rows of ``x``, dense or CSR, of the nodes that a conv computes."""
        if self._field is None:
            return x
        if x.layout == torch.strided or not self.is_raw(x):
            return first_rows(x, self._field.sizes[call + 1])
        if call not in self._roots:
            self._roots[call] = first_rows(x, self._field.sizes[call + 1])
        return self._roots[call]

    def number(self, scalar: Tensor) -> float:
        """The value of a tensor of one element, read from the device once."""
        known = self._numbers.get(id(scalar))
        if known is None or known[1] != scalar._version:
            known = self._numbers[id(scalar)] = (scalar, scalar._version, float(scalar))
        return known[2]

    def aggregated(self, kind: Kind, call: int, x: Tensor) -> Tensor:
        """The aggregate of ``x``, which is kept if that is the graph's own features.

        Args:
            kind: The matrix.
            call: Which of the model's convs, from 0.
            x: ``[num_sources, channels]``; CSR only if :meth:`is_raw`.
        """
        if not self.is_raw(x):
            return self.product(kind, call)(x)
        key = self._key(kind, call)
        kept = self._aggregates.get(key)
        if kept is None or kept._version > 0:  # a model may have changed it in place
            kept = _in_lean_form(self.product(kind, call)(x))
            if kept.is_inference():  # of no use to autograd later
                return kept
            self._aggregates[key] = kept
            if self._field is not None:  # else other convs may ask for the same matrix
                self._products.pop(key)
        return kept

    def is_constant(self, x: Tensor) -> bool:
        """Whether ``x`` are the graph's own features, some rows or an aggregate of them, kept."""
        kept = (*self._aggregates.values(), *self._roots.values())
        return self.is_raw(x) or any(x is one for one in kept)

    def product_of(self, x: Tensor, columns: Tensor | None = None) -> Product:
        """The product with a CSR matrix that :meth:`is_constant`, or with some of its columns.

        The latest few choices of columns are kept.

        Args:
            x: ``[n, m]``.
            columns: ``[k]`` int64; the same tensor in every call, unless they change.
        """
        key = (id(x), id(columns))  # of tensors that are held, so that no other gets their ids
        if key not in self._constants:
            while len(self._constants) >= _CHOICES:
                del self._constants[next(iter(self._constants))]
            part = x if columns is None else take_columns(x, columns)
            self._constants[key] = (x, columns, Product.of_csr(part))
        return self._constants[key][2]

    def product(self, kind: Kind, call: int = 0) -> Product:
        """The matrix of that kind, for the nodes that a conv reads and computes."""
        key = self._key(kind, call)
        if key not in self._products:
            edge_index, values = self._weighted_edges(kind)
            position, edge_index, shape = self._block(edge_index, call)
            values = values if position is None else values[position]
            self._products[key] = Product(Adjacency(edge_index, *shape[::-1]), values)
        return self._products[key]

    def attention_edges(self, call: int, add_self_loops: bool, heads: int) -> AttentionEdges:
        """The edges of a conv with attention, one self-loop a node among them if asked for."""
        key = (add_self_loops, call if self._field is not None else 0, heads)
        if key not in self._attention:
            edge_index, num_nodes = self._data.edge_index, int(self._data.num_nodes)
            if add_self_loops:
                edge_index, _ = add_remaining_self_loops(edge_index, num_nodes=num_nodes)
            _, edge_index, shape = self._block(edge_index, call)
            self._attention[key] = AttentionEdges(edge_index, shape, heads)
        return self._attention[key]

    def _key(self, kind: Kind, call: int) -> tuple[Kind, int]:
        return (kind, 0 if self._field is None else call)

    def _block(
        self, edge_index: Tensor, call: int
    ) -> tuple[Tensor | None, Tensor, tuple[int, int]]:
        """The edges that a conv computes from, and the numbers of its targets and sources."""
        if self._field is None:
            num_nodes = int(self._data.num_nodes)
            return None, edge_index, (num_nodes, num_nodes)
        position, edge_index = self._field.block(edge_index, call)
        return position, edge_index, (self._field.sizes[call + 1], self._field.sizes[call])

    @property
    def _edge_weight(self) -> Tensor | None:
        weight: Tensor | None = self._data.get("edge_weight") if self.weighted else None
        return weight

    def _weighted_edges(self, kind: Kind) -> tuple[Tensor, Tensor]:
        """The elements of the matrix of the whole graph: ``[2, n]`` and ``[n]``."""
        data, edge_index = self._data, self._data.edge_index
        weight = self._edge_weight if kind.weighted else None
        if kind.name == "gcn":
            edge_index, weight = gcn_norm(
                edge_index,
                self._edge_weight,
                data.num_nodes,
                kind.improved,
                kind.add_self_loops,
                dtype=kind.dtype,
            )
        if weight is None:
            weight = torch.ones(edge_index.size(1), device=edge_index.device)
        weight = weight.view(-1).to(kind.dtype)
        if kind.name == "mean":
            degree = torch.bincount(edge_index[1], minlength=data.num_nodes)
            weight = weight / degree[edge_index[1]]
        if kind.root:
            loops = torch.arange(data.num_nodes, device=edge_index.device).expand(2, -1)
            edge_index = torch.cat([edge_index, loops], dim=1)
            weight = torch.cat([weight, weight.new_full((loops.size(1),), kind.root)])
        return edge_index, weight


def kept_view(data: Data, keep: Tensor) -> Data:
    """:func:`keep_edges`, with an adjacency matrix of the kept edges if ``data`` has one.

    Args:
        data: The graph; it is not changed.
        keep: ``[num_edges]`` bool.
    """
    if bool(keep.all()):
        return copy.copy(data)
    if ADJACENCY not in data:
        return keep_edges(data, keep)
    plain = copy.copy(data)
    del plain[ADJACENCY]
    kept = keep_edges(plain, keep)
    kept[ADJACENCY] = data[ADJACENCY].like(kept)
    return kept


def _in_lean_form(matrix: Tensor) -> Tensor:
    is_sparse = matrix.layout == torch.sparse_csr
    if is_sparse and matrix.values().numel() > _LEAN * matrix.size(0) * matrix.size(1):
        return matrix.to_dense()
    return matrix
