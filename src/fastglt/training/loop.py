"""The training loop that the dense run and the retraining of a ticket share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.errors import InputError, NonFiniteLossError
from fastglt.gating import WeightGate
from fastglt.masks import WeightMask
from fastglt.training.callback import Callback
from fastglt.training.channels import LiveChannels
from fastglt.training.dropout import fast_dropout, scaled_dropout
from fastglt.training.focus import focused
from fastglt.training.inputs import at_places, with_edge_places
from fastglt.training.progress import NO_CHECKPOINT, Progress, stateful
from fastglt.training.ranks import Ranks
from fastglt.training.seeding import seeded
from fastglt.training.states import Fields, check_like, check_tensor, to_device_of
from fastglt.training.task import Task
from fastglt.training.teacher import Objective

Augment = Callable[[Data, torch.Generator], Data]
"""``augment(data, generator)`` gives the graph that one training step sees."""
EDGE_WEIGHT_FLOOR = 1e-4
"""Trained edge weights stay at or above this."""


@dataclass(frozen=True)
class FitConfig:
    """How long, how fast and how freely to train.

    Attributes:
        epochs: At most so many.
        lr: Learning rate of Adam.
        weight_decay: Of the model's parameters.
        patience: Stop after so many epochs without a better one; 0 never does.
        dropout_factor: What the model's dropout probabilities are multiplied by.
        takes_last: Leave the model as it is after the last epoch rather than after the best one.
    """

    epochs: int
    lr: float = 0.01
    weight_decay: float = 5e-4
    patience: int = 0
    dropout_factor: float = 1.0
    takes_last: bool = False


@dataclass(frozen=True)
class Fit:
    """Outcome of :func:`fit`.

    Attributes:
        state: State dict of the best epoch.
        best_epoch: Epoch (from 1) with the best validation metric, ties by validation loss.
        val_metric: Validation metric of that epoch.
        epochs: Epochs that were run.
        edge_weight: ``[num_edges]`` trained factors of the edges at that epoch, if any.
    """

    state: dict[str, Tensor]
    best_epoch: int
    val_metric: float
    epochs: int
    edge_weight: Tensor | None = None


@dataclass
class _Best(Fields):
    """The best epoch so far: higher validation metric, then lower validation loss."""

    epoch: int = 0
    val_metric: float = -math.inf
    val_loss: float = math.inf
    state: dict[str, Tensor] = field(default_factory=dict)
    edge_weight: Tensor | None = None

    def offer(
        self, epoch: int, val_metric: float, val_loss: Tensor, trained: _Trained, always: bool
    ) -> None:
        loss = float(val_loss)
        if always or (val_metric, -loss) > (self.val_metric, -self.val_loss):
            self.epoch, self.val_metric, self.val_loss = epoch, val_metric, loss
            self.state = clone_state(trained.model)
            if trained.edge_weight is not None:
                self.edge_weight = trained.edge_weight.detach().clone()


@dataclass(frozen=True)
class _Trained:
    """A model and, where edges have them, the weights that are trained with it."""

    model: nn.Module
    task: Task
    edge_weight: nn.Parameter | None

    def __call__(self, data: Data) -> Tensor:
        return self.task.forward(self.model, data, self._gate(data))

    def predict(self, data: Data) -> Tensor:
        return predict(self.task, self.model, data, self._gate(data))

    def _gate(self, data: Data) -> Tensor | None:
        return None if self.edge_weight is None else at_places(self.edge_weight, data)

    @torch.no_grad()
    def clamp(self) -> None:
        """Hold edge weights positive, since negative ones break GCN normalisation."""
        if self.edge_weight is not None:
            self.edge_weight.clamp_(min=EDGE_WEIGHT_FLOOR)


def clone_state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's state dict that shares no memory with it."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def initial_state(model: nn.Module, init: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """The state dict to rewind to: a copy of ``init``, or of the model's state as it is now.

    Raises:
        InputError: If ``init`` does not fit the model, is not finite, or is the model's own memory
            (so that training has overwritten it).
    """
    state = model.state_dict()
    if init is None:
        return clone_state(model)
    if set(init) != set(state):
        different = sorted(set(init) ^ set(state))[0]
        raise InputError(f"init must have the model's state dict keys (differs in {different!r})")
    for name, own in state.items():
        tensor = init[name]
        if not isinstance(tensor, Tensor) or tensor.shape != own.shape:
            found = list(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise InputError(
                f"init[{name!r}] must be a tensor of shape {list(own.shape)} (got {found})"
            )
        if tensor.numel() and tensor.data_ptr() == own.data_ptr():
            raise InputError(
                f"init[{name!r}] is the model's own tensor, which training changes; take a copy of "
                "the state dict before training"
            )
        if not bool(tensor.isfinite().all()):
            raise InputError(f"init[{name!r}] must be finite (got NaN or infinity)")
    return {name: init[name].detach().to(own, copy=True) for name, own in state.items()}


def make_optimizer(
    model: nn.Module, lr: float, weight_decay: float, gates: tuple[nn.Parameter, ...] = ()
) -> torch.optim.Optimizer:
    """Adam over the model's parameters, and over edge gates without weight decay.

    Where several ranks train together, its steps take the mean of their gradients.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [{"params": parameters, "weight_decay": weight_decay}]
    if gates:
        groups.append({"params": list(gates), "weight_decay": 0.0})
    optimizer = torch.optim.Adam(groups, lr=lr, fused=True)
    ranks = Ranks.current()
    if ranks.size > 1:
        trained = [*parameters, *gates]
        optimizer.register_step_pre_hook(lambda *_: ranks.average_gradients(trained))
    return optimizer


