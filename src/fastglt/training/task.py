"""What a model is trained for: how it is called, its loss and its metric.

The tasks that have a name are in :mod:`fastglt.training.tasks`; a user's own is a subclass of
:class:`Task`, or of one of those with another :meth:`Task.call`.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.data.validate import check_graph
from fastglt.errors import ModelError
from fastglt.gating import (
    accepts_keyword,
    csr_messages,
    loops_last,
    message_gate,
    reorder_edges,
    supports_csr_messages,
    takes_edge_attr,
    takes_edge_weight,
)

ADJACENCY = "csr_adj_t"
"""Where :mod:`fastglt.training.inputs` puts what is kept of a graph between forward passes."""
EDGE_PLACE = "edge_place"
"""Where :func:`fastglt.training.inputs.with_edge_places` puts the place of each edge in the graph
it was called on; -1 for one that a part of the graph has in addition."""
PART = "inverse_share"
"""What only parts of a graph have, see :func:`fastglt.training.parts.cut_out`."""
Split = Literal["train", "val", "test"]
LARGE = 1_000
"""Above so many edges it pays to sort them for the sake of gated sparse products."""
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class Task(ABC):
    """How to call a model on a graph, its loss and its metric (higher = better).

    A task of one's own needs :meth:`loss` and :meth:`metric`, and :meth:`call` for a model that
    is not called as ``model(x, edge_index)``::

        class Regression(fastglt.Task):
            metric_name = "negative_mae"

            def call(self, model, data):
                return model(data.x, data.edge_index, data.positions)

            def loss(self, out, data, split="train"):
                mask = data[f"{split}_mask"]
                return F.mse_loss(out[mask].view(-1), data.y[mask])

            def metric(self, out, data, split):
                mask = data[f"{split}_mask"]
                return -float((out[mask].view(-1) - data.y[mask]).abs().mean())

        ticket = fastglt.find(model, data, task=Regression(), edge_sparsity=0.3)

    A model's output on a graph is first *encoded*, one row a node, then *read out*; where
    predictions are made of nodes, both are the same.

    Attributes:
        name: The name people type; ``"custom"`` for a user's own.
        metric_name: What :meth:`metric` measures.
        passes_edge_weight: Whether :meth:`call` hands ``data.edge_weight`` to the model if it is
            there. A subclass with a :meth:`call` of its own has to say so; otherwise gates act on
            the finished messages, which no model can miss.
        passes_adjacency: Whether :meth:`call` hands ``data[ADJACENCY].matrix`` to the model if it
            is there. A subclass with a :meth:`call` of its own has to say so.
    """

    name: ClassVar[str] = "custom"
    metric_name: str = "metric"
    passes_edge_weight: ClassVar[bool] = True
    passes_adjacency: ClassVar[bool] = True

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        if "call" in vars(cls):
            cls.passes_edge_weight = vars(cls).get("passes_edge_weight", False)
            cls.passes_adjacency = vars(cls).get("passes_adjacency", False)
        if {"loss", "metric", "readout"} & vars(cls).keys() and "reads" not in vars(cls):
            cls.reads = Task.reads  # type: ignore[method-assign]

    def call(self, model: nn.Module, data: Data) -> Tensor:
        """Call the model on the edges that ``data`` has.

        The default is ``model(x, edge_index)``, with ``edge_weight=`` and ``edge_attr=`` if the
        graph has them and the model takes them. Where :mod:`fastglt.training.inputs` has proven
        it equal, an adjacency matrix takes the place of ``edge_index``.

        Args:
            model: The model.
            data: The graph, possibly with fewer edges than it started from; ``data.edge_weight``
                may hold differentiable gates.

        Returns:
            What :meth:`readout` expects, for most tasks ``[num_nodes, num_outputs]``.
        """
        named = self.keywords(model, data)
        out: Tensor
        known = data.get(ADJACENCY)
        if known is not None and known.is_of(data):
            with known.known_to(model):
                out = model(data.get("x"), known.matrix, **named)
            return out
        if data.get("edge_weight") is not None and accepts_keyword(model, "edge_weight"):
            named["edge_weight"] = data.edge_weight
        x = data.get("x") if known is None else known.x_on_edges(data.get("x"))
        out = model(x, data.edge_index, **named)
        return out

    def keywords(self, model: nn.Module, data: Data) -> dict[str, Any]:
        """What :meth:`call` hands on by name, next to ``edge_weight``: by default ``edge_attr``."""
        if data.get("edge_attr") is not None and takes_edge_attr(model):
            return {"edge_attr": data.edge_attr}
        return {}

    @abstractmethod
    def loss(self, out: Tensor, data: Data, split: Split = "train") -> Tensor:
        """Loss on one split, a scalar."""

    @abstractmethod
    def metric(self, out: Tensor, data: Data, split: Split) -> float:
        """Metric on one split, higher = better."""

    def reads(self, data: Data, split: Split) -> Tensor | None:
        """``[num_nodes]`` bool, the nodes whose predictions loss and metric on a split depend on.

        ``None`` if that is not known, which also holds for a subclass with a ``loss``, ``metric``
        or ``readout`` of its own, unless it says otherwise. It is only made use of where loss,
        metric and gradients prove to be the same without the other nodes.
        """
        return None

    def has_split(self, data: Data, split: Split) -> bool:
        """Whether ``data`` has anything to measure on that split."""
        mask = data.get(f"{split}_mask")
        return mask is not None and bool(mask.any())

    def validate(self, data: Data) -> int:
        """Check a graph and return the number of classes or labels, 0 where there are none.

        Raises:
            GraphError: If the graph cannot be used; the message says why.
        """
        check_graph(data)
        return 0

    def check_output(self, out: object, data: Data, num_outputs: int) -> None:
        """Check what the model returned.

        Raises:
            ModelError: If ``out`` is not what the task expects of the model.
        """
        if not isinstance(out, Tensor) or not out.is_floating_point() or out.dim() < 1:
            raise ModelError(
                f"the model must return a float tensor (got {describe_output(out)}); a task of "
                "your own may call it otherwise, see fastglt.Task.call"
            )

    def prepare(self, data: Data) -> Data:
        """``data`` with what the task looks up often; called once, before anything else."""
        return data

    def num_batches(self, data: Data) -> int:
        """Training steps in an epoch."""
        return 1

    def batch(self, data: Data, generator: torch.Generator) -> Data:
        """What one training step sees, drawn at random; by default the whole graph."""
        return data

    def scored(self, data: Data, generator: torch.Generator) -> Data:
        """What edges are scored on by gradients: like :meth:`batch`, but with every edge."""
        return data

    def on_scored(
        self,
        data: Data,
        generator: torch.Generator,
        gate: Tensor,
        loss: Callable[[Data, Tensor], Tensor],
        portion: tuple[int, int] = (0, 1),
        everyone: bool = False,
    ) -> Tensor:
        """A loss on :meth:`scored`, for the sake of its gradient by the edges.

        Args:
            data: The graph.
            generator: Seeded source of randomness.
            gate: ``[num_edges]`` gates that require gradients.
            loss: Called with what is scored and the gates of its edges; returns a scalar.
            portion: ``(i, n)``: the ``i``-th of ``n`` calls, which may share out the graph.
            everyone: Whether the loss is about all nodes rather than those that are trained on.

        Returns:
            A scalar with that gradient; in a subclass its value may be another.
        """
        return loss(self.scored(data, generator), gate)

    def gates_edge_weight(self, model: nn.Module) -> bool:
        """Whether a factor on ``edge_weight`` reaches every conv of the model."""
        return self.passes_edge_weight and takes_edge_weight(model)

    def encode(self, model: nn.Module, data: Data, gate: Tensor | None = None) -> Tensor:
        """Call the model, with every edge multiplied by a gate if there is one.

        Args:
            model: Gets the gates as ``edge_weight`` if that reaches every conv, else on the
                finished messages.
            data: The graph.
            gate: ``[num_edges]``, differentiable.

        Returns:
            What :meth:`call` returns.
        """
        if gate is None:
            return self.call(model, data)
        gated = copy.copy(data)
        if ADJACENCY in gated:
            gated.x = gated[ADJACENCY].x_on_edges(data.get("x"))
            del gated[ADJACENCY]
        if self.gates_edge_weight(model):
            weight: Tensor | None = data.get("edge_weight")
            gated.edge_weight = gate if weight is None else weight * gate
            with _lean_messages(model, gated.edge_index):
                return self.call(model, gated)
        order = loops_last(data.edge_index)
        gated = reorder_edges(gated, order)
        with _lean_messages(model, gated.edge_index, gate[order]):
            return self.call(model, gated)

    def readout(self, model: nn.Module, encoded: Tensor, data: Data) -> Tensor:
        """Predictions from what :meth:`encode` returned, for what ``data`` asks about."""
        return encoded

    def target(self, model: nn.Module, encoded: Tensor, data: Data) -> Tensor:
        """A teacher's predictions for what a batch asks about, from its ``encoded`` whole graph."""
        return self.readout(model, encoded, data)

    def forward(self, model: nn.Module, data: Data, gate: Tensor | None = None) -> Tensor:
        """Predictions of a model on a graph: :meth:`encode`, then :meth:`readout`."""
        return self.readout(model, self.encode(model, data, gate), data)

    def guidance(self, out: Tensor, target: Tensor, temperature: float) -> Tensor:
        """How far predictions are from a teacher's, a scalar.

        The default is the mean squared error (Ba & Caruana, arXiv 1312.6184), which fits any
        output and knows no temperature.
        """
        return F.mse_loss(out, target)

    def profile(self, encoded: Tensor) -> Tensor:
        """``[num_nodes, k]`` descriptions of the nodes, whose differences make an edge matter.

        The default scales the rows of ``encoded`` to length 1.
        """
        return F.normalize(encoded.flatten(1) if encoded.dim() > 1 else encoded[:, None], dim=-1)

    def classes(self, encoded: Tensor) -> Tensor | None:
        """``[num_nodes]`` int64: which of several classes each node is predicted to be of.

        ``None``, the default, where nodes are not of one class each.
        """
        return None

    def averaged(self, encoded: Tensor, average: Callable[[Tensor], Tensor]) -> Tensor | None:
        """What stands for averages of the predictions in ``encoded`` over nodes.

        Args:
            encoded: What :meth:`encode` returned.
            average: Takes ``[num_nodes, k]`` and gives weighted averages of its rows, as many.

        Returns:
            A tensor like ``encoded``; ``None``, the default, where predictions of nodes cannot be
            averaged.
        """
        return None

    def taught(self, encoded: Tensor, data: Data) -> Data:
        """``data`` with what a teacher says of nodes without a label added to its validation split.

        The default leaves it as it is.

        Args:
            encoded: What the teacher's :meth:`encode` gave.
            data: The graph.
        """
        return data

    def labelled_share(self, data: Data) -> float:
        """Share of what a teacher speaks of in training that has a label: by default all."""
        return 1.0

    def record(self) -> dict[str, Any]:
        """What a ticket remembers of the task, JSON-able."""
        return {"name": self.name, "metric": self.metric_name}


def _lean_messages(
    model: nn.Module, edge_index: Tensor, gate: Tensor | None = None
) -> AbstractContextManager[None]:
    """On a large graph, gated messages as sparse products where that is equal.

    Otherwise gates given as ``edge_weight`` need nothing, and others act on finished messages.
    """
    if edge_index.size(1) > LARGE and supports_csr_messages(model):
        return csr_messages(model, edge_index, gate)
    return nullcontext() if gate is None else message_gate(model, edge_index, gate)


def describe_output(out: object) -> str:
    """Type and shape of something that a model returned, for messages."""
    if not isinstance(out, Tensor):
        return type(out).__name__
    return f"{out.dtype} {tuple(out.shape)}"
