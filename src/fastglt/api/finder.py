"""One run of ``find``, stage by stage."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.api.checks import check_budgets, check_model_fits, check_settings
from fastglt.api.macs import macs_on
from fastglt.api.views import Views, inductive, transductive
from fastglt.cost import num_parameters
from fastglt.data.forms import to_edge_index
from fastglt.errors import ModelError
from fastglt.gating import (
    apply_weight_mask,
    check_model,
    initialize_lazy,
    prunable_weights,
    tied_names,
)
from fastglt.masks import EdgeGroups
from fastglt.search.base import SearchContext, SearchResult, get_method
from fastglt.settings import Settings
from fastglt.ticket import Ticket
from fastglt.ticket.edge_rule import KEEP, degree_rule, kept_by_rule
from fastglt.training.callback import Callback
from fastglt.training.inputs import kept_view, with_sparse_inputs
from fastglt.training.loop import Fit, FitConfig, clone_state, fit, initial_state
from fastglt.training.seeding import seeded
from fastglt.training.task import ADJACENCY, Task
from fastglt.training.teacher import Objective, Teacher


@dataclass(frozen=True)
class _Dense:
    """The dense model that everything is compared with."""

    model: nn.Module
    encoded: Tensor
    out: Tensor
    val_metric: float
    epochs: int


class Finder:
    """One run of :func:`fastglt.find`; methods are its stages, in order.

    Args:
        model: The model; it is not changed.
        data: The graph; it is not changed.
        task: What is predicted.
        settings: All settings.
        init: The initial state dict of a trained model.
        callback: Is told of every phase and step.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        task: Task,
        settings: Settings,
        init: Mapping[str, Tensor] | None,
        callback: Callback,
    ) -> None:
        self.start = time.perf_counter()
        self.task, self.settings, self.callback = task, settings, callback
        num_outputs = task.validate(data)
        get_method(settings.method)
        self.pretrained = init is not None or settings.recover == "finetune"
        check_settings(settings, task, data, self.pretrained)
        self.plain = to_edge_index(data)
        check_model_fits(model, self.plain, task, settings)
        whole = task.prepare(self.plain)
        self.model = self._own_copy(model, whole)
        # Never trained itself: some convs (SuperGATConv) keep tensors of a training step, after
        # which they cannot be copied.
        self.untrained = copy.deepcopy(self.model)
        self.init_state = clone_state(self.model) if init is None else initial_state(model, init)
        _check_call(self.model, task, whole, num_outputs)
        self.views = self._views(whole)
        self.groups = EdgeGroups.of(self.views.search)
        self.notes = self._notes()
        weights = prunable_weights(self.model, settings.include, settings.exclude)
        check_budgets(weights, self.groups, settings)
        self.edge_rule = self._edge_rule()
        self.seconds: dict[str, float] = {}

    def run(self) -> Ticket:
        """All stages."""
        with self._timed("dense"):
            dense = self._train_dense()
        with self._timed("teacher"):
            objective = self._objective(dense)
        with self._timed("search"):
            result = self._search(objective)
        with self._timed("retrain"):
            retrained = self._retrain(objective, result)
        metrics = self._metrics(dense, result, retrained)
        self.seconds["total"] = time.perf_counter() - self.start
        return Ticket.create(
            self.model,
            self.plain,
            edge_keep=self._edge_keep(result),
            weight_masks=dict(result.weight_mask),
            init_state=self.init_state,
            trained_state=retrained.state,
            edge_weight=retrained.edge_weight,
            edge_rule=self.edge_rule,
            metrics=metrics | {"seconds": self.seconds},
            settings=self.settings.model_dump(mode="json") | {"task": self.task.record()},
            history=result.history,
        )

    def _own_copy(self, model: nn.Module, data: Data) -> nn.Module:
        result = copy.deepcopy(model)
        with seeded(self.settings.seed):
            initialize_lazy(result, lambda lazy: self.task.forward(lazy, data))
        check_model(result, self.settings.include, self.settings.exclude)
        return result

    def _views(self, whole: Data) -> Views:
        if not self.settings.inductive:
            return transductive(self._sparse(whole))
        views = inductive(whole, self.settings.holdout, self.settings.seed)
        search = self._sparse(views.search)
        train = copy.copy(search)
        for name in ("train_mask", "val_mask"):
            train[name] = views.train[name]
        return Views(self._sparse(whole), train, search, views.edges)

    def _notes(self) -> list[str]:
        note = self.groups.note
        if note is None or self.settings.edge_sparsity == 0:
            return []
        warnings.warn(note, UserWarning, stacklevel=4)
        return [note]

    def _sparse(self, data: Data) -> Data:
        if not self.settings.sparse_inputs:
            return data
        return with_sparse_inputs(self.model, data, self.task)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start

    def _train_dense(self) -> _Dense:
        epochs = 0
        if not self.pretrained:
            epochs = self._fit_dense(self.views.train, "dense", self.views.whole).epochs
        data = self.views.whole
        encoded, out = self._predict(data)
        val_metric = self.task.metric(out, data, "val")
        return _Dense(self._trained_copy(), encoded, out, val_metric, epochs)

    def _fit_dense(self, data: Data, phase: str, val_data: Data) -> Fit:
        return fit(
            self.model,
            data,
            Objective(self.task),
            self._fit_config(self.settings.dense_epochs),
            seed=self.settings.seed,
            phase=phase,
            val_data=val_data,
            callback=self.callback,
        )

    def _objective(self, dense: _Dense) -> Objective:
        """The loss of search and retraining; an inductive teacher is trained on what it may see."""
        settings = self.settings
        if settings.teacher == "none":
            return Objective(self.task)
        model, encoded = dense.model, dense.encoded
        if self.views.are_inductive:
            self.model.load_state_dict(self.init_state)
            self._fit_dense(self.views.search, "teacher", self.views.search)
            model, encoded = self._trained_copy(), self._predict(self.views.search)[0]
        weight, temperature = settings.teacher_weight, settings.teacher_temperature
        return Objective(self.task, Teacher(encoded, weight, temperature, model.eval()))

    def _search(self, objective: Objective) -> SearchResult:
        if not self.pretrained:
            self.model.load_state_dict(self.init_state)
        context = SearchContext(
            self.model,
            self.views.search,
            self.groups,
            objective,
            self.settings,
            self.pretrained,
            torch.Generator().manual_seed(self.settings.seed),
            self.callback,
        )
        return get_method(self.settings.method).search(context)

    def _retrain(self, objective: Objective, result: SearchResult) -> Fit:
        rewinds = self.settings.recover == "rewind"
        state = self.init_state if rewinds else result.state
        masked = apply_weight_mask(state, result.weight_mask, tied_names(self.model))
        self.model.load_state_dict(masked)
        kept = kept_view(self.views.train, result.edge_mask.edges)
        return fit(
            self.model,
            kept,
            objective,
            self._fit_config(self.settings.retrain_epochs),
            seed=self.settings.seed,
            phase="retrain" if rewinds else "finetune",
            val_data=self._kept_whole(result) if self.views.are_inductive else None,
            mask=result.weight_mask,
            learn_edge_weight=self.settings.edge_values == "learned",
            callback=self.callback,
        )

    def _edge_keep(self, result: SearchResult) -> Tensor:
        whole, unseen = self.views.whole, None
        if self.views.are_inductive:
            unseen = kept_by_rule(self.edge_rule, whole.edge_index, whole.num_nodes)
        return self.views.whole_keep(result.edge_mask.edges, unseen)

    def _edge_rule(self) -> dict[str, Any]:
        """What becomes of edges that the search does not see, made of those that it sees."""
        if self.settings.edge_rule == "keep":
            return dict(KEEP)
        data = self.views.search
        return degree_rule(data.edge_index, data.num_nodes, self.settings.edge_sparsity)

    def _kept_whole(self, result: SearchResult) -> Data:
        return kept_view(self.views.whole, self._edge_keep(result))

    def _metrics(self, dense: _Dense, result: SearchResult, retrained: Fit) -> dict[str, Any]:
        data, kept = self.views.whole, self._kept_whole(result)
        with torch.no_grad():
            self.model.eval()
            out = self.task.forward(self.model, kept, retrained.edge_weight)
        metrics: dict[str, Any] = {
            "metric": self.task.metric_name,
            "edge_sparsity": result.edge_mask.sparsity,
            "weight_sparsity": result.weight_mask.sparsity,
            "val_dense": dense.val_metric,
            "val_ticket": retrained.val_metric,
            "test_dense": None,
            "test_ticket": None,
            "macs_dense": macs_on(self.untrained, self.task, data),
            "macs_ticket": macs_on(self.untrained, self.task, kept, result.weight_mask),
            "params_dense": num_parameters(self.model),
            "params_ticket": num_parameters(self.model, result.weight_mask),
            "edges_dense": data.num_edges,
            "edges_ticket": kept.num_edges,
            "epochs": {"dense": dense.epochs, "search": result.epochs, "retrain": retrained.epochs},
            "best_retrain_epoch": retrained.best_epoch,
            "sparse_inputs": [
                key for key in ("x", ADJACENCY) if data.get(key) is not self.plain.get(key)
            ],
            "notes": self.notes,
        }
        if self.task.has_split(data, "test"):
            metrics["test_dense"] = self.task.metric(dense.out, data, "test")
            metrics["test_ticket"] = self.task.metric(out, data, "test")
        return metrics | result.metrics

    def _trained_copy(self) -> nn.Module:
        result = copy.deepcopy(self.untrained)
        result.load_state_dict(self.model.state_dict())
        return result

    @torch.no_grad()
    def _predict(self, data: Data) -> tuple[Tensor, Tensor]:
        """What the model encodes, and its predictions, in eval mode."""
        self.model.eval()
        encoded = self.task.encode(self.model, data)
        return encoded, self.task.readout(self.model, encoded, data)

    def _fit_config(self, epochs: int) -> FitConfig:
        settings = self.settings
        return FitConfig(epochs, settings.lr, settings.weight_decay, settings.patience)


def _check_call(model: nn.Module, task: Task, data: Data, num_outputs: int) -> None:
    """Call the model once to see that its output is usable."""
    model.eval()
    try:
        with torch.no_grad():
            out = task.forward(model, data)
    except (RuntimeError, TypeError, ValueError) as error:
        x = data.get("x")
        features = "x None" if x is None else f"x {list(x.shape)} of {x.dtype}"
        raise ModelError(
            f"the model failed on {features} and edge_index {list(data.edge_index.shape)}: "
            f"{error}; a model that is called otherwise needs a task of its own, see fastglt.Task"
        ) from error
    task.check_output(out, data, num_outputs)
