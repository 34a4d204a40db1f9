"""One run of ``find``, stage by stage."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.api.checks import check_budgets, check_call, check_model_fits, check_settings
from fastglt.api.edge_rules import learned_rule
from fastglt.api.guide import check_teacher, given_teacher
from fastglt.api.metrics import (
    Dense,
    accuracy_metrics,
    cost_metrics,
    input_notes,
    search_metrics,
)
from fastglt.api.sampled import in_parts
from fastglt.api.views import Views, inductive, transductive
from fastglt.data.forms import to_edge_index
from fastglt.gating import (
    apply_weight_mask,
    channel_groups,
    check_model,
    check_rows,
    initialize_lazy,
    prunable_weights,
    tied_names,
)
from fastglt.masks import ChannelGroup, EdgeGroups
from fastglt.search.base import Narrow, SearchContext, SearchResult, get_method
from fastglt.search.packing import packed_result, unpacked_result
from fastglt.settings import Settings
from fastglt.ticket import Ticket
from fastglt.ticket.edge_rule import KEEP, kept_by_rule, ranked_rule
from fastglt.training.callback import Callback
from fastglt.training.features import Features
from fastglt.training.inputs import probed, with_sparse_inputs
from fastglt.training.known_graph import kept_view
from fastglt.training.loop import Fit, FitConfig, clone_state, fit, initial_state, predict
from fastglt.training.minibatch import MiniBatch
from fastglt.training.parts import LoaderFactory
from fastglt.training.probe import (
    check_follows_edges,
    check_training_output,
    check_uses_edge_weight,
    forward_errors,
)
from fastglt.training.progress import NO_CHECKPOINT, Progress, stateful
from fastglt.training.ranks import Ranks
from fastglt.training.seeding import seeded
from fastglt.training.task import ADJACENCY, Task
from fastglt.training.teacher import (
    Objective,
    Teacher,
    loss_by_propagation,
    propagated,
)

CHANNEL_NODES = 128
"""A model's hidden channels are looked for on so many nodes."""


@dataclass(frozen=True)
class Guide:
    """Who guides search and retraining.

    Attributes:
        teacher: Whose predictions guide, if anyone's.
        reference: The same before its predictions were propagated, or the dense model where nobody
            guides; ``None`` if that has seen more of the graph than the search may.
        epochs: Epochs that a teacher of its own was trained for.
        notes: What someone should know of the teacher.
    """

    teacher: Teacher | None
    reference: Teacher | None
    epochs: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Baseline:
    """What a ticket is compared with and guided by.

    Attributes:
        dense: The dense model.
        guide: Who guides.
        seconds: What it took, by stage.
    """

    dense: Dense
    guide: Guide
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Pruned:
    """What a search found, retrained.

    Attributes:
        baseline: What it is compared with.
        result: The masks.
        keep: ``[num_edges]`` bool, kept edges of the whole graph.
        kept: The graph with these edges only.
        retrained: The retraining.
    """

    baseline: Baseline
    result: SearchResult
    keep: Tensor
    kept: Data
    retrained: Fit


