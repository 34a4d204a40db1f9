"""Gradual denoising around anyone's training loop."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt import scores
from fastglt.data.forms import to_edge_index
from fastglt.data.validate import check_edges
from fastglt.errors import BudgetError, InputError
from fastglt.gating import (
    check_model,
    check_rows,
    gate_gradient,
    mean_over_groups,
    prunable_weights,
    unit_gates,
)
from fastglt.masks import (
    ChannelGroup,
    EdgeGroups,
    EdgeMask,
    WeightMask,
    check_sparsity,
    parse_pattern,
)
from fastglt.schedules import SWAP_FRACTIONS, warmup_sparsity
from fastglt.search.events import MaskSnapshot, overlap
from fastglt.search.swap import EdgeDenoiser, WeightDenoiser
from fastglt.settings import DenoiseConfig, num_events
from fastglt.ticket import Ticket
from fastglt.training.known_graph import kept_view
from fastglt.training.loop import clone_state, initial_state
from fastglt.training.swap_event import SwapEvent

ScoreFunction = Callable[[Tensor, Tensor], Tensor]
"""``score(edge_index, edge_weight)`` on the whole graph returns a scalar loss whose gradient with
respect to ``edge_weight`` scores the edges, or ``[num_edges]`` or ``[num_groups]`` scores, higher =
keep."""
Metric = float | Callable[[], float]


class Denoiser:
    """One-shot cut, then gradual denoising, around a training loop of the caller's.

    Creating it cuts the model's weights by magnitude and the graph's edges by ``edge_score``.
    Each call of :meth:`step` after an optimizer step counts one step; every ``config.interval``
    steps a share of the kept components that shrinks to 0 is swapped for pruned ones.

    Example::

        pruner = fastglt.Denoiser(model, optimizer, data, edge_sparsity=0.5, steps=150)
        for _ in range(150):
            loss = criterion(model(data.x, pruner.edge_index), ...)
            optimizer.zero_grad(); loss.backward(); optimizer.step()
            pruner.step(score=lambda edge_index, edge_weight: ..., metric=validate)
        ticket = pruner.ticket()

    Args:
        model: The model; its pruned weights are held at 0 from now on. One with lazy parameters
            has to be run once before.
        optimizer: The optimizer that holds the model's parameters.
        data: The graph; it is not changed.
        steps: Number of training steps that denoising takes.
        edge_sparsity: Share of the prunable edge groups to remove, in ``[0, 1)``.
        weight_sparsity: Share of the prunable weights to remove, in ``[0, 1)``.
        config: Interval, allocation and the rest of the schedule.
        init: The initial state dict to rewind to; ``None`` takes the model's state as it is now.
        edge_score: ``[num_edges]`` or ``[num_groups]`` scores for the one-shot cut of the edges,
            higher = keep; ``None`` cuts by degree. The edges of a group are averaged.
        edge_gate: ``[num_groups]`` trained gates that are in ``optimizer``: edges are then
            dropped by ``|gate|`` instead of by the gradient of unit gates.
        groups: The graph's edge groups, where they are known already; finding them takes seconds
            on tens of millions of edges.
        channels: The model's hidden channels, see :func:`fastglt.gating.channel_groups`; without
            them ``config.channel_power`` is of no account.

    Raises:
        BudgetError: If a sparsity is out of range or leaves a layer or the graph empty.
        InputError: If another argument cannot be used, or ``groups`` are of another graph.
        ModelError: If the model cannot be searched, see :func:`fastglt.gating.check_model`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        data: Data,
        *,
        steps: int,
        edge_sparsity: float = 0.0,
        weight_sparsity: float = 0.0,
        config: DenoiseConfig | None = None,
        init: Mapping[str, Tensor] | None = None,
        edge_score: Tensor | None = None,
        edge_gate: nn.Parameter | None = None,
        groups: EdgeGroups | None = None,
        channels: Collection[ChannelGroup] = (),
    ) -> None:
        self.config = config or DenoiseConfig()
        check_model(model, self.config.include, self.config.exclude)
        data = to_edge_index(data)
        check_edges(data, data.num_nodes)
        _check_steps(steps, self.config)
        weights = prunable_weights(model, self.config.include, self.config.exclude)
        _check_optimizer(weights, optimizer)
        if self.config.weight_pattern != "none":
            check_rows(model, weights)
        self.steps = steps
        self._targets = (
            check_sparsity(edge_sparsity, "edge_sparsity"),
            check_sparsity(weight_sparsity, "weight_sparsity"),
        )
        self._model = model
        self._data = data
        self._init = initial_state(model, init)
        self.groups = EdgeGroups.of(data) if groups is None else _checked_groups(groups, data)
        start = self._sparsity_after(0)
        self._edges = EdgeDenoiser(
            self.groups, start[0], self._initial_score(edge_score), edge_gate, optimizer
        )
        by_channel = partial(
            scores.by_channel,
            weights=dict(model.named_parameters()),
            groups=channels,
            power=self.config.channel_power,
            most=math.pow(1 - self._targets[1], -self.config.channel_cap),
        )
        self._weights = WeightDenoiser(
            weights,
            optimizer,
            start[1],
            self.config.allocation,
            channels,
            by_channel,
            parse_pattern(self.config.weight_pattern),
        )
        self._edge_gate = edge_gate
        self._one_shot = (self._edges.mask, self._weights.mask)
        self._num_steps = 0
        self._num_events = 0
        self._best: MaskSnapshot | None = None
        self._warned = False
        self._view: Data | None = None
        self.history: list[SwapEvent] = []

    @property
    def edge_mask(self) -> EdgeMask:
        """The current edge mask."""
        return self._edges.mask

    @property
    def weight_mask(self) -> WeightMask:
        """The current weight mask."""
        return self._weights.mask

    @property
    def data(self) -> Data:
        """The graph with the kept edges only; nodes keep their numbers."""
        if self._view is None:
            self._view = kept_view(self._data, self.edge_mask.edges)
        return self._view

    @property
    def edge_index(self) -> Tensor:
        """``[2, num_kept_edges]``, the kept edges in their given order."""
        edge_index: Tensor = self.data.edge_index
        return edge_index

    @property
    def due(self) -> bool:
        """Whether the next :meth:`step` uses ``score`` and evaluates a callable ``metric``."""
        step = self._num_steps + 1
        return step % self.config.interval == 0 or step == self.steps

    @property
    def num_steps(self) -> int:
        """How many steps have been counted."""
        return self._num_steps

    @property
    def converged(self) -> bool:
        """Whether the last event swapped nothing at the target sparsity.

        No later one will, since the share that is swapped only falls.
        """
        if not self.history or not self._at_target():
            return False
        return self.history[-1].edges_swapped == self.history[-1].weights_swapped == 0

    @property
    def events_since_best(self) -> int:
        """Swaps after the one that the best masks at the target sparsity were offered at.

        0 while there are none.
        """
        if self._best is None:
            return 0
        return sum(event.step > self._best.step for event in self.history)

    @property
    def reads_gradients(self) -> bool:
        """Whether the next :meth:`step` reads the gradients of pruned weights, to regrow some."""
        step, interval = self._num_steps + 1, self.config.interval
        to_swap = -step % interval
        has_swap = step + to_swap < self.steps
        return self._targets[1] > 0 and has_swap and to_swap < self.config.accumulation

    def step(
        self, score: ScoreFunction | None = None, metric: Metric | None = None
    ) -> SwapEvent | None:
        """Count one training step; swap if it is time.

        Call it after ``optimizer.step()`` and before the next ``zero_grad()``: weights are regrown
        by the gradients that the parameters hold.

        Args:
            score: Called as ``score(edge_index, edge_weight)`` with the whole graph on steps that
                swap edges. Returns a scalar loss, whose gradient then says which edges help, or
                ``[num_edges]`` or ``[num_groups]`` scores, higher = keep. Without it edges are
                chosen by degree alone.
            metric: Validation metric of the current masks, higher = better, or a function that
                computes it, called only where :attr:`due`. The best masks at the target sparsity
                are kept; without it the last ones.

        Returns:
            The event, if components were swapped.

        Raises:
            InputError: If called more than ``steps`` times or with a metric that is NaN.
        """
        if self._num_steps >= self.steps:
            raise InputError(f"step() was called more than steps={self.steps} times")
        due = self.due
        if self.reads_gradients:
            self._weights.accumulate()
        self._num_steps += 1
        value = metric() if callable(metric) and due else metric
        number = None if callable(value) or value is None else float(value)
        if number is not None:
            self._offer(number)
        if self._num_steps % self.config.interval == 0 and self._num_steps < self.steps:
            return self._swap(score, number)
        return None

    def best(self) -> MaskSnapshot:
        """The masks with the best metric at the target sparsity, else the current ones."""
        if self._best is not None:
            return self._best
        return self._snapshot(math.nan)

    def detach(self) -> None:
        """Stop holding pruned weights at 0, e.g. to train the model densely again."""
        self._edges.remove()
        self._weights.remove()

    def state_dict(self) -> dict[str, Any]:
        """Masks, counters, history and the best masks, as tensors and what JSON has.

        With the states of model, optimizer and random generators a loop can be gone on with.
        """
        return {
            "steps": self._num_steps,
            "events": self._num_events,
            "edges": self._edges.state_dict(),
            "weights": self._weights.state_dict(),
            "best": None if self._best is None else self._best.state_dict(),
            "history": [asdict(event) for event in self.history],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo :meth:`state_dict`, in a denoiser that was made in the same way.

        The states of model and optimizer must have been loaded before.

        Raises:
            InputError: If the state is of another model or graph, or of more steps.
        """
        if not 0 <= state["steps"] <= self.steps:
            raise InputError(
                f"a state must be of at most {self.steps} steps (got {state['steps']})"
            )
        self._num_steps, self._num_events = int(state["steps"]), int(state["events"])
        self._edges.load_state_dict(state["edges"])
        self._weights.load_state_dict(state["weights"])
        self._view = None
        best = state["best"]
        like = None if best is None else self._snapshot(math.nan)
        self._best = None if like is None else MaskSnapshot.of_state_dict(best, like)
        self.history = [SwapEvent(**event) for event in state["history"]]

    def ticket(self) -> Ticket:
        """The ticket of the best masks, with the weights that reached the metric.

        Raises:
            BudgetError: If sparsity warm-up has not reached the target yet.
        """
        if not self._at_target():
            raise BudgetError(
                "the masks have not reached the target sparsity yet: let the loop run for more "
                f"steps or lower warmup_events (got {self.config.warmup_events})"
            )
        best = self.best()
        metrics = {
            "edge_sparsity": best.edge_mask.sparsity,
            "weight_sparsity": best.weight_mask.sparsity,
        }
        if self._best is not None:
            metrics["val_search"] = best.metric
        return Ticket.create(
            self._model,
            self._data,
            edge_keep=best.edge_mask.edges,
            weight_masks=dict(best.weight_mask),
            init_state=self._init,
            trained_state=best.state,
            metrics=metrics,
            settings={"method": "denoiser", "steps": self.steps}
            | {"edge_sparsity": self._targets[0], "weight_sparsity": self._targets[1]}
            | self.config.model_dump(),
            history=[asdict(event) for event in self.history],
        )

    def _initial_score(self, edge_score: Tensor | None) -> Tensor:
        if edge_score is None:
            return scores.unit_gate(None, self.groups, EdgeMask.full(self.groups).keep)
        given = self._of_groups(_checked_scores(edge_score.detach(), "edge_score"))
        if given is None:
            raise InputError(
                f"edge_score must have shape {self._score_shapes()} (got {list(edge_score.shape)})"
            )
        return given

    def _of_groups(self, score: Tensor) -> Tensor | None:
        """``[num_groups]`` of scores of groups or edges; ``None`` if they are neither."""
        if score.shape == (self.groups.num_groups,):
            return score
        if score.shape == (self.groups.num_edges,):
            return mean_over_groups(score, self.groups)
        return None

    def _score_shapes(self) -> str:
        return (
            f"[{self.groups.num_edges}], one score an edge, or [{self.groups.num_groups}], one a "
            "group of edges"
        )

    def _sparsity_after(self, event: int) -> tuple[float, float]:
        edges, weights = (
            warmup_sparsity(
                event,
                self.config.warmup_events,
                target,
                self.config.warmup_start,
                self.config.warmup_schedule,
            )
            for target in self._targets
        )
        return edges, weights

    def _at_target(self) -> bool:
        return self._num_events >= self.config.warmup_events

    def _offer(self, metric: float) -> None:
        if math.isnan(metric):
            raise InputError("metric must be a number (got nan)")
        if self._at_target() and (self._best is None or metric > self._best.metric):
            self._best = self._snapshot(metric)

    def _snapshot(self, metric: float) -> MaskSnapshot:
        state = clone_state(self._model)
        return MaskSnapshot(self._num_steps, metric, self.edge_mask, self.weight_mask, state)

    def _swap(self, score: ScoreFunction | None, metric: float | None) -> SwapEvent:
        self._num_events += 1
        schedule = SWAP_FRACTIONS[self.config.swap_schedule]
        share = schedule(self._num_steps, self.steps, self.config.alpha)
        edge_sparsity, weight_sparsity = self._sparsity_after(self._num_events)
        edges_swapped = weights_swapped = 0
        if self._targets[0] > 0:
            drop, grow = self._edge_scores(score)
            edges_swapped = self._edges.swap(share, edge_sparsity, drop, grow)
            self._view = None
        if self._targets[1] > 0:
            weights_swapped = self._weights.swap(share, weight_sparsity)
        event = SwapEvent(
            self._num_steps,
            share,
            edges_swapped,
            weights_swapped,
            self.edge_mask.sparsity,
            self.weight_mask.sparsity,
            overlap([(self.edge_mask.keep, self._one_shot[0].keep)]),
            overlap((self.weight_mask[name], old) for name, old in self._one_shot[1].items()),
            metric,
        )
        self.history.append(event)
        return event

    def _edge_scores(self, score: ScoreFunction | None) -> tuple[Tensor, Tensor]:
        keep = self.edge_mask.keep
        if score is None:
            if not self._warned:
                warnings.warn(_NO_SCORE, stacklevel=4)
                self._warned = True
            by_degree = scores.unit_gate(None, self.groups, keep)
            return by_degree, by_degree
        gate = unit_gates(self.groups, keep)
        with torch.enable_grad():
            value = score(self._data.edge_index, gate)
        if not isinstance(value, Tensor):
            raise InputError(f"score must return a tensor (got {type(value).__name__})")
        value = _checked_scores(value, "score")
        given = self._of_groups(value.detach())
        if given is not None:
            return given, given
        if value.numel() != 1:
            raise InputError(
                f"score must return a scalar loss, or a tensor of shape {self._score_shapes()} "
                f"(got {list(value.shape)})"
            )
        gradient = gate_gradient(value, gate, self.groups)
        if self._edge_gate is not None:
            return scores.trained_gate(self._edge_gate, gradient, self.groups, keep)
        combined = scores.unit_gate(gradient, self.groups, keep)
        return combined, combined


def _checked_groups(groups: EdgeGroups, data: Data) -> EdgeGroups:
    if (groups.num_edges, groups.num_nodes) != (data.num_edges, data.num_nodes):
        raise InputError(
            f"groups must be those of data, with {data.num_edges} edges and {data.num_nodes} nodes "
            f"(got {groups.num_edges} and {groups.num_nodes})"
        )
    return groups


def _check_steps(steps: int, config: DenoiseConfig) -> None:
    if not isinstance(steps, int) or steps < 0:
        raise InputError(f"steps must be a whole number of at least 0 (got {steps!r})")
    events = num_events(steps, config.interval)
    if config.warmup_events > events:
        raise InputError(
            f"warmup_events must be at most {events}, the swaps of {steps} steps at interval "
            f"{config.interval} (got {config.warmup_events})"
        )


def _check_optimizer(weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in weights.items():
        if id(parameter) not in held:
            raise InputError(
                f"the optimizer does not hold the model's parameter {name!r}, so its pruned "
                "weights could not be kept at 0; pass one optimizer with all prunable weights"
            )


def _checked_scores(value: Tensor, name: str) -> Tensor:
    if bool(value.detach().isnan().any()):
        raise InputError(f"{name} must not hold NaN (got {int(value.isnan().sum())} NaN values)")
    return value


_NO_SCORE = (
    "step() was given no score=, so edges are dropped and regrown by degree alone; pass a loss on "
    "the whole graph to choose them by what they are worth"
)
