"""Which pairs of nodes are linked."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.errors import InputError, ModelError
from fastglt.training.known_graph import kept_view
from fastglt.training.metrics import average_precision, hits_at, hits_k, roc_auc
from fastglt.training.task import SPLITS, Split, describe_output
from fastglt.training.tasks.base import NamedTask, check_batch_size
from fastglt.training.tasks.losses import soft_bce
from fastglt.training.tasks.negatives import NonEdges, pair_keys

LARGEST_BATCH = 65_536
"""Training positives in a step, at most, unless a number is asked for (OGB's examples)."""
SMALLEST_NUM_BATCHES = 10
"""Steps in an epoch, at least, so that taking positives out of the messages leaves most of them."""

# What batches add to a graph, and what prepare() does: the sorted keys of the positives, the place
# of each positive among them, and that of each edge (-1 where it is none), which travels with it.
_INDEX, _LABEL = "batch_edge_label_index", "batch_edge_label"
_CHOSEN = "batch_edge_label_chosen"
_KEYS, _PLACE = "train_edge_label_keys", "train_edge_label_place"
_EDGE_PLACE = "edge_train_place"


class LinkPrediction(NamedTask):
    """Which pairs of nodes are linked: binary cross-entropy; ROC-AUC, AP or Hits@K.

    The model returns node embeddings ``[num_nodes, d]``; the logit of a pair is their dot product,
    or what the model's own ``decode(z, edge_label_index)`` says, if it has that method.

    The graph's ``edge_index`` holds the edges that messages pass along, and only these can be
    pruned. ``train_pos_edge_label_index``, ``val_pos_edge_label_index``,
    ``val_neg_edge_label_index`` and the same for ``test``, each ``[2, n]``, hold what is learned
    and measured; no validation or test positive may be among the messages. See
    :func:`fastglt.data.random_link_split`.

    A training step takes a random batch of training positives and as many random pairs that are
    no training positives. The batch's positives are taken out of the messages of that step, in
    both directions, since a model would otherwise learn to read off what it should predict.

    Args:
        metric: ``"roc_auc"``, ``"average_precision"`` or ``"hits@K"`` for any ``K``.
        batch_size: Training positives in a step; ``None`` takes :data:`LARGEST_BATCH` or a tenth
            of all, whichever is smaller.
        keep_positives: Leave the batch's positives among the messages.

    Raises:
        UnknownNameError: If there is no such metric.
        InputError: If ``batch_size`` is below 1.
    """

    name: ClassVar[str] = "link-prediction"
    metrics: ClassVar[tuple[str, ...]] = ("roc_auc", "average_precision", "hits@K")
    options: ClassVar[dict[str, Any]] = {"batch_size": None, "keep_positives": False}

    def __init__(
        self,
        metric: str = "roc_auc",
        batch_size: int | None = None,
        keep_positives: bool = False,
    ) -> None:
        super().__init__(metric)
        check_batch_size(batch_size)
        self.batch_size = batch_size
        self.keep_positives = keep_positives

    @classmethod
    def has_metric(cls, metric: str) -> bool:
        """Whether there is a metric of that name, with a number for ``K``."""
        return metric in cls.metrics[:2] or hits_k(metric) is not None

    def has_split(self, data: Data, split: Split) -> bool:
        """Whether the split has positives and negatives; training negatives are drawn."""
        kinds = ("pos",) if split == "train" else ("pos", "neg")
        return all(data.get(f"{split}_{kind}_edge_label_index") is not None for kind in kinds)

    def check_output(self, out: object, data: Data, num_outputs: int) -> None:
        """Expect one float logit for each pair that was asked about."""
        expected = sum(index.size(1) for index in _evaluation_pairs(data).values())
        if not isinstance(out, Tensor) or not out.is_floating_point() or out.shape != (expected,):
            raise ModelError(
                "the model must return node embeddings [num_nodes, d], and its decode(z, "
                f"edge_label_index), if it has one, one float logit a pair, [{expected}] "
                f"(got {describe_output(out)})"
            )

    def prepare(self, data: Data) -> Data:
        """Note which edges are training positives, so that batches can take theirs out fast."""
        num_nodes = int(data.num_nodes)
        keys, order = pair_keys(data.train_pos_edge_label_index, num_nodes).sort()
        edges = pair_keys(data.edge_index, num_nodes)
        result = copy.copy(data)
        result[_KEYS] = keys
        # Positives that are listed twice, or in both directions, share the place of the first.
        result[_PLACE] = torch.empty_like(order)
        result[_PLACE][order] = torch.searchsorted(keys, keys)
        place = torch.searchsorted(keys, edges).clamp_max(len(keys) - 1)
        result[_EDGE_PLACE] = torch.where(keys[place] == edges, place, -1)
        return result

    def num_batches(self, data: Data) -> int:
        """Steps in which about as many positives are seen as there are."""
        return -(-_num_positives(data) // self._batch_size(data))

    def batch(self, data: Data, generator: torch.Generator) -> Data:
        """Random positives and negatives, on the graph without those positives."""
        asked = self.asked(data, generator)
        return asked if self.keep_positives else kept_view(asked, ~self.answers(asked))

    def scored(self, data: Data, generator: torch.Generator) -> Data:
        """A batch with all messages, so that every edge has a gradient."""
        return self.asked(data, generator)

    def asked(self, data: Data, generator: torch.Generator, rank: int = 0, size: int = 1) -> Data:
        """``data`` with a batch of pairs, or with every ``size``-th of them from ``rank`` on."""
        chosen = self._draw(data, generator)
        return _asked_about(data, chosen, generator, slice(rank, None, size))

    def answers(self, asked: Data, edges: Tensor | None = None) -> Tensor:
        """``[num_edges]`` bool, the edges that are positives of the batch.

        Args:
            asked: What :meth:`asked` returned.
            edges: ``[k]`` places of the edges that are looked at; ``None`` for all.
        """
        place, chosen = asked[_EDGE_PLACE], asked[_CHOSEN]
        place = place if edges is None else place[edges]
        # One entry more, which stays False: place -1 is the last one.
        taken = torch.zeros(_num_positives(asked) + 1, dtype=torch.bool, device=place.device)
        taken[asked[_PLACE][chosen]] = True
        return taken[place]

    def pairs(self, asked: Data) -> Tensor:
        """``[2, n]``, the batch's pairs of nodes."""
        index: Tensor = asked[_INDEX]
        return index

    def with_pairs(self, asked: Data, pairs: Tensor) -> Data:
        """``asked`` with other numbers for the nodes of its pairs, in place."""
        asked[_INDEX] = pairs
        return asked

    def readout(self, model: nn.Module, encoded: Tensor, data: Data) -> Tensor:
        """Logits of the batch's pairs, or of all validation and test pairs one after the other."""
        if _INDEX in data:
            return _decode(model, encoded, data[_INDEX])
        return _decode(model, encoded, torch.cat(list(_evaluation_pairs(data).values()), dim=1))

    def loss(self, out: Tensor, data: Data, split: Split = "train") -> Tensor:
        """Mean binary cross-entropy over a batch, or over the pairs of a split."""
        if split == "train":
            return F.binary_cross_entropy_with_logits(out, data[_LABEL])
        positive, negative = _of_split(out, data, split)
        label = torch.cat([torch.ones_like(positive), torch.zeros_like(negative)])
        return F.binary_cross_entropy_with_logits(torch.cat([positive, negative]), label)

    def metric(self, out: Tensor, data: Data, split: Split) -> float:
        """ROC-AUC, average precision or Hits@K over the pairs of a split."""
        positive, negative = _of_split(out, data, split)
        if self.metric_name == "roc_auc":
            return roc_auc(positive, negative)
        if self.metric_name == "average_precision":
            return average_precision(positive, negative)
        return hits_at(hits_k(self.metric_name) or 1, positive, negative)

    def guidance(self, out: Tensor, target: Tensor, temperature: float) -> Tensor:
        """Binary cross-entropy against the teacher's probabilities of the pairs."""
        return soft_bce(out, target, temperature)

    def _batch_size(self, data: Data) -> int:
        tenth = -(-_num_positives(data) // SMALLEST_NUM_BATCHES)
        return min(self.batch_size or min(LARGEST_BATCH, tenth), _num_positives(data))

    def _draw(self, data: Data, generator: torch.Generator) -> Tensor:
        order = torch.randperm(_num_positives(data), generator=generator)
        return order[: self._batch_size(data)].to(data.edge_index.device)


def _asked_about(data: Data, chosen: Tensor, generator: torch.Generator, share: slice) -> Data:
    if _KEYS not in data:
        raise InputError("LinkPrediction.batch needs the graph that its prepare() returned")
    result = copy.copy(data)
    positive = data.train_pos_edge_label_index[:, chosen]
    drawn = NonEdges(data[_KEYS], int(data.num_nodes)).draw(len(chosen), generator)
    positive, drawn = positive[:, share], drawn[:, share].to(positive.device)
    result[_INDEX] = torch.cat([positive, drawn], dim=1)
    result[_LABEL] = torch.cat(
        [positive.new_ones(positive.size(1)), drawn.new_zeros(drawn.size(1))]
    ).float()
    result[_CHOSEN] = chosen
    return result


def _num_positives(data: Data) -> int:
    return int(data.train_pos_edge_label_index.size(1))


def _evaluation_pairs(data: Data) -> dict[str, Tensor]:
    """``[2, n]`` pairs that are measured on, by split and kind, in a fixed order."""
    names = [f"{split}_{kind}" for split in SPLITS[1:] for kind in ("pos", "neg")]
    found = {name: data.get(f"{name}_edge_label_index") for name in names}
    return {name: index for name, index in found.items() if index is not None}


def _of_split(out: Tensor, data: Data, split: Split) -> tuple[Tensor, Tensor]:
    pairs = _evaluation_pairs(data)
    sizes = [index.size(1) for index in pairs.values()]
    parts = dict(zip(pairs, torch.split(out, sizes), strict=True))
    return parts[f"{split}_pos"], parts[f"{split}_neg"]


def _decode(model: nn.Module, z: Tensor, index: Tensor) -> Tensor:
    decode = getattr(model, "decode", None)
    if decode is not None:
        out: Tensor = decode(z, index)
        return out
    return (z[index[0]] * z[index[1]]).sum(dim=-1)
