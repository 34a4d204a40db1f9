"""``find``: from a model and a graph to a ticket with its evidence."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.allocation import GLOBAL, allocate
from fastglt.cost import count_macs, num_parameters
from fastglt.data.validate import validate
from fastglt.errors import InputError, ModelError
from fastglt.gating import apply_weight_mask, check_model, keep_edges, prunable_weights
from fastglt.masks import EdgeGroups
from fastglt.search.base import SearchContext, SearchResult, get_method
from fastglt.search.denoiser import edge_groups
from fastglt.search.swap import num_kept_groups
from fastglt.settings import Settings, resolve_settings
from fastglt.ticket import Ticket
from fastglt.training.callback import Callback
from fastglt.training.inputs import kept_view, with_sparse_inputs
from fastglt.training.loop import Fit, FitConfig, clone_state, fit, initial_state, predict
from fastglt.training.task import ADJACENCY, NodeClassification
from fastglt.training.teacher import Objective, Teacher


def find(
    model: nn.Module,
    data: Data,
    *,
    edge_sparsity: float = 0.0,
    weight_sparsity: float = 0.0,
    method: str = "fastglt",
    preset: str = "default",
    seed: int = 0,
    init: Mapping[str, Tensor] | None = None,
    recover: str = "rewind",
    callback: Callback | None = None,
    **settings: Any,
) -> Ticket:
    """Find a graph lottery ticket: a subset of edges and weights, and evidence of its worth.

    The model is trained densely (it is the baseline, and the teacher if one is asked for), masks
    are searched, the model is reset to its initial weights and retrained under the masks. The
    epoch and the masks are chosen on validation; the test nodes are read once, at the end.

    ``model`` and ``data`` are not changed. With the same seed on the same machine the result on
    the CPU is the same. The teacher's predictions and the edge score ``influence`` use the
    features of all nodes, also of unlabelled and test nodes (never their labels): the setting is
    transductive.

    Args:
        model: Any module called as ``model(x, edge_index)`` that returns
            ``[num_nodes, num_classes]`` logits. Its weights are the initialisation to rewind to,
            unless ``init`` is given or ``recover="finetune"``: then it counts as trained already
            and is not trained densely or pre-trained again.
        data: A graph with ``x``, ``y``, ``edge_index``, ``train_mask``, ``val_mask``; with
            ``test_mask`` the test metric is reported too. Taken as given: normalise features
            before.
        edge_sparsity: Share of the prunable edge groups to remove, in ``[0, 1)``.
        weight_sparsity: Share of the prunable weights to remove, in ``[0, 1)``.
        method: Search method: ``"fastglt"``, ``"one-shot"`` or ``"random"``.
        preset: ``"default"`` or ``"paper"``: defaults of all other settings.
        seed: Seed of everything random.
        init: The state dict that a trained ``model`` started from.
        recover: ``"rewind"`` retrains from the initial weights; ``"finetune"`` goes on from the
            searched ones, for models whose initialisation was not kept. Only the former gives a
            lottery ticket.
        callback: Is told of every phase and step.
        settings: Any other field of :class:`fastglt.Settings`.

    Raises:
        InputError: If an argument, the graph or the model cannot be used; its subclasses say
            which.
        NonFiniteLossError: If a loss becomes NaN or infinite.
    """
    resolved = resolve_settings(
        {
            "edge_sparsity": edge_sparsity,
            "weight_sparsity": weight_sparsity,
            "method": method,
            "preset": preset,
            "seed": seed,
            "recover": recover,
            **settings,
        }
    )
    if init is not None and recover == "finetune":
        raise InputError('init is what recover="rewind" rewinds to; leave it out to fine-tune')
    return _Finder(model, data, resolved, init, callback or Callback()).run()


@dataclass(frozen=True)
class _Dense:
    """The dense model that everything is compared with."""

    state: dict[str, Tensor]
    out: Tensor
    val_metric: float
    epochs: int


class _Finder:
    """One run of :func:`find`; methods are its stages, in order."""

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        settings: Settings,
        init: Mapping[str, Tensor] | None,
        callback: Callback,
    ) -> None:
        self.start = time.perf_counter()
        num_classes = validate(data)
        get_method(settings.method)
        check_model(model)
        _check_devices(model, data)
        self.settings = settings
        self.callback = callback
        self.original, self.given_data = model, data
        self.pretrained = init is not None or settings.recover == "finetune"
        _check_gates_are_trained(settings, self.pretrained)
        self.model = copy.deepcopy(model)
        self.init_state = initial_state(model, init)
        self.task = _checked_task(self.model, data, num_classes)
        self.data = data
        if settings.sparse_inputs:
            self.data = with_sparse_inputs(self.model, data, self.task)
        self.groups = edge_groups(data)
        _check_budgets(self.model, self.groups, settings)
        self.seconds: dict[str, float] = {}

    def run(self) -> Ticket:
        """All stages."""
        with self._timed("dense"):
            dense = self._train_dense()
        objective = self._objective(dense)
        with self._timed("search"):
            result = self._search(objective)
        with self._timed("retrain"):
            retrained = self._retrain(objective, result)
        metrics = self._metrics(dense, result, retrained)
        self.seconds["total"] = time.perf_counter() - self.start
        return Ticket.create(
            self.original,
            self.given_data,
            edge_keep=result.edge_mask.edges,
            weight_masks=dict(result.weight_mask),
            init_state=self.init_state,
            trained_state=retrained.state,
            metrics=metrics | {"seconds": self.seconds},
            settings=self.settings.model_dump(),
            history=result.history,
        )

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start

    def _train_dense(self) -> _Dense:
        task_only = Objective(self.task)
        epochs = 0
        if not self.pretrained:
            config = self._fit_config(self.settings.dense_epochs)
            epochs = fit(
                self.model,
                self.data,
                task_only,
                config,
                seed=self.settings.seed,
                phase="dense",
                callback=self.callback,
            ).epochs
        out = predict(self.model, self.data, task_only)
        val_metric = self.task.metric(out, self.data, "val")
        return _Dense(clone_state(self.model), out, val_metric, epochs)

    def _objective(self, dense: _Dense) -> Objective:
        settings = self.settings
        if settings.teacher == "none":
            return Objective(self.task)
        teacher = Teacher(dense.out, settings.teacher_weight, settings.teacher_temperature)
        return Objective(self.task, teacher)

    def _search(self, objective: Objective) -> SearchResult:
        if not self.pretrained:
            self.model.load_state_dict(self.init_state)
        context = SearchContext(
            self.model,
            self.data,
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
        self.model.load_state_dict(apply_weight_mask(state, result.weight_mask))
        return fit(
            self.model,
            kept_view(self.data, result.edge_mask.edges),
            objective,
            self._fit_config(self.settings.retrain_epochs),
            seed=self.settings.seed,
            phase="retrain" if rewinds else "finetune",
            mask=result.weight_mask,
            callback=self.callback,
        )

    def _metrics(self, dense: _Dense, result: SearchResult, retrained: Fit) -> dict[str, Any]:
        keep = result.edge_mask.edges
        out = predict(self.model, kept_view(self.data, keep), Objective(self.task))
        kept = keep_edges(self.given_data, keep)
        metrics: dict[str, Any] = {
            "metric": self.task.metric_name,
            "edge_sparsity": result.edge_mask.sparsity,
            "weight_sparsity": result.weight_mask.sparsity,
            "val_dense": dense.val_metric,
            "val_ticket": retrained.val_metric,
            "test_dense": None,
            "test_ticket": None,
            "macs_dense": self._count_macs(self.given_data),
            "macs_ticket": self._count_macs(kept, result.weight_mask),
            "params_dense": num_parameters(self.model),
            "params_ticket": num_parameters(self.model, result.weight_mask),
            "edges_dense": self.given_data.num_edges,
            "edges_ticket": kept.num_edges,
            "epochs": {"dense": dense.epochs, "search": result.epochs, "retrain": retrained.epochs},
            "best_retrain_epoch": retrained.best_epoch,
            "sparse_inputs": [
                key
                for key in ("x", ADJACENCY)
                if self.data.get(key) is not self.given_data.get(key)
            ],
        }
        if "test_mask" in self.data and bool(self.data.test_mask.any()):
            metrics["test_dense"] = self.task.metric(dense.out, self.data, "test")
            metrics["test_ticket"] = self.task.metric(out, self.data, "test")
        return metrics | result.metrics

    def _count_macs(self, data: Data, mask: Mapping[str, Tensor] | None = None) -> int:
        return count_macs(self.model, lambda model: self.task.forward(model, data), mask)

    def _fit_config(self, epochs: int) -> FitConfig:
        settings = self.settings
        return FitConfig(epochs, settings.lr, settings.weight_decay, settings.patience)


def _check_budgets(model: nn.Module, groups: EdgeGroups, settings: Settings) -> None:
    """Refuse impossible budgets before anything is trained, as far as they follow from counts."""
    num_kept_groups(groups, settings.edge_sparsity)
    if settings.allocation != GLOBAL:
        shapes = {name: weight.shape for name, weight in prunable_weights(model).items()}
        allocate(shapes, settings.weight_sparsity, settings.allocation)


def _check_gates_are_trained(settings: Settings, pretrained: bool) -> None:
    if pretrained and settings.edge_score == "trained-gate" and settings.edge_sparsity > 0:
        raise InputError(
            "edge_score='trained-gate' (preset 'paper') trains its gates in pre-training, which a "
            "trained model does not get; choose edge_score='influence' or 'unit-gate'"
        )


def _check_devices(model: nn.Module, data: Data) -> None:
    devices = {str(tensor.device) for tensor in (*model.parameters(), data.x, data.edge_index)}
    if len(devices) > 1:
        raise ModelError(f"model and data must be on one device (got {', '.join(sorted(devices))})")


def _checked_task(model: nn.Module, data: Data, num_classes: int) -> NodeClassification:
    """The task, after one call of the model to see that its output is usable."""
    objective = Objective(NodeClassification(num_classes))
    try:
        out = predict(model, data, objective)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"model(x, edge_index) failed on x {list(data.x.shape)} of {data.x.dtype} and "
            f"edge_index {list(data.edge_index.shape)}: {error}"
        ) from error
    objective.task.check_output(out, data)
    return NodeClassification(out.size(-1))
