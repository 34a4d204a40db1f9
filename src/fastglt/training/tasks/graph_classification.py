"""Labels of whole graphs, such as molecules."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from fastglt.errors import GraphError, InputError
from fastglt.training.metrics import accuracy, mean_roc_auc
from fastglt.training.task import Split
from fastglt.training.tasks.base import NamedTask, check_batch_size, check_logits
from fastglt.training.tasks.losses import labelled_bce, soft_bce, softmax_divergence

_POSITION = "position_in_whole"


class GraphClassification(NamedTask):
    """One label a graph (accuracy), or several yes-or-no labels (mean ROC-AUC).

    The data is a :class:`torch_geometric.data.Batch` of all graphs with ``y`` and the masks a
    row each graph. The model is called as ``model(x, edge_index, batch=batch)``, with edge
    weights and attributes as usual. Only weights can be pruned: every graph has edges of its own.

    Args:
        metric: ``"accuracy"`` for one label a graph, ``"roc_auc"`` for several.
        batch_size: Graphs in a training step.

    Raises:
        UnknownNameError: If there is no such metric.
        InputError: If ``batch_size`` is below 1.
    """

    name: ClassVar[str] = "graph-classification"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "roc_auc")
    options: ClassVar[dict[str, Any]] = {"batch_size": 256}

    def __init__(self, metric: str = "accuracy", batch_size: int = 256) -> None:
        super().__init__(metric)
        check_batch_size(batch_size)
        self.batch_size = batch_size

    def validate(self, data: Data) -> int:
        """Check graphs, masks and labels; return the number of classes or labels."""
        num_outputs = super().validate(data)
        x = data.get("x")
        if x is not None and x.layout != torch.strided:
            raise GraphError(
                f"data.x must be dense for a batch of graphs (got {x.layout}); use x.to_dense()"
            )
        expected = "roc_auc" if data.y.dim() == 2 else "accuracy"
        if self.metric_name != expected:
            raise InputError(
                f"metric must be {expected!r} for labels y of shape {list(data.y.shape)} "
                f"(got {self.metric_name!r})"
            )
        return num_outputs

    def check_output(self, out: object, data: Data, num_outputs: int) -> None:
        """Expect float logits ``[num_graphs, num_outputs]``."""
        check_logits(out, (int(data.num_graphs), num_outputs), "graph")

    def keywords(self, model: nn.Module, data: Data) -> dict[str, Any]:
        """``batch``, and edge attributes where the model takes them."""
        return super().keywords(model, data) | {"batch": data.batch}

    def num_batches(self, data: Data) -> int:
        """Steps in which about as many training graphs are seen as there are."""
        return max(1, -(-int(data.train_mask.sum()) // self.batch_size))

    def batch(self, data: Data, generator: torch.Generator) -> Data:
        """Random training graphs, as a batch of their own."""
        train = data.train_mask.nonzero().view(-1)
        drawn = torch.randperm(len(train), generator=generator)[: self.batch_size]
        chosen = train[drawn.sort().values.to(train.device)]
        result: Data = Batch.from_data_list(data.index_select(chosen))
        result[_POSITION] = chosen
        return result

    def target(self, model: nn.Module, encoded: Tensor, data: Data) -> Tensor:
        """The teacher's logits of the graphs in a batch."""
        return encoded[data[_POSITION]] if _POSITION in data else encoded

    def loss(self, out: Tensor, data: Data, split: Split = "train") -> Tensor:
        """Mean cross-entropy (one label) or binary cross-entropy (several) over a split."""
        out, y = _of_split(out, data, split)
        return labelled_bce(out, y) if y.dim() == 2 else F.cross_entropy(out, y)

    def metric(self, out: Tensor, data: Data, split: Split) -> float:
        """Accuracy or mean ROC-AUC over the graphs of a split."""
        out, y = _of_split(out, data, split)
        return mean_roc_auc(out, y) if y.dim() == 2 else accuracy(out, y)

    def guidance(self, out: Tensor, target: Tensor, temperature: float) -> Tensor:
        """Divergence from the teacher's probabilities."""
        divergence = soft_bce if self.metric_name == "roc_auc" else softmax_divergence
        return divergence(out, target, temperature)


def _of_split(out: Tensor, data: Data, split: Split) -> tuple[Tensor, Tensor]:
    """Rows of a split; a training batch has no masks and is all training."""
    if _POSITION in data:
        return out[:, : data.y.size(1)] if data.y.dim() == 2 else out, data.y
    mask = data[f"{split}_mask"]
    out, y = out[mask], data.y[mask]
    return out[:, : y.size(1)] if y.dim() == 2 else out, y
