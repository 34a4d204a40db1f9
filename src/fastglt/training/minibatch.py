"""Training in mini-batches: any task on parts of a graph that would be too large as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.errors import ModelError
from fastglt.gating import lean_inference
from fastglt.training.parts import (
    SOURCES,
    Cut,
    PartSource,
    Sampling,
    averaging_share,
    cut_out,
    in_degree,
    share_of,
)
from fastglt.training.ranks import Ranks
from fastglt.training.task import ADJACENCY, EDGE_PLACE, PART, Split, Task
from fastglt.training.tasks.link_prediction import LinkPrediction
from fastglt.training.wrapped import WrappedTask

KEPT_SOURCES = 2
"""Graphs whose sources are kept: the pruned one, which is trained on, and the whole one, on which
edges are scored."""
_SEED_BOUND = 2**62
_SPREAD = 0x9E3779B1
"""Puts seeds far from each other (Knuth's multiplicative hashing)."""


class MiniBatch(WrappedTask):
    """A task whose training steps see parts of the graph, and whose evaluation is exact.

    A step takes seeds, of which every epoch has all: the training nodes, all nodes where a teacher
    speaks of them, or a batch of pairs. A node that draws only some of its incoming edges would
    get a sum of fewer messages; so where the model takes ``edge_weight``, each edge that was drawn
    weighs as many as it stands for, one over the probability with which it was drawn, or that over
    its mean where convs average. Nodes at the rim of a part have no messages there, but
    normalisation divides by their degree as well: a self-loop of that weight stands for it.

    Predictions of the whole graph are computed layer by layer for all nodes, exactly.

    Args:
        task: What is predicted.
        sampling: How the graph is cut.
        weighted: Whether a factor on ``edge_weight`` reaches every conv of the model.
        seed: Of the parts.
        guided: Whether a teacher speaks of all nodes.
        loop_weight: Weight of the self-loop that the model's convs give every node without one.
        averages: Whether convs average their messages rather than sum them.
    """

    def __init__(
        self,
        task: Task,
        sampling: Sampling,
        weighted: bool,
        seed: int = 0,
        guided: bool = False,
        loop_weight: float = 1.0,
        averages: bool = False,
    ) -> None:
        super().__init__(task)
        self._loop_weight, self._averages = loop_weight, averages
        self._sampling = replace(sampling, keeps_loops=weighted)
        self._weighted, self._guided = weighted, guided
        self._seed, self._num_drawn = seed, 0
        self._ranks = Ranks.current()
        self._sources: list[tuple[Tensor, PartSource]] = []
        self._order: list[Tensor] = []
        self._epoch_seed = self._scored_seed = self._position = 0
        self._drawn_by: torch.Generator | None = None
        self._degree: tuple[Tensor, Tensor | None, Tensor] | None = None

    def guided(self) -> MiniBatch:
        """The same under a teacher that speaks of all nodes."""
        return MiniBatch(
            self.task,
            self._sampling,
            self._weighted,
            self._seed,
            True,
            self._loop_weight,
            self._averages,
        )

    def state_dict(self) -> dict[str, Any]:
        """Where in an epoch this is."""
        return {
            "drawn": self._num_drawn,
            "epoch_seed": self._epoch_seed,
            "scored_seed": self._scored_seed,
            "position": self._position,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._num_drawn, self._position = int(state["drawn"]), int(state["position"])
        self._epoch_seed, self._scored_seed = int(state["epoch_seed"]), int(state["scored_seed"])
        self._order, self._drawn_by = [], None

    def num_batches(self, data: Data) -> int:
        """Parts in a pass over all seeds."""
        if isinstance(self.task, LinkPrediction):
            return self.task.num_batches(data)
        return self._source(data).num_parts(sum(map(len, self._strata(data, self._guided))))

    def batch(self, data: Data, generator: torch.Generator) -> Data:
        """The next part of the epoch; this rank's share of it where several train together."""
        if isinstance(self.task, LinkPrediction):
            source = self._source(data)
            return self._pairs(self.task, data, source, generator, self.task.keep_positives)
        if self._drawn_by is not None and self._drawn_by is not generator:
            self._position = 0  # another run begins with an epoch of its own
        if self._position == 0:
            self._epoch_seed = self._draw()
        source = self._source(data)
        if self._position == 0 or not self._order:
            strata = self._strata(data, self._guided)
            self._order = source.order(strata, self._epoch_seed)
        self._drawn_by, place = generator, self._position
        self._position = (place + 1) % len(self._order)
        seeds = self._own(data, self._order[place])
        # Trained gates take the place of the adjacency matrix, and the edges are then all used.
        focuses = EDGE_PLACE not in data
        seed, degree = self._epoch_seed + place, self._degree_of(data)
        return self._part(data, source, seeds, seed, degree, focuses)

    def on_scored(
        self,
        data: Data,
        generator: torch.Generator,
        gate: Tensor,
        loss: Callable[[Data, Tensor], Tensor],
        portion: tuple[int, int] = (0, 1),
        everyone: bool = False,
    ) -> Tensor:
        """A stand-in for a loss on the whole graph, whose gradient is estimated part by part.

        Gradients of parts are added up by the edges' places in the graph. What stands for others
        that were not drawn has a larger weight or gate, which the gradient is multiplied by too.
        """
        values, count = gate.detach(), 0
        degree = self._degree_of(data, values)
        slopes = _Slopes(data, degree, values.dtype)
        source = self._source(data).scored(values != 0)
        for part in self._scored_parts(data, source, generator, degree, portion, everyone):
            slopes.add(part, values, loss)
            count += 1
        total = self._ranks.sum(slopes.total()).div_(count * self._ranks.size)
        return (gate * total).sum()

    def encode(self, model: nn.Module, data: Data, gate: Tensor | None = None) -> Tensor:
        """What the task encodes; of a whole graph, without gradients, layer by layer."""
        is_whole = PART not in data and ADJACENCY not in data
        if not is_whole or gate is not None or torch.is_grad_enabled():
            return self.task.encode(model, data, gate)
        with lean_inference(model, data.edge_index):
            return self.task.encode(model, data)

    def reads(self, data: Data, split: Split) -> Tensor | None:
        """``None``: views of the whole graph are not made, since parts are."""
        return None

    def loss(self, out: Tensor, data: Data, split: Split = "train") -> Tensor:
        """The task's loss; 0 on a part without any node of the split."""
        mask = data.get(f"{split}_mask")
        if PART in data and mask is not None and not bool(mask.any()):
            return out.sum() * 0.0
        return self.task.loss(out, data, split)

    def target(self, model: nn.Module, encoded: Tensor, data: Data) -> Tensor:
        """The teacher's predictions for a part: of nodes, for its seeds only."""
        if PART not in data:
            return self.task.target(model, encoded, data)
        nodes = data.n_id
        if not isinstance(self.task, LinkPrediction):
            nodes = nodes[: data.batch_size]
        return self.task.target(model, encoded[nodes], data)

    def guidance(self, out: Tensor, target: Tensor, temperature: float) -> Tensor:
        """How far predictions of the seeds are from the teacher's."""
        return self.task.guidance(out[: len(target)], target, temperature)

    def _own(self, data: Data, seeds: Tensor) -> Tensor:
        """This rank's share of the seeds of a step, of those with a label and of the others.

        All of them, if there are fewer than ranks; loaders of the user's are each rank's own.
        """
        ranks, mask = self._ranks, data.get("train_mask")
        if ranks.size == 1 or self._sampling.kind == "given":
            return seeds
        parts = [seeds]
        if self._sampling.kind == "neighbor" and mask is not None:
            has_label = mask.cpu()[seeds]
            parts = [seeds[has_label], seeds[~has_label]]
        shares = [share_of(part, ranks.rank, ranks.size) for part in parts]
        share = torch.cat(shares).sort().values
        return share if len(share) else seeds

    def _source(self, data: Data) -> PartSource:
        for edge_index, source in self._sources:
            if edge_index is data.edge_index:
                return source
        if self._sources:
            source = self._sources[-1][1].renewed(data)
        else:
            source = SOURCES[self._sampling.kind](data, self._sampling)
        self._sources = [*self._sources, (data.edge_index, source)][-KEPT_SOURCES:]
        return source

    def _strata(self, data: Data, everyone: bool) -> list[Tensor]:
        """Seeds: those with a label to train on, and the others where they count."""
        mask = data.get("train_mask")
        if mask is None:
            mask = torch.ones(int(data.num_nodes), dtype=torch.bool)
        strata = [mask, ~mask] if everyone else [mask]
        return [nodes.cpu().nonzero().view(-1) for nodes in strata if bool(nodes.any())]

    def _degree_of(self, data: Data, gate: Tensor | None = None) -> Tensor | None:
        """``[num_nodes]`` what normalisation divides by, self-loop included, by weights and gates.

        ``None`` where weights do not reach the convs. Of a graph without gates it is kept.
        """
        if not self._weighted:
            return None
        weight = data.get("edge_weight")
        if gate is None:
            held = self._degree
            if held is not None and held[0] is data.edge_index and held[1] is weight:
                return held[2]
        values = gate if weight is None else weight if gate is None else weight * gate
        if values is None:
            degree = in_degree(data).view(-1).float().to(data.edge_index.device)
        else:
            degree = values.new_zeros(int(data.num_nodes)).index_add_(0, data.edge_index[1], values)
        has_loop = torch.zeros_like(degree, dtype=torch.bool)
        has_loop[data.edge_index[0, data.edge_index[0] == data.edge_index[1]]] = True
        degree = degree + self._loop_weight * ~has_loop
        if gate is None:
            self._degree = (data.edge_index, weight, degree)
        return degree

    def _part(
        self,
        data: Data,
        source: PartSource,
        seeds: Tensor,
        seed: int,
        degree: Tensor | None,
        focuses: bool = False,
    ) -> Data:
        part = self._cut_out(data, source.cut(seeds, seed % _SEED_BOUND), focuses)
        train = part.get("train_mask")
        if train is not None:
            part.train_mask = train.clone()
            part.train_mask[part.batch_size :] = False
        return part if degree is None else _weighted(part, degree)

    def _cut_out(self, data: Data, cut: Cut, focuses: bool = False) -> Data:
        """The part of the graph, whose edges weigh what convs make right."""
        part = cut_out(data, cut, focuses)
        if self._averages:
            part.inverse_share = averaging_share(part)
        return part

    def _pairs(
        self,
        task: LinkPrediction,
        data: Data,
        source: PartSource,
        generator: torch.Generator,
        keeps: bool,
    ) -> Data:
        """The neighbourhoods of random pairs, without the edges that give answers away."""
        seed = self._draw()
        asked = task.asked(data, generator, self._ranks.rank, self._ranks.size)
        pairs = task.pairs(asked)
        seeds, places = torch.unique(pairs.cpu(), return_inverse=True)
        cut = source.cut(seeds, seed)
        if not keeps and cut.edges is not None:
            stays = ~task.answers(asked, cut.edges.to(pairs.device)).cpu()
            cut = cut.only(stays)
        part = task.with_pairs(self._cut_out(asked, cut), places.view(2, -1).to(pairs.device))
        degree = self._degree_of(data)
        return part if degree is None else _weighted(part, degree)

    def _scored_parts(
        self,
        data: Data,
        source: PartSource,
        generator: torch.Generator,
        degree: Tensor | None,
        portion: tuple[int, int],
        everyone: bool,
    ) -> Iterator[Data]:
        """The parts of a pass over the graph with all its edges, or some of them."""
        if isinstance(self.task, LinkPrediction):
            for _ in range(self.task.num_batches(data)):
                yield self._pairs(self.task, data, source, generator, keeps=True)
            return
        which, of = portion
        if which == 0:
            self._scored_seed = self._draw()
        seed = self._scored_seed
        order = source.order(self._strata(data, everyone or self._guided), seed)
        chosen = order[which::of] if len(order) >= of else order
        for place, seeds in enumerate(chosen):
            seeds = self._own(data, seeds)
            yield self._part(data, source, seeds, seed + which + place * of, degree)

    def _draw(self) -> int:
        """A new seed. The run's own generator draws the same numbers as without parts."""
        self._num_drawn += 1
        # torch's generator on the CPU goes by the last 32 bits of its seed.
        mixed = (self._seed * _SPREAD + self._num_drawn) % 2**32
        generator = torch.Generator().manual_seed(mixed)
        return int(torch.randint(_SEED_BOUND, (1,), generator=generator))


class _Slopes:
    """Gradients of parts by the gates of their edges, added up by the edges' places in the graph.

    Args:
        data: The graph.
        degree: ``[num_nodes]`` what normalisation divides by, ``None`` where weights do not count.
        dtype: Of the gates.
    """

    def __init__(self, data: Data, degree: Tensor | None, dtype: torch.dtype) -> None:
        self._data, self._degree = data, degree
        self._by_edge = torch.zeros(data.num_edges, dtype=dtype, device=data.edge_index.device)
        self._by_node = self._by_edge.new_zeros(int(data.num_nodes))

    def add(self, part: Data, values: Tensor, loss: Callable[[Data, Tensor], Tensor]) -> None:
        """Add the gradient of a loss on a part where the graph's edges have gates ``values``."""
        edges: Tensor | None = part.get("e_id")
        if edges is None:
            raise ModelError(
                "edges are scored by gradients, so batches of loader must have e_id, the places of "
                "their edges in the graph; or choose edge_score='degree'"
            )
        loops = part.num_edges - len(edges)
        gate = torch.cat([values[edges], values.new_ones(loops)]).requires_grad_()
        with torch.enable_grad():
            value = loss(
                part, gate if self._degree is not None else gate * part.inverse_share.to(gate)
            )
        if not value.requires_grad:
            raise ModelError("the loss does not depend on the edges of a part of the graph")
        (slope,) = torch.autograd.grad(value, gate, allow_unused=True)
        slope = torch.zeros_like(gate) if slope is None else slope.nan_to_num(0.0, 0.0, 0.0)
        own, rim = torch.split(slope, [len(edges), loops])
        self._by_edge.index_add_(0, edges, own)
        if self._degree is not None:
            nodes = part.n_id[part.edge_index[0, len(edges) :]]
            tiny = torch.finfo(rim.dtype).tiny
            self._by_node.index_add_(0, nodes, rim / self._degree[nodes].clamp_min(tiny))

    def total(self) -> Tensor:
        """``[num_edges]``; edges into the rim of a part count by its degrees, which they make."""
        by_degree = self._by_node[self._data.edge_index[1]]
        weight: Tensor | None = self._data.get("edge_weight")
        return self._by_edge.add_(by_degree if weight is None else by_degree * weight.view(-1))


def _weighted(part: Data, degree: Tensor) -> Data:
    """A part whose edges weigh what they stand for, with self-loops at its rim.

    Args:
        part: The part.
        degree: ``[num_nodes]`` of the whole graph, self-loops included.
    """
    weight, scale = part.get("edge_weight"), part.inverse_share
    part.edge_weight = scale if weight is None else weight.view(-1) * scale
    rim = part.is_rim.nonzero().view(-1)
    part.edge_index = torch.cat([part.edge_index, rim.expand(2, -1)], dim=1)
    part.edge_weight = torch.cat([part.edge_weight, degree[part.n_id[rim]].to(part.edge_weight)])
    if part.get("edge_attr") is not None:  # what the rim itself computes is not read
        blank = part.edge_attr.new_zeros(len(rim), *part.edge_attr.shape[1:])
        part.edge_attr = torch.cat([part.edge_attr, blank])
    if EDGE_PLACE in part:
        part[EDGE_PLACE] = torch.cat([part[EDGE_PLACE], rim.new_full(rim.shape, -1)])
    if ADJACENCY in part:
        known = part[ADJACENCY]
        part[ADJACENCY] = known.like(part, known.field)
    return part
