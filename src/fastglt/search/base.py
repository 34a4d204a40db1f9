"""The contract of a search method, and the registry.

To add a method, write a file with a subclass of :class:`SearchMethod`, decorate it with
:func:`register` and enter it in :data:`fastglt.search.METHODS`.
"""

from __future__ import annotations

import copy
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.allocation import cut_weights
from fastglt.errors import UnknownNameError
from fastglt.gating import prunable_weights
from fastglt.masks import ChannelGroup, EdgeGroups, EdgeMask, WeightMask, parse_pattern
from fastglt.search import METHODS
from fastglt.settings import Settings
from fastglt.training.callback import Callback
from fastglt.training.loop import Augment
from fastglt.training.progress import NO_CHECKPOINT, Progress
from fastglt.training.teacher import Objective

Narrow = Callable[[int], nn.Module]
"""``narrow(width)`` makes the model of a width, from 1, with weights of torch's global random
state. The number of weights must rise with the width."""


@dataclass(frozen=True)
class SearchContext:
    """Everything that a method may use.

    Attributes:
        model: A private copy of the model, at the weights to start from. May be trained freely.
        data: The whole graph. The test nodes are not to be looked at.
        groups: Its edge groups.
        objective: Training loss (with the teacher's part) and task.
        settings: All settings.
        pretrained: Whether ``model`` is trained already, so that pre-training is left out.
        generator: Seeded source of randomness.
        callback: To be told of every step.
        narrow: Makes a narrower model, see :func:`fastglt.find`, if there is a way.
        channels: Finds the model's hidden channels.
        reference: The teacher as it is, before its predictions were propagated, or the dense model
            where none guides; ``None`` where that has seen more of the graph than the search may.
        another: Makes a copy of the model that was never trained, since some convs (SuperGATConv)
            cannot be copied afterwards.
        labelled: Share of the nodes that have a label to train on, where a teacher speaks of the
            others; 1 where none guides.
        progress: Records the loops, so that a search can be resumed.
    """

    model: nn.Module
    data: Data
    groups: EdgeGroups
    objective: Objective
    settings: Settings
    pretrained: bool
    generator: torch.Generator
    callback: Callback
    narrow: Narrow | None = None
    channels: Callable[[], Collection[ChannelGroup]] = tuple
    reference: Objective | None = None
    another: Callable[[], nn.Module] | None = None
    labelled: float = 1.0
    progress: Progress = NO_CHECKPOINT

    def weight_decay(self, density: float = 1.0) -> float:
        """Weight decay of a model that keeps that share of the prunable weights."""
        return self.settings.weight_decay_at(density, self.labelled)

    def another_model(self) -> nn.Module:
        """A copy of the model with the weights that it has now, which may be trained already."""
        result = copy.deepcopy(self.model) if self.another is None else self.another()
        result.load_state_dict(self.model.state_dict())
        return result


@dataclass(frozen=True)
class SearchResult:
    """What a method found.

    Attributes:
        edge_mask: Kept edge groups.
        weight_mask: Kept weights.
        epochs: Training epochs that the search took: steps, divided by the task's
            :meth:`fastglt.Task.num_batches`.
        state: State dict that goes with the masks, for recovery by fine-tuning.
        history: JSON-able events of the search.
        metrics: Further JSON-able figures.
        notes: What someone should know who reads the figures, one sentence each.
        start: State dict to retrain from in place of the initial one.
        model: The model to retrain in place of the one that was searched.
        augment: What becomes of the graph in each training step of the retraining.
    """

    edge_mask: EdgeMask
    weight_mask: WeightMask
    epochs: float
    state: dict[str, Tensor]
    history: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    start: dict[str, Tensor] | None = None
    model: nn.Module | None = None
    augment: Augment | None = None


class SearchMethod(ABC):
    """A way to find masks of the sparsities that the settings ask for."""

    name: ClassVar[str]

    @abstractmethod
    def search(self, context: SearchContext) -> SearchResult:
        """Return masks with exactly the asked number of components."""


def full_masks(context: SearchContext, model: nn.Module) -> tuple[EdgeMask, WeightMask]:
    """Masks that keep every edge of the context's graph and every prunable weight of a model."""
    settings = context.settings
    weights = prunable_weights(model, settings.include, settings.exclude)
    return EdgeMask.full(context.groups), WeightMask.full(weights)


def cut_as_asked(weight_scores: Mapping[str, Tensor], settings: Settings) -> WeightMask:
    """Keep the weights of the highest scores: sparsity, allocation and pattern of the settings.

    Args:
        weight_scores: Parameter name to scores of its shape, higher = keep.
        settings: All settings.

    Raises:
        BudgetError: If a layer would keep no weight, or the pattern cannot hold the budget.
    """
    pattern = parse_pattern(settings.weight_pattern)
    return cut_weights(weight_scores, settings.weight_sparsity, settings.allocation, pattern)[0]


_METHODS: dict[str, type[SearchMethod]] = {}


def register(method: type[SearchMethod]) -> type[SearchMethod]:
    """Class decorator that enters a method under its name.

    Raises:
        ValueError: If the name is taken.
    """
    if method.name in _METHODS:
        raise ValueError(f"search method {method.name!r} is registered already")
    _METHODS[method.name] = method
    return method


def get_method(name: str) -> SearchMethod:
    """The method of that name.

    Raises:
        UnknownNameError: If there is none.
    """
    if name not in _METHODS and name in METHODS:
        importlib.import_module(f"fastglt.search.{METHODS[name].module}")
    if name not in _METHODS:
        raise UnknownNameError("method", name, {*METHODS, *_METHODS})
    return _METHODS[name]()
