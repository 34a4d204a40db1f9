"""One denoising event: which components are dropped and which are regrown."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fastglt import scores
from fastglt.allocation import GLOBAL, LIVE, allocate, allocate_live, cut_weights, shrink
from fastglt.errors import BudgetError, InputError
from fastglt.gating import WeightGate
from fastglt.masks import (
    FREE,
    ChannelGroup,
    EdgeGroups,
    EdgeMask,
    Pattern,
    WeightMask,
    check_sparsity,
    num_removed,
    select_top,
    swap,
)
from fastglt.training.states import check_like, to_device_of

Scores = dict[str, Tensor]


class WeightDenoiser:
    """Drops weights by magnitude and regrows them by the gradient of the last steps.

    Regrown weights start from 0 (FastGLT, arXiv 2412.07605; RigL, arXiv 1911.11134).

    Args:
        parameters: The prunable parameters by name.
        optimizer: The optimizer that trains them.
        sparsity: Sparsity of the one-shot cut.
        allocation: Rule that shares the budget among layers.
        channels: The model's hidden channels.
        by_channel: What turns scores by parameter name into those that count.
        pattern: Which weights may be kept together.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        sparsity: float,
        allocation: str,
        channels: Collection[ChannelGroup] = (),
        by_channel: Callable[[Scores], Scores] = dict,
        pattern: Pattern = FREE,
    ) -> None:
        self._parameters = dict(parameters)
        self._allocation, self._channels, self._by_channel = allocation, channels, by_channel
        self._pattern = pattern
        magnitude = by_channel(scores.magnitude(self._parameters))
        mask, self._counts = cut_weights(magnitude, sparsity, allocation, pattern)
        self._gate = WeightGate(self._parameters, optimizer, mask)
        self._gradients: dict[str, Tensor] = {}

    @property
    def mask(self) -> WeightMask:
        """The current mask."""
        return self._gate.mask

    def accumulate(self) -> None:
        """Add the current gradients to those that the next swap regrows by."""
        for name, parameter in self._parameters.items():
            if parameter.grad is None:
                continue
            if name in self._gradients:
                self._gradients[name] += parameter.grad
            else:
                self._gradients[name] = parameter.grad.clone()

    def swap(self, share: float, sparsity: float) -> int:
        """Swap ``share`` of each layer's kept weights; return how many were regrown."""
        if share > 0 and not self._gradients:
            raise InputError(
                "weights are regrown by their gradients, but the parameters hold none: call "
                "step() after optimizer.step() and before the next zero_grad()"
            )
        self._counts = self._next_counts(sparsity)
        none = {name: torch.zeros_like(weight) for name, weight in self._parameters.items()}
        magnitude = self._by_channel(scores.magnitude(self._parameters))
        gradient = self._by_channel(scores.magnitude(none | self._gradients))
        masks = {
            name: self._pattern.swap(
                mask, magnitude[name], gradient[name], share, self._counts[name]
            )
            for name, mask in self.mask.items()
        }
        grown = sum(int((masks[name] & ~self.mask[name]).sum()) for name in masks)
        self._gate.update(WeightMask(masks))
        self._gradients = {}
        return grown

    def remove(self) -> None:
        """Stop enforcing the mask."""
        self._gate.remove()

    def state_dict(self) -> dict[str, Any]:
        """Masks, budgets and accumulated gradients."""
        return {
            "mask": dict(self.mask),
            "counts": dict(self._counts),
            "gradients": dict(self._gradients),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo :meth:`state_dict`; weights and optimizer must be as they were then.

        Raises:
            InputError: If the state is of other weights.
        """
        mask, gradients = state["mask"], state["gradients"]
        check_like(mask, self.mask)
        check_like(gradients, {name: self._parameters[name] for name in gradients})
        self._gate.restore(WeightMask(to_device_of(mask, self._parameters)))
        self._gradients = to_device_of(gradients, self._parameters)
        self._counts = {name: int(state["counts"][name]) for name in self._counts}

    def _next_counts(self, sparsity: float) -> dict[str, int]:
        if self._allocation == LIVE:
            return allocate_live(self.mask, self._channels, sparsity, self._pattern)
        shapes = {name: parameter.shape for name, parameter in self._parameters.items()}
        if self._allocation == GLOBAL:
            total = self.mask.num_weights
            return shrink(self._counts, total - num_removed(total, sparsity))
        return allocate(shapes, sparsity, self._allocation, self._pattern)


class EdgeDenoiser:
    """Drops and regrows edge groups by their scores.

    Args:
        groups: The graph's edge groups.
        sparsity: Sparsity of the one-shot cut.
        score: ``[num_groups]`` scores of the one-shot cut, higher = keep.
        gate: ``[num_groups]`` trained gates, if there are any: they are 0 where pruned, and
            regrown ones start from the mean of the kept ones.
        optimizer: The optimizer that trains the gates.
    """

    def __init__(
        self,
        groups: EdgeGroups,
        sparsity: float,
        score: Tensor,
        gate: nn.Parameter | None = None,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        self._groups = groups
        self._gate = gate
        self._optimizer = optimizer
        keep = select_top(score, num_kept_groups(groups, sparsity))
        self.mask = EdgeMask(groups, keep)
        self._hook: WeightGate | None = None
        if gate is not None and optimizer is not None:
            self._hook = WeightGate({"gate": gate}, optimizer, WeightMask({"gate": keep}))

    def swap(self, share: float, sparsity: float, drop: Tensor, grow: Tensor) -> int:
        """Swap ``share`` of the kept groups; return how many were regrown."""
        target = num_kept_groups(self._groups, sparsity)
        keep = swap(self.mask.keep, drop, grow, share, target)
        grown = keep & ~self.mask.keep
        if self._hook is not None and self._gate is not None:
            mean = self._gate.detach()[self.mask.keep].mean()
            self._hook.update(WeightMask({"gate": keep}))
            with torch.no_grad():
                self._gate.masked_fill_(grown, float(mean))
        self.mask = EdgeMask(self._groups, keep)
        return int(grown.sum())

    def state_dict(self) -> dict[str, Any]:
        """The mask."""
        return {"keep": self.mask.keep}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo :meth:`state_dict`; gates and optimizer must be as they were then.

        Raises:
            InputError: If the state is of another graph.
        """
        check_like(state, self.state_dict())
        self.mask = EdgeMask(self._groups, state["keep"].to(self.mask.keep.device))
        if self._hook is not None:
            self._hook.restore(WeightMask({"gate": self.mask.keep}))

    def remove(self) -> None:
        """Stop enforcing the mask on the gates."""
        if self._hook is not None:
            self._hook.remove()


def num_kept_groups(groups: EdgeGroups, sparsity: float) -> int:
    """Number of edge groups that a sparsity keeps.

    Raises:
        BudgetError: If none would be kept although there are some.
    """
    check_sparsity(sparsity, "edge_sparsity")
    kept = groups.num_groups - num_removed(groups.num_groups, sparsity)
    if kept == 0 and groups.num_groups > 0:
        raise BudgetError(
            f"edge_sparsity {sparsity} leaves the graph without any of its {groups.num_groups} "
            "prunable edge groups; choose a lower edge_sparsity"
        )
    return kept
