"""Early-bird tickets: draw masks every epoch and stop when they no longer change."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt import scores
from fastglt.gating import apply_weight_mask, prunable_weights, tied_names
from fastglt.masks import EdgeMask, WeightMask, select_top
from fastglt.search.base import (
    SearchContext,
    SearchMethod,
    SearchResult,
    cut_as_asked,
    full_masks,
    register,
)
from fastglt.search.gates import edge_factors
from fastglt.search.soft_masks import FLOOR
from fastglt.search.swap import num_kept_groups
from fastglt.training.dropout import fast_dropout
from fastglt.training.inputs import with_edge_places
from fastglt.training.loop import clone_state, make_optimizer, train_step
from fastglt.training.progress import stateful
from fastglt.training.seeding import seeded
from fastglt.training.states import check_like, check_tensor, to_device_of

QUEUE = 3
"""How many earlier masks a mask is compared with."""
FIRST = 7
"""The first epoch, from 1, in which a ticket may be drawn."""
GATE_LR = 0.1
"""Learning rate of the gates, in units of the weights'."""
RHO = 1e-3
"""Weight of the penalty that draws gates to a pruned graph."""


@register
class EarlyBird(SearchMethod):
    """Trains weights and edge gates, draws both masks each epoch, stops when they hold still.

    Source: You et al., "Early-Bird GCNs: Graph-Network Co-Optimization Towards More Efficient GCN
    Training and Inference via Drawing Early-Bird Lottery Tickets", AAAI 2022, arXiv 2103.00794 (the
    joint tickets, GEBT), and its public code. An epoch is a step of the weights and, where edges
    are pruned, a step of their gates, each with a pass of its own; both count in ``epochs``.
    Weights are drawn by magnitude over all layers (``allocation``) and zeroed, but may grow again;
    edges by their gates, which an ADMM penalty draws towards a pruned graph. The distance of a mask
    is the largest Hamming distance of each of its parameters to the three masks before, summed, in
    units of the first that is not 0; weights' and edges' are averaged. The ticket is drawn in the
    first epoch from the seventh on in which that is below ``mask_distance``, at the latest after
    ``mask_epochs``.

    Deviations: undirected edges have one gate a pair and the same in all layers; the penalty is a
    sum over pairs, with the code's ``1 / num_nodes ** 2``; kept edges are plain, where the source
    keeps their trained values; what follows is the rewinding and retraining of all methods.
    """

    name = "early-bird"

    def search(self, context: SearchContext) -> SearchResult:
        """Train until the masks hold still."""
        run = _Run(context)
        distances = _Distances()
        epochs = context.settings.mask_epochs
        context.callback.on_phase_start(self.name, epochs)
        with seeded(context.settings.seed), fast_dropout(context.model):
            steps = context.progress.loop("drawing", epochs, run.parts() | {"distances": distances})
            for epoch in steps:
                run.step(f"{self.name} epoch {epoch}")
                run.distance = distances.of(run.weight_mask, run.edge_mask)
                context.callback.on_step(self.name, epoch, None)
                if epoch >= FIRST and run.distance < context.settings.mask_distance:
                    steps.finish()
                    break
        context.callback.on_phase_end(self.name)
        model = context.model
        return SearchResult(
            run.edge_mask,
            run.weight_mask,
            epochs=steps.done * run.num_passes,
            state=apply_weight_mask(clone_state(model), run.weight_mask, tied_names(model)),
            metrics={"drawn_epoch": steps.done, "mask_distance": run.distance},
        )


