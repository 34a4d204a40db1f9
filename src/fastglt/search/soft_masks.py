"""Weights, soft masks of weights and soft gates of edges, trained together: what IMP prunes by."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.gating import apply_weight_mask, prunable_weights, tied_names
from fastglt.masks import EdgeMask, WeightMask
from fastglt.search.base import SearchContext
from fastglt.search.gates import edge_factors
from fastglt.training.channels import LiveChannels
from fastglt.training.dropout import fast_dropout
from fastglt.training.focus import focused
from fastglt.training.inputs import with_edge_places
from fastglt.training.known_graph import kept_view
from fastglt.training.loop import check_finite, predict, validation_metric
from fastglt.training.progress import stateful
from fastglt.training.seeding import seeded
from fastglt.training.states import Fields, to_device_of

NOISE = 1e-5
"""Soft masks start at 1, times 1 plus uniform noise up to this (UGS's code)."""
FLOOR = 1e-4
"""Factors of kept edges are at or above this, since negative ones break GCN normalisation."""

ExtraLoss = Callable[[Tensor], Tensor]
"""A scalar to be added to the loss, of the model's predictions for all nodes."""


@dataclass(frozen=True)
class SoftScores:
    """How large the soft masks were at the best epoch.

    Attributes:
        edges: ``[num_groups]`` scores, ``None`` where no edges are to be pruned.
        weights: Scores by parameter name; empty where no weights are to be pruned.
        metric: Validation metric of that epoch.
        epochs: Epochs that were run.
    """

    edges: Tensor | None
    weights: dict[str, Tensor]
    metric: float
    epochs: int


@dataclass
class _Best(Fields):
    """The best epoch so far."""

    epoch: int = 0
    metric: float = -math.inf
    edges: Tensor | None = None
    weights: dict[str, Tensor] = field(default_factory=dict)


class SoftMasks:
    """One round of training with soft masks, from given weights and under given hard masks.

    The model's parameters hold the product of weights and soft masks; what is trained are the two
    factors. With ``G`` the gradient of a product, those of its factors are ``G * mask`` and
    ``G * weight``; the subgradient of the L1 penalty is added to that of the masks. Entries that
    the hard masks prune are 0 in both factors and never leave it.

    Args:
        context: What the method was given; its model is trained.
        state: State dict to start from.
        edge_mask: Edges to start from.
        weight_mask: Weights to start from.
        round_seed: Seed of noise, dropout and batches.
        extra_loss: Further loss.
        clamp_gates: Whether gates are held in ``[0, 1]``.
    """

    def __init__(
        self,
        context: SearchContext,
        state: dict[str, Tensor],
        edge_mask: EdgeMask,
        weight_mask: WeightMask,
        round_seed: int,
        *,
        extra_loss: ExtraLoss | None = None,
        clamp_gates: bool = False,
    ) -> None:
        self._context, self._extra_loss, self._clamp = context, extra_loss, clamp_gates
        self._weight_mask = weight_mask
        settings, model = context.settings, context.model
        self._seed = round_seed
        self._generator = torch.Generator().manual_seed(round_seed)
        model.load_state_dict(apply_weight_mask(state, weight_mask, tied_names(model)))
        self._products: dict[str, nn.Parameter] = {}
        if settings.weight_sparsity > 0:
            self._products = prunable_weights(model, settings.include, settings.exclude)
        self._weights = {
            name: nn.Parameter(p.detach().clone()) for name, p in self._products.items()
        }
        self._masks = {
            name: self._soft(weight_mask[name], p.dtype) for name, p in self._products.items()
        }
        has_gate = settings.edge_sparsity > 0 and context.groups.num_groups > 0
        self._gate = self._soft(edge_mask.keep, torch.float32) if has_gate else None
        self._multiply()
        self._optimizer = torch.optim.Adam(
            self._trained(), lr=settings.lr, weight_decay=context.weight_decay(), fused=True
        )
        data = context.data if self._gate is None else with_edge_places(context.data)
        self._data = kept_view(data, edge_mask.edges)

    def run(self, epochs: int, patience: int, where: str) -> SoftScores:
        """Train; return the masks of the epoch with the best validation metric.

        Args:
            epochs: At most so many.
            patience: Stop after so many epochs without a better one; 0 never stops.
            where: Name of the round, for errors.
        """
        context, task = self._context, self._context.objective.task
        train, val = self._data, self._data
        if self._gate is None:
            val = focused(val, task, "val")
            if context.objective.teacher is None and self._extra_loss is None:
                train = focused(train, task, "train")
        best = _Best()
        live = LiveChannels(context.model).under(self._weight_mask)
        with seeded(self._seed), fast_dropout(context.model), live:
            steps = context.progress.loop("soft masks", epochs, self._parts(best))
            for epoch in steps:
                for _ in range(task.num_batches(train)):
                    self._step(train, f"{where} epoch {epoch}")
                out = predict(task, context.model, val, self._factors(val))
                metric = validation_metric(task, out, val, f"{where} epoch {epoch}")
                if metric > best.metric:
                    edges, weights = self._scores()
                    best.epoch, best.metric, best.edges, best.weights = (
                        epoch, metric, edges, weights,
                    )  # fmt: skip
                if patience and epoch - best.epoch >= patience:
                    steps.finish()
                    break
        device = context.groups.index.device
        edges = None if best.edges is None else best.edges.to(device)
        weights = to_device_of(best.weights, self._masks)
        return SoftScores(edges, weights, best.metric, steps.done)

    def _soft(self, keep: Tensor, dtype: torch.dtype) -> nn.Parameter:
        noise = 2 * torch.rand(keep.shape, generator=self._generator) - 1
        return nn.Parameter((keep * (1 + NOISE * noise.to(keep.device))).to(dtype))

    def _trained(self) -> list[nn.Parameter]:
        held = {id(parameter) for parameter in self._products.values()}
        others = [
            parameter
            for parameter in self._context.model.parameters()
            if parameter.requires_grad and id(parameter) not in held
        ]
        gates = [] if self._gate is None else [self._gate]
        return [*self._weights.values(), *self._masks.values(), *others, *gates]

    def _factors(self, data: Data) -> Tensor | None:
        gate = None if self._gate is None else self._gate.abs().clamp_min(FLOOR)
        return edge_factors(self._context.groups, gate, data)

    def _step(self, data: Data, where: str) -> None:
        context, task = self._context, self._context.objective.task
        context.model.train()
        batch = task.batch(data, self._generator)
        out = task.forward(context.model, batch, self._factors(batch))
        loss = context.objective(out, batch)
        if self._extra_loss is not None:
            loss = loss + self._extra_loss(out)
        check_finite(loss, self._optimizer, where)
        self._optimizer.zero_grad()
        for product in self._products.values():
            product.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        self._split_gradients()
        self._optimizer.step()
        self._multiply()

    @torch.no_grad()
    def _split_gradients(self) -> None:
        settings = self._context.settings
        for name, product in self._products.items():
            weight, mask = self._weights[name], self._masks[name]
            gradient = torch.zeros_like(product) if product.grad is None else product.grad
            weight.grad = gradient * mask
            mask.grad = (gradient * weight).add_(mask.sign(), alpha=settings.weight_l1)
        if self._gate is not None and self._gate.grad is not None:
            self._gate.grad.add_(self._gate.sign(), alpha=settings.edge_l1)

    @torch.no_grad()
    def _multiply(self) -> None:
        if self._gate is not None and self._clamp:
            self._gate.clamp_(0, 1)
        for name, product in self._products.items():
            torch.mul(self._weights[name], self._masks[name], out=product)

    def _scores(self) -> tuple[Tensor | None, dict[str, Tensor]]:
        edges = None if self._gate is None else self._gate.detach().abs().clone()
        return edges, {name: mask.detach().abs().clone() for name, mask in self._masks.items()}

    def _parts(self, best: _Best) -> dict[str, Any]:
        """What the training changes; the model holds the products."""
        context = self._context
        factors = {f"weight {name}": each for name, each in self._weights.items()}
        factors |= {f"mask {name}": each for name, each in self._masks.items()}
        factors |= {} if self._gate is None else {"gate": self._gate}
        random = {"generator": self._generator, "context": context.generator}
        random |= stateful(task=context.objective.task)
        kept = {"model": context.model, "optimizer": self._optimizer, "best": best}
        return {**kept, **factors, **random}
