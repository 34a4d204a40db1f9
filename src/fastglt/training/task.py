"""What a model is trained for: how it is called, its loss and its metric."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data
from torchmetrics.functional.classification import multiclass_accuracy

from fastglt.errors import ModelError
from fastglt.gating import loops_last, message_gate, takes_edge_weight

ADJACENCY = "csr_adj_t"
"""Where :mod:`fastglt.training.inputs` puts the adjacency matrix of a graph."""
Split = Literal["train", "val", "test"]


class Task(ABC):
    """How to call a model on a graph, its loss and its metric (higher = better)."""

    metric_name: str

    def forward(self, model: nn.Module, data: Data, gate: Tensor | None = None) -> Tensor:
        """Call the model on the edges that ``data`` has.

        Args:
            model: Called as ``model(x, edge_index)``, or with ``edge_weight=`` if every conv
                takes it and there is a gate or ``data.edge_weight``; other models do not see
                the edge weights.
            data: The graph, possibly with fewer edges than it started from. Where it has
                an :data:`ADJACENCY` and there is no gate, that takes the place of ``edge_index``.
            gate: ``[num_edges]``, a differentiable factor for each edge.
        """
        if gate is None and ADJACENCY in data:
            return _call(model, data.x, data[ADJACENCY], None)
        weight: Tensor | None = data.get("edge_weight")
        if takes_edge_weight(model):
            if gate is not None:
                weight = gate if weight is None else weight * gate
            return _call(model, data.x, data.edge_index, weight)
        if gate is None:
            return _call(model, data.x, data.edge_index, None)
        order = loops_last(data.edge_index)
        edge_index = data.edge_index[:, order]
        with message_gate(model, edge_index, gate[order]):
            return _call(model, data.x, edge_index, None)

    @abstractmethod
    def loss(self, out: Tensor, data: Data, split: Split = "train") -> Tensor:
        """Loss on one split, a scalar."""

    @abstractmethod
    def metric(self, out: Tensor, data: Data, split: Split) -> float:
        """Metric on one split."""

    @abstractmethod
    def probability(self, out: Tensor) -> Tensor:
        """Predicted probabilities of a model's output, of its shape."""

    @abstractmethod
    def check_output(self, out: object, data: Data) -> None:
        """Raise :class:`ModelError` unless ``out`` is what the task expects of the model."""


class NodeClassification(Task):
    """One label a node, cross-entropy, accuracy.

    Args:
        num_classes: Number of classes.
    """

    metric_name = "accuracy"

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def loss(self, out: Tensor, data: Data, split: Split = "train") -> Tensor:
        """Mean cross-entropy over the nodes of a split."""
        mask = data[f"{split}_mask"]
        return F.cross_entropy(out[mask], data.y[mask])

    def metric(self, out: Tensor, data: Data, split: Split) -> float:
        """Share of the nodes of a split that are classified correctly."""
        mask = data[f"{split}_mask"]
        accuracy = multiclass_accuracy(
            out[mask].argmax(dim=-1), data.y[mask], self.num_classes, average="micro"
        )
        count = int(mask.sum())
        # torchmetrics answers in float32; the share itself is exact in float64.
        return round(float(accuracy) * count) / count

    def probability(self, out: Tensor) -> Tensor:
        """Softmax over the classes."""
        return out.softmax(dim=-1)

    def check_output(self, out: object, data: Data) -> None:
        """Expect float logits ``[num_nodes, num_classes]``; columns without labels are allowed."""
        expected = (data.num_nodes, self.num_classes)
        if not isinstance(out, Tensor) or not out.is_floating_point():
            found = f"{out.dtype} tensor" if isinstance(out, Tensor) else type(out).__name__
            raise ModelError(
                f"model(x, edge_index) must return a float tensor of shape {expected} (got {found})"
            )
        if out.dim() != 2 or out.size(0) != expected[0] or out.size(1) < expected[1]:
            raise ModelError(
                f"model(x, edge_index) must return shape {expected}: one row a node, one column a "
                f"class (got {tuple(out.shape)})"
            )


def _call(model: nn.Module, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None) -> Tensor:
    out: Tensor
    if edge_weight is None:
        out = model(x, edge_index)
    else:
        out = model(x, edge_index, edge_weight=edge_weight)
    return out
