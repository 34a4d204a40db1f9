"""TEDDY: edges by their degrees at one stroke, weights by projection, both guided by the dense."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Data

from fastglt import scores
from fastglt.gating import prunable_weights
from fastglt.masks import EdgeMask, WeightMask, select_top
from fastglt.search.base import (
    SearchContext,
    SearchMethod,
    SearchResult,
    cut_as_asked,
    full_masks,
    register,
)
from fastglt.search.swap import num_kept_groups
from fastglt.settings import Settings
from fastglt.training.dropout import fast_dropout
from fastglt.training.focus import focused
from fastglt.training.known_graph import kept_view
from fastglt.training.loop import (
    clone_state,
    make_optimizer,
    predict,
    train_step,
    validation_metric,
)
from fastglt.training.progress import stateful
from fastglt.training.seeding import seeded
from fastglt.training.states import Fields, to_device_of


@dataclass
class _Best(Fields):
    """The best epoch so far."""

    mask: dict[str, Tensor]
    state: dict[str, Tensor]
    metric: float = -math.inf
    epoch: int = 0


@register
class Teddy(SearchMethod):
    """Keeps edges in low-degree surroundings, then trains on the L0 ball of the weight budget.

    Source: Seo et al., "TEDDY: Trimming Edges with Degree-based Discrimination Strategy", ICLR
    2024, arXiv 2402.01261, and its public code. Edges are cut once by
    :func:`fastglt.scores.degree_surroundings`. Then the model is trained for ``mask_epochs`` on the
    kept graph, from the initial weights and with distillation from the dense model (``teacher``;
    its weight corresponds to the source's coefficient of 0.1), and after every step all but the
    largest weights of all layers (``allocation``) are set to 0; they may grow again. The mask of
    the epoch with the best validation metric is returned.

    Deviations: edges go in pairs where the graph is undirected; biases are not counted among the
    weights; the rewinding and retraining of all methods follows, where the source ends here.
    """

    name = "teddy"

    def search(self, context: SearchContext) -> SearchResult:
        """Cut the edges, then train under projections."""
        edge_mask = self._edge_mask(context)
        kept = kept_view(context.data, edge_mask.edges)
        weight_mask, state, epochs = self._projected_training(context, kept)
        return SearchResult(edge_mask, weight_mask, epochs=epochs, state=state)

    @staticmethod
    def _edge_mask(context: SearchContext) -> EdgeMask:
        groups = context.groups
        score = scores.degree_surroundings(groups, EdgeMask.full(groups).keep)
        count = num_kept_groups(groups, context.settings.edge_sparsity)
        return EdgeMask(groups, select_top(score, count))

    def _projected_training(
        self, context: SearchContext, kept: Data
    ) -> tuple[WeightMask, dict[str, Tensor], int]:
        settings, task, model = context.settings, context.objective.task, context.model
        _, full = full_masks(context, model)
        if settings.weight_sparsity == 0:
            return full, clone_state(model), 0
        weights = prunable_weights(model, settings.include, settings.exclude)
        optimizer = make_optimizer(model, settings.lr, context.weight_decay())
        val = focused(kept, task, "val")
        best = _Best(dict(full), clone_state(model))
        random = {"generator": context.generator, **stateful(task=task)}
        parts = {"model": model, "optimizer": optimizer, "best": best, **random}
        context.callback.on_phase_start(self.name, settings.mask_epochs)
        with seeded(settings.seed), fast_dropout(model):
            epochs = context.progress.loop("projected", settings.mask_epochs, parts)
            for epoch in epochs:
                for _ in range(task.num_batches(kept)):
                    model.train()
                    batch = task.batch(kept, context.generator)
                    loss = context.objective(task.forward(model, batch), batch)
                    train_step(optimizer, loss, f"{self.name} epoch {epoch}")
                    mask = _project(weights, settings)
                metric = validation_metric(
                    task, predict(task, model, val), val, f"{self.name} epoch {epoch}"
                )
                if metric > best.metric:
                    best.metric, best.epoch = metric, epoch
                    best.mask, best.state = dict(mask), clone_state(model)
                context.callback.on_step(self.name, epoch, metric)
                if settings.patience and epoch - best.epoch >= settings.patience:
                    epochs.finish()
                    break
        context.callback.on_phase_end(self.name)
        mask = WeightMask(to_device_of(best.mask, full))
        return mask, to_device_of(best.state, model.state_dict()), epochs.done


@torch.no_grad()
def _project(weights: Mapping[str, Tensor], settings: Settings) -> WeightMask:
    """Set all but the largest weights to 0."""
    mask = cut_as_asked(scores.magnitude(weights), settings)
    for name, keep in mask.items():
        weights[name].masked_fill_(~keep, 0)
    return mask