def train_step(optimizer: torch.optim.Optimizer, loss: Tensor, where: str) -> None:
    """One backward pass and optimizer step.

    Raises:
        NonFiniteLossError: If the loss is NaN or infinite; nothing is updated then.
    """
    check_finite(loss, optimizer, where)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def check_finite(loss: Tensor, optimizer: torch.optim.Optimizer, where: str) -> None:
    """Refuse a loss that is NaN or infinite, before anything is updated.

    Raises:
        NonFiniteLossError: Naming the place, and what may have led there.
    """
    value = float(loss.detach())
    if not math.isfinite(value):
        if not optimizer.state:
            raise NonFiniteLossError(
                f"the loss is {value} in {where}, before any weight was changed: with the weights "
                "that it starts from, the model's output on this graph, or the task's loss of it, "
                "is not finite; look for negative edge weights, which break GCN normalisation, and "
                "for weights that are not finite"
            )
        lr = optimizer.param_groups[0]["lr"]
        raise NonFiniteLossError(f"the loss is {value} in {where} with lr={lr}; try a lower lr")


@torch.no_grad()
def predict(task: Task, model: nn.Module, data: Data, gate: Tensor | None = None) -> Tensor:
    """A task's predictions in eval mode, in which the model is left.

    Ranks that train together average their running statistics first.

    Args:
        task: Calls the model.
        model: The model.
        data: The graph, with the edges to use.
        gate: ``[num_edges]`` factors of the edges.

    Returns:
        What :meth:`fastglt.Task.forward` returns, without gradients.
    """
    Ranks.current().average_statistics(model)
    model.eval()
    return task.forward(model, data, gate)


def validation_metric(task: Task, out: Tensor, data: Data, where: str) -> float:
    """Metric of predictions on the validation split.

    Raises:
        InputError: If it is NaN, by which no epoch could be chosen.
    """
    metric = task.metric(out, data, "val")
    if math.isnan(metric):
        raise InputError(
            f"{task.metric_name} on the validation split is NaN in {where}, so no epoch can be "
            "chosen by it; look at the labels of that split, or choose another metric"
        )
    return metric


