"""What a search method is given, made of small parts."""

from __future__ import annotations

import torch

from fastglt.masks import EdgeGroups
from fastglt.search.base import SearchContext, get_method
from fastglt.search.presets import resolve_settings
from fastglt.training.callback import Callback
from fastglt.training.task import Task
from fastglt.training.tasks import NodeClassification
from fastglt.training.teacher import Objective
from helpers import TINY, build, graph


class Listener(Callback):
    """Remembers what it is told."""

    def __init__(self):
        self.phases, self.steps, self.metrics = [], [], []

    def on_phase_start(self, phase, total):
        self.phases.append((phase, total))

    def on_step(self, phase, step, val_metric):
        self.steps.append((phase, step))
        self.metrics.append(val_metric)

    def on_phase_end(self, phase):
        self.phases.append((phase, "end"))


class Scripted(NodeClassification):
    """Its validation metric follows a script; once that ends, the last value stays."""

    def __init__(self, metrics):
        super().__init__()
        self.metrics, self.calls = metrics, 0

    def metric(self, out, data, split):
        assert split == "val"
        self.calls += 1
        return self.metrics[min(self.calls, len(self.metrics)) - 1]


def new_context(
    data=None, model="gcn", *, pretrained=False, objective=None, narrow=None, **settings
) -> SearchContext:
    """The context of a tiny search, by default of 29 % edge and 80 % weight sparsity.

    Args:
        data: The graph.
        model: A module, or the name of one of :data:`helpers.MODELS`.
        pretrained: Whether the model is trained already.
        objective: The loss, or the task that it is of.
        narrow: Makes a narrower model.
        settings: Those that differ.
    """
    data = data if data is not None else graph()
    objective = objective or NodeClassification()
    chosen = TINY | {"edge_sparsity": 0.29, "weight_sparsity": 0.8} | settings
    return SearchContext(
        build(model, data) if isinstance(model, str) else model,
        data,
        EdgeGroups.of(data),
        Objective(objective) if isinstance(objective, Task) else objective,
        resolve_settings(chosen),
        pretrained,
        torch.Generator().manual_seed(chosen.get("seed", 0)),
        Listener(),
        narrow,
    )


def search_with(method, **more):
    """The context of a search by that method, and what it found."""
    context = new_context(method=method, **more)
    return context, get_method(method).search(context)
