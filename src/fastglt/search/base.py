"""The contract of a search method, and the registry.

To add a method, write a file with a subclass of :class:`SearchMethod`, decorate it with
:func:`register` and enter it in :data:`fastglt.search.METHOD_MODULES`.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.errors import UnknownNameError
from fastglt.masks import EdgeGroups, EdgeMask, WeightMask
from fastglt.search import METHOD_MODULES
from fastglt.settings import Settings
from fastglt.training.callback import Callback
from fastglt.training.teacher import Objective


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
    """

    model: nn.Module
    data: Data
    groups: EdgeGroups
    objective: Objective
    settings: Settings
    pretrained: bool
    generator: torch.Generator
    callback: Callback


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
    """

    edge_mask: EdgeMask
    weight_mask: WeightMask
    epochs: float
    state: dict[str, Tensor]
    history: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)


class SearchMethod(ABC):
    """A way to find masks of the sparsities that the settings ask for."""

    name: ClassVar[str]

    @abstractmethod
    def search(self, context: SearchContext) -> SearchResult:
        """Return masks with exactly the asked number of components."""


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
    if name not in _METHODS and name in METHOD_MODULES:
        importlib.import_module(f"fastglt.search.{METHOD_MODULES[name]}")
    if name not in _METHODS:
        raise UnknownNameError("method", name, {*METHOD_MODULES, *_METHODS})
    return _METHODS[name]()