def fit(
    model: nn.Module,
    data: Data,
    objective: Objective,
    config: FitConfig,
    *,
    seed: int,
    phase: str,
    val_data: Data | None = None,
    mask: WeightMask | None = None,
    learn_edge_weight: bool = False,
    augment: Augment | None = None,
    callback: Callback | None = None,
    progress: Progress = NO_CHECKPOINT,
) -> Fit:
    """Train ``model`` in place and leave it with the weights of its best epoch.

    The test nodes are not looked at.

    Args:
        model: The model, at the weights to start from.
        data: The graph, with the edges to train on.
        objective: The loss.
        config: Epochs, learning rate, weight decay, patience.
        seed: Seed of dropout and batches.
        phase: Name for callbacks and errors.
        val_data: The graph to validate on; by default ``data``.
        mask: Weights that must stay 0 if pruned.
        learn_edge_weight: Train one positive factor for each edge of ``data``, from 1 and without
            weight decay. Not with ``val_data``.
        augment: What becomes of the graph in each training step.
        callback: Is told of every epoch.
        progress: Records the epochs, under the name of the phase.

    Raises:
        InputError: If the validation metric is NaN.
        NonFiniteLossError: If the loss becomes NaN or infinite.
    """
    callback = callback or Callback()
    task = objective.task
    if learn_edge_weight:
        data = with_edge_places(data)
    trained = _Trained(model, task, _new_edge_weight(data) if learn_edge_weight else None)
    val_data = data if val_data is None else val_data
    gates = () if trained.edge_weight is None else (trained.edge_weight,)
    optimizer = make_optimizer(model, config.lr, config.weight_decay, gates)
    if mask is not None:
        WeightGate(dict(model.named_parameters()), optimizer, mask)
    best = _Best()
    generator = torch.Generator().manual_seed(seed)
    if trained.edge_weight is None:
        if objective.teacher is None and augment is None:
            data = focused(data, task, "train")
        val_data = focused(val_data, task, "val")
    callback.on_phase_start(phase, config.epochs)
    dropout = scaled_dropout(config.dropout_factor)
    live, watching = LiveChannels(model).under(mask), objective.watching(model)
    parts = {"model": model, "optimizer": optimizer, "best": best, "generator": generator}
    parts |= {} if trained.edge_weight is None else {"edge_weight": trained.edge_weight}
    parts |= stateful(task=task)
    with seeded(seed), fast_dropout(model), dropout, live, watching:
        epochs = progress.loop(phase, config.epochs, parts, keep=("best", *stateful(task=task)))
        for epoch in epochs:
            model.train()
            loss = objective.at((epoch - 1) / config.epochs)
            for _ in range(task.num_batches(data)):
                batch = task.batch(data if augment is None else augment(data, generator), generator)
                train_step(optimizer, loss(trained(batch), batch), f"{phase} epoch {epoch}")
                trained.clamp()
            out = trained.predict(val_data)
            val_metric = validation_metric(task, out, val_data, f"{phase} epoch {epoch}")
            val_loss = task.loss(out, val_data, "val")
            best.offer(epoch, val_metric, val_loss, trained, config.takes_last)
            callback.on_step(phase, epoch, val_metric)
            if config.patience and epoch - best.epoch >= config.patience:
                epochs.finish()
                break
    callback.on_phase_end(phase)
    check_like(best.state, model.state_dict())  # which may come from a checkpoint
    model.load_state_dict(best.state)
    edge_weight = best.edge_weight
    if edge_weight is not None and trained.edge_weight is not None:
        check_tensor(edge_weight, trained.edge_weight, "edge_weight")
        edge_weight = edge_weight.to(data.edge_index.device)
    state = to_device_of(best.state, model.state_dict())
    return Fit(state, best.epoch, best.val_metric, epochs.done, edge_weight)


def _new_edge_weight(data: Data) -> nn.Parameter:
    return nn.Parameter(torch.ones(data.num_edges, device=data.edge_index.device))