class _Run:
    """Weights and gates in training, with the masks that are drawn of them.

    Attributes:
        edge_mask: Edges as they were drawn last.
        weight_mask: Weights likewise.
        distance: How far both are from the masks before.
    """

    def __init__(self, context: SearchContext) -> None:
        settings, groups = context.settings, context.groups
        self._context, self.distance = context, 1.0
        self.edge_mask, self.weight_mask = full_masks(context, context.model)
        self._weights = prunable_weights(context.model, settings.include, settings.exclude)
        self._optimizer = make_optimizer(context.model, settings.lr, context.weight_decay())
        self._gate: nn.Parameter | None = None
        self._data = context.data
        if settings.edge_sparsity > 0 and groups.num_groups > 0:
            self._data = with_edge_places(context.data)
            self._gate = nn.Parameter(torch.ones(groups.num_groups, device=groups.index.device))
            self._gate_optimizer = torch.optim.Adam([self._gate], lr=GATE_LR * settings.lr)
            self._target = torch.zeros_like(self._gate)
            self._dual = torch.zeros_like(self._gate)

    @property
    def num_passes(self) -> int:
        """Passes over the graph in an epoch."""
        return 1 if self._gate is None else 2

    def parts(self) -> dict[str, Any]:
        """What the training changes."""
        context = self._context
        parts = {"model": context.model, "optimizer": self._optimizer, "masks": self}
        parts |= {"generator": context.generator} | stateful(task=context.objective.task)
        if self._gate is not None:
            parts |= {"gate": self._gate, "gate optimizer": self._gate_optimizer}
        return parts

    def state_dict(self) -> dict[str, Any]:
        """Both masks, their distance, and where ADMM is."""
        state: dict[str, Any] = {"distance": self.distance, "keep": self.edge_mask.keep}
        state |= {"weight_mask": dict(self.weight_mask)}
        return state if self._gate is None else state | {"admm": [self._target, self._dual]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        check_tensor(state["keep"], self.edge_mask.keep, "keep")
        check_like(state["weight_mask"], self.weight_mask)
        self.distance = state["distance"]
        device = self._context.groups.index.device
        self.edge_mask = EdgeMask(self._context.groups, state["keep"].to(device))
        self.weight_mask = WeightMask(to_device_of(state["weight_mask"], self.weight_mask))
        if self._gate is not None:
            for tensor in state["admm"]:
                check_tensor(tensor, self._gate, "admm")
            self._target, self._dual = (tensor.to(device) for tensor in state["admm"])

    def step(self, where: str) -> None:
        """One epoch, after which both masks are drawn."""
        for _ in range(self._context.objective.task.num_batches(self._data)):
            train_step(self._optimizer, self._loss(), where)
            self._draw_weights()
            if self._gate is not None:
                train_step(self._gate_optimizer, self._loss() + self._penalty(self._gate), where)
        if self._gate is not None:
            self._draw_edges(self._gate.detach())

    def _loss(self) -> Tensor:
        context, task = self._context, self._context.objective.task
        context.model.train()
        batch: Data = task.batch(self._data, context.generator)
        gate = None if self._gate is None else self._gate.abs().clamp_min(FLOOR)
        out = task.forward(context.model, batch, edge_factors(context.groups, gate, batch))
        return context.objective(out, batch)

    def _penalty(self, gate: Tensor) -> Tensor:
        num_nodes = self._context.groups.num_nodes
        return RHO * (gate + self._dual - self._target).square().sum() / num_nodes**2

    def _draw_weights(self) -> None:
        settings = self._context.settings
        if settings.weight_sparsity == 0:
            return
        magnitude = scores.magnitude(self._weights)
        self.weight_mask = cut_as_asked(magnitude, settings)
        with torch.no_grad():
            for name, keep in self.weight_mask.items():
                self._weights[name].masked_fill_(~keep, 0)

    def _draw_edges(self, gate: Tensor) -> None:
        """The edges with the largest gates; then a step of ADMM towards them."""
        groups = self._context.groups
        count = num_kept_groups(groups, self._context.settings.edge_sparsity)
        moved = gate + self._dual
        self._target = moved * select_top(moved.abs(), count)
        self._dual = self._dual + gate - self._target
        self.edge_mask = EdgeMask(groups, select_top(gate.abs(), count))


class _Distances:
    """How far masks are from those of the epochs before."""

    def __init__(self) -> None:
        self._axes = (_Distance(), _Distance())

    def state_dict(self) -> dict[str, Any]:
        """The earlier masks, for a checkpoint."""
        axes = [{"earlier": list(axis.earlier), "unit": axis.unit} for axis in self._axes]
        return {"axes": axes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        for axis, kept in zip(self._axes, state["axes"], strict=True):
            axis.earlier = deque(kept["earlier"], maxlen=QUEUE)
            axis.unit = kept["unit"]

    def of(self, weight_mask: WeightMask, edge_mask: EdgeMask) -> float:
        """Mean distance of the axes that are pruned, from the masks of the calls before."""
        weights = self._axes[0].of(weight_mask)
        edges = self._axes[1].of({"edges": edge_mask.keep})
        pruned = [
            distance
            for distance, mask in ((weights, weight_mask), (edges, {"edges": edge_mask.keep}))
            if not all(bool(keep.all()) for keep in mask.values())
        ]
        return sum(pruned) / len(pruned) if pruned else 0.0


class _Distance:
    def __init__(self) -> None:
        self.earlier: deque[dict[str, Tensor]] = deque(maxlen=QUEUE)
        self.unit = 0.0

    def of(self, mask: Mapping[str, Tensor]) -> float:
        if not self.earlier:
            self.earlier.append(dict(mask))
            return 1.0
        distance = float(
            sum(
                max(int((keep ^ each[name].to(keep.device)).sum()) for each in self.earlier)
                for name, keep in mask.items()
            )
        )
        self.earlier.append(dict(mask))
        self.unit = self.unit or distance
        return distance / self.unit if self.unit else 0.0