class Finder:
    """One run of :func:`fastglt.find`; methods are its stages, in order.

    Args:
        model: The model; it is not changed.
        data: The graph; it is not changed.
        task: What is predicted.
        settings: All settings.
        init: The initial state dict of a trained model.
        callback: Is told of every phase and step.
        narrow: Makes a narrower model, for the methods that need one.
        teacher: Who guides under ``settings.teacher == "given"``: a trained model, or what
            :meth:`fastglt.Task.encode` would give of one for the whole graph.
        reads_test: Whether the test split is read, once, at the end.
        loader: Makes the batches under ``settings.sampler == "given"``.
        progress: Records the run, so that it can be resumed.

    Attributes:
        predictions: Of the dense model on the whole graph and of the ticket on the kept one, after
            :meth:`run`.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        task: Task,
        settings: Settings,
        init: Mapping[str, Tensor] | None,
        callback: Callback,
        narrow: Narrow | None = None,
        *,
        teacher: nn.Module | Tensor | None = None,
        reads_test: bool = True,
        loader: LoaderFactory | None = None,
        progress: Progress = NO_CHECKPOINT,
    ) -> None:
        self.start = time.perf_counter()
        self.task, self.settings, self.callback = task, settings, callback
        self.narrow, self.reads_test = narrow, reads_test
        self.teacher, self.progress = teacher, progress
        self.predictions: tuple[Tensor, Tensor]
        num_outputs = task.validate(data)
        get_method(settings.method)
        self.pretrained = init is not None or settings.recover == "finetune"
        check_settings(settings, task, data, self.pretrained)
        check_teacher(teacher, settings)
        self.plain = to_edge_index(data)
        check_model_fits(model, self.plain, task, settings)
        whole = task.prepare(self.plain)
        self.model = self._own_copy(model, whole)
        self.whole_task = task
        self.task, of_parts = in_parts(task, self.model, whole, settings, loader)
        task = self.task
        # Never trained itself: some convs (SuperGATConv) keep tensors of a training step, after
        # which they cannot be copied.
        self.untrained = copy.deepcopy(self.model)
        self.pruned = self.untrained  # what is pruned: a search method may put another in its place
        self.init_state = clone_state(self.model) if init is None else initial_state(model, init)
        with forward_errors():
            check_call(self.model, task, whole, num_outputs)
        check_training_output(self.untrained, whole, task, num_outputs)
        ignores_edges = self._check_edges(whole)
        self.views = self._views(whole)
        self.groups = EdgeGroups.of(self.views.search)
        self.notes = [*self._notes(), *ignores_edges, *of_parts]
        weights = prunable_weights(self.model, settings.include, settings.exclude)
        self.num_weights = sum(weight.numel() for weight in weights.values())
        if settings.weight_pattern != "none":
            check_rows(self.model, weights)
        check_budgets(weights, self.groups, settings)
        self.edge_rule = dict(KEEP)
        self.seconds: dict[str, float] = {}

    def run(self) -> Ticket:
        """All stages."""
        return self.ticket(self.prune(self.baseline()))

    def baseline(self) -> Baseline:
        """The dense run and the teacher, which do not depend on what is pruned."""
        with self._timed("dense"):
            dense = self._train_dense()
        with self._timed("teacher"):
            guide = self._guide(dense)
        return Baseline(dense, guide, dict(self.seconds))

    def masks(self, baseline: Baseline) -> SearchResult:
        """Search; nothing is retrained."""
        self.seconds |= baseline.seconds
        self.notes = [*self.notes, *baseline.guide.notes]
        teacher = baseline.guide.teacher
        with self._timed("search"):
            objective = self._objective(teacher, "search")
            result = self.progress.once(
                "search",
                lambda: self._search(objective, baseline.guide.reference),
                parts=stateful(task=self.task),
                pack=packed_result,
                unpack=partial(unpacked_result, self.groups),
            )
            self._adopt(result)
            self.edge_rule = self._edge_rule(result, teacher)
        return result

    def prune(self, baseline: Baseline, result: SearchResult | None = None) -> Pruned:
        """Search, unless :meth:`masks` has, and retrain; the test split is not read."""
        result = self.masks(baseline) if result is None else result
        with self._timed("retrain"):
            keep = self.edge_keep(result)
            kept = kept_view(self.views.whole, keep)
            retrained = self._retrain(
                self._objective(baseline.guide.teacher, "retrain"), result, kept
            )
        return Pruned(baseline, result, keep, kept, retrained)

    def ticket(self, pruned: Pruned) -> Ticket:
        """Measure what the last :meth:`prune` gave, on test too, and write it down."""
        baseline, result, retrained = pruned.baseline, pruned.result, pruned.retrained
        epochs = {
            "dense": baseline.dense.epochs,
            "teacher": baseline.guide.epochs,
            "search": result.epochs,
            "retrain": retrained.epochs,
        }
        metrics = self._metrics(pruned) | {"epochs": epochs}
        earlier = self.progress.earlier_seconds
        self.seconds["total"] = earlier + time.perf_counter() - self.start
        return Ticket.create(
            self.model,
            self.plain,
            edge_keep=pruned.keep,
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
        with seeded(self.settings.seed), forward_errors():
            initialize_lazy(result, lambda lazy: self.task.forward(lazy, data))
        check_model(result, self.settings.include, self.settings.exclude)
        return result

    def _check_edges(self, whole: Data) -> list[str]:
        """Refuse a model that does not go by the edges that it is called with; notes on others."""
        settings = self.settings
        if settings.edge_values == "learned":
            check_uses_edge_weight(self.untrained, whole, self.task)
        if settings.edge_sparsity == 0 and not settings.inductive:
            return []
        note = check_follows_edges(self.untrained, whole, self.task)
        return [] if note is None else [note]

    def _views(self, whole: Data) -> Views:
        self._visible = whole  # to search and teacher, without sparse matrices
        if not self.settings.inductive:
            return transductive(self._sparse(whole))
        views = inductive(whole, self.settings.holdout, self.settings.seed)
        self._visible = views.search
        search = self._sparse(views.search)
        train = copy.copy(search)
        for name in ("train_mask", "val_mask"):
            train[name] = views.train[name]
        return Views(self._sparse(whole), train, search, views.edges)

    def _notes(self) -> list[str]:
        notes = input_notes(self.model, self.plain, self.task, self.settings, self.groups)
        note = self.groups.note
        if note is None or self.settings.edge_sparsity == 0:
            return notes
        warnings.warn(note, UserWarning, stacklevel=5)
        return [note, *notes]

    def _sparse(self, data: Data) -> Data:
        if not self.settings.sparse_inputs:
            return data
        return with_sparse_inputs(self.model, data, self.whole_task)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        with self.progress.timed(stage) as stopwatch:
            yield
        self.seconds[stage] = stopwatch.seconds

    def _train_dense(self) -> Dense:
        epochs = 0
        if not self.pretrained:
            epochs = self._fit_dense(self.views.train, "dense", self.views.whole).epochs
        data = self.views.whole
        encoded, out = self._predict(data)
        val_metric = self.task.metric(out, data, "val")
        return Dense(self._trained_copy(), encoded, out, val_metric, epochs)

    def _fit_dense(self, data: Data, phase: str, val_data: Data, epochs: int | None = None) -> Fit:
        """Train up to the best epoch, or for so many epochs."""
        settings = self.settings
        return fit(
            self.model,
            data,
            Objective(self.task),
            FitConfig(
                settings.dense_epochs if epochs is None else epochs,
                settings.lr,
                settings.weight_decay,
                settings.patience,
                takes_last=epochs is not None,
            ),
            seed=settings.seed,
            phase=phase,
            val_data=val_data,
            callback=self.callback,
            progress=self.progress,
        )

    def _guide(self, dense: Dense) -> Guide:
        """Who guides.

        An inductive teacher is trained on what it may see: first without the holdout, which says
        for how long, then with it. Any other one is the dense model, unless one was given.
        """
        nobody = self.settings.teacher == "none"
        if self.teacher is not None:
            given = given_teacher(self.teacher, self.task, self._visible, dense.encoded)
            teacher = self._as_teacher(*given)
            return Guide(teacher, teacher)
        if not self.views.are_inductive:
            teacher = self._as_teacher(dense.model, dense.encoded)
            return Guide(None, teacher) if nobody else self._better(teacher)
        if nobody:
            return Guide(None, None)
        with self.progress.scope("holdout"):
            chosen = self._fit_teacher(self.views.search)
        notes = self._better(self._visible_teacher()).notes
        last = self._fit_teacher(self.views.train, chosen.best_epoch)
        teacher = self._visible_teacher()
        better = teacher if notes else self._propagated(teacher)
        return Guide(better, teacher, chosen.epochs + last.epochs, notes)

    def _better(self, teacher: Teacher) -> Guide:
        """A teacher that has not seen validation labels, propagated unless that is worse."""
        after = self._propagated(teacher)
        note = loss_by_propagation(teacher, after, self.task, self.views.search)
        return Guide(after, teacher) if note is None else Guide(teacher, teacher, notes=(note,))

    def _propagated(self, teacher: Teacher) -> Teacher:
        share = self.settings.teacher_propagation
        return propagated(teacher, self.task, self.views.search, share)

    def _fit_teacher(self, data: Data, epochs: int | None = None) -> Fit:
        """Train on ``data``, up to the best epoch on the holdout or for so many epochs."""
        self.model.load_state_dict(self.init_state)
        return self._fit_dense(data, "teacher", self.views.search, epochs)

    def _visible_teacher(self) -> Teacher:
        return self._as_teacher(self._trained_copy(), self._predict(self.views.search)[0])

    def _as_teacher(self, model: nn.Module | None, encoded: Tensor) -> Teacher:
        settings = self.settings
        weight = settings.teacher_weight
        if weight is None:
            weight = 1 - self.task.labelled_share(self.views.train) / 2
        return Teacher(
            encoded,
            weight,
            settings.teacher_temperature,
            None if model is None else model.eval(),
            settings.teacher_schedule,
        )

    def _objective(self, teacher: Teacher | None, phase: str) -> Objective:
        """The loss of ``"search"`` or ``"retrain"``."""
        if teacher is None or self.settings.teacher_phases not in ("both", phase):
            return Objective(self.task)
        task = self.task.guided() if isinstance(self.task, MiniBatch) else self.task
        return Objective(task, teacher, self._features(teacher))

    def _labelled(self, objective: Objective) -> float:
        """Share of what is trained on that has a label, where a teacher speaks of the rest."""
        teacher = objective.teacher
        is_guided = teacher is not None and teacher.weight > 0
        return self.task.labelled_share(self.views.train) if is_guided else 1.0

    def _features(self, teacher: Teacher) -> Features | None:
        weight, model = self.settings.teacher_features, teacher.model
        if weight == 0 or model is None:
            return None
        data = self._visible if self.teacher is not None else self.views.search
        call = partial(self.task.encode, model.eval(), data)
        return Features(call, model, weight, self.settings.seed)

    def _search(self, objective: Objective, reference: Teacher | None) -> SearchResult:
        if not self.pretrained:
            self.model.load_state_dict(self.init_state)
        data = self.views.search
        if self.views.are_inductive and reference is not None:
            data = self.task.taught(reference.encoded, data)
        context = SearchContext(
            self.model,
            data,
            self.groups,
            objective,
            self.settings,
            self.pretrained,
            torch.Generator().manual_seed(self.settings.seed),
            self.callback,
            self.narrow,
            self._channels,
            None if reference is None else Objective(self.task, reference),
            lambda: copy.deepcopy(self.untrained),
            self._labelled(objective),
            self.progress,
        )
        with objective.watching(self.model):
            result = get_method(self.settings.method).search(context)
        Ranks.current().agree({"the edge mask": result.edge_mask.keep, **result.weight_mask})
        return result

    def _channels(self) -> list[ChannelGroup]:
        """The model's hidden channels, by calls on a few nodes that the search sees."""
        part = probed(self.untrained, self._visible, self.task, CHANNEL_NODES)
        with forward_errors():
            return channel_groups(self.untrained, lambda model: self.task.encode(model, part))

    def _adopt(self, result: SearchResult) -> None:
        """Go on with the model and the initial weights that a method puts in place of the given."""
        self.notes = [*self.notes, *result.notes]
        if result.model is not None:
            self.model = result.model
            self.pruned = copy.deepcopy(result.model)
            self.init_state = clone_state(result.model)
            self.views = self._views(self.task.prepare(self.plain))
        if result.start is not None:
            self.init_state = result.start

    def _retrain(self, objective: Objective, result: SearchResult, kept: Data) -> Fit:
        """Train on what training may see of the kept graph, validate on all of it.

        A narrower model that a method puts in place of the given one counts as one of few weights.
        """
        settings = self.settings
        rewinds = settings.recover == "rewind"
        density = result.weight_mask.num_kept / self.num_weights if self.num_weights else 1.0
        state = self.init_state if rewinds else result.state
        masked = apply_weight_mask(state, result.weight_mask, tied_names(self.model))
        self.model.load_state_dict(masked)
        train = kept
        if self.views.are_inductive:
            train = kept_view(self.views.train, result.edge_mask.edges)
        return fit(
            self.model,
            train,
            objective,
            FitConfig(
                settings.retrain_epochs,
                settings.lr_at(density),
                settings.weight_decay_at(density, self._labelled(objective)),
                settings.patience,
                settings.dropout_factor_at(density),
            ),
            seed=settings.seed,
            phase="retrain" if rewinds else "finetune",
            val_data=kept if self.views.are_inductive else None,
            mask=result.weight_mask,
            learn_edge_weight=settings.edge_values == "learned",
            augment=result.augment,
            callback=self.callback,
            progress=self.progress,
        )

    def edge_keep(self, result: SearchResult) -> Tensor:
        """``[num_edges]`` bool, the edges of the whole graph that a search keeps."""
        unseen = None
        if self.views.edges is not None:
            new = torch.ones(
                self.plain.num_edges, dtype=torch.bool, device=self.groups.index.device
            )
            new[self.views.edges] = False
            unseen = kept_by_rule(self.edge_rule, self.plain, new)
        return self.views.whole_keep(result.edge_mask.edges, unseen)

    def _edge_rule(self, result: SearchResult, teacher: Teacher | None) -> dict[str, Any]:
        """What becomes of edges that the search does not see, made of those that it sees."""
        kind, sparsity = self.settings.edge_rule, self.settings.edge_sparsity
        if kind == "keep" or sparsity == 0:
            return dict(KEEP)
        if kind != "learned":
            return ranked_rule(sparsity, **{"noise" if kind == "random" else kind: 1.0})
        return learned_rule(
            self.masked_model(result), self.task, self.views.search, self._visible,
            result.edge_mask, sparsity, teacher, self.settings.seed,
        )  # fmt: skip

    def masked_model(self, result: SearchResult) -> nn.Module:
        """A model with the weights that the search left, under its mask."""
        model = copy.deepcopy(self.pruned)
        masked = apply_weight_mask(result.state, result.weight_mask, tied_names(model))
        model.load_state_dict(masked)
        return model

    def _metrics(self, pruned: Pruned) -> dict[str, Any]:
        task, data, dense = self.task, self.views.whole, pruned.baseline.dense
        result, retrained = pruned.result, pruned.retrained
        out = predict(task, self.model, pruned.kept, retrained.edge_weight)
        self.predictions = dense.out, out
        return (
            accuracy_metrics(task, data, dense, retrained, out, self.reads_test)
            | cost_metrics(
                self.untrained, self.pruned, self.whole_task, data, pruned.kept, result.weight_mask
            )
            | {"sparse_inputs": self._sparse_keys(), "notes": self.notes}
            | search_metrics(result)
        )

    def _sparse_keys(self) -> list[str]:
        data = self.views.whole
        return [key for key in ("x", ADJACENCY) if data.get(key) is not self.plain.get(key)]

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
