"""Pre-training, the one-shot cut and the denoising loop that the methods are made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.allocation import LIVE
from fastglt.errors import ModelError
from fastglt.masks import EdgeMask
from fastglt.search.base import SearchContext, SearchResult
from fastglt.search.denoiser import Denoiser
from fastglt.search.edge_scores import Graph, edge_scores, scoring_loss
from fastglt.search.gates import edge_factors
from fastglt.search.regularizers import gate_penalty
from fastglt.settings import TRAINED_GATE, Settings
from fastglt.training.channels import LiveChannels
from fastglt.training.dropout import fast_dropout, scaled_dropout
from fastglt.training.inputs import with_edge_places
from fastglt.training.loop import make_optimizer, predict, train_step
from fastglt.training.norms import recalibrate
from fastglt.training.progress import stateful
from fastglt.training.ranks import Ranks
from fastglt.training.seeding import seeded
from fastglt.training.task import ADJACENCY
from fastglt.training.teacher import Objective, Teacher

GATE_NOISE = 1e-4
"""Standard deviation of the noise that trained gates start with, around 1 (FastGLT's code)."""
_NO_DIVERGENCE = (
    "edges were scored by influence, since the model does not let divergence be differentiated by "
    "its edges: {}"
)
GATE_FLOOR = 1e-4
"""Trained gates of kept edges are held at or above this after every step, since negative edge
weights break GCN normalisation."""


@dataclass
class SearchRun:
    """A model in training, with the gates of its edges if they are trained.

    Attributes:
        context: What the method was given.
        optimizer: Trains the model and the gates.
        gate: ``[num_groups]`` trained gates, or ``None`` where gates are units.
        denoiser: Holds the masks.
        reference: Whose predictions on the whole graph those on the kept one are to resemble,
            where edges are scored by that.
        edge_score: What edges are scored by: the setting, unless the model does not allow it.
        notes: What someone should know of the run.
    """

    context: SearchContext
    optimizer: torch.optim.Optimizer
    gate: nn.Parameter | None
    denoiser: Denoiser
    reference: Objective | None
    edge_score: str
    notes: tuple[str, ...] = ()

    def score(self, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """What :meth:`Denoiser.step` scores edges by: scores, or a loss on trained gates."""
        context, keep = self.context, self.denoiser.edge_mask.keep
        if self.gate is None:
            return edge_scores(self.edge_score, Graph(context, self.reference, keep, edge_weight))
        # Pruned gates are held at 0, but what counts is the slope of a whole edge.
        whole = torch.where(keep, self.gate.detach(), 1.0)
        return scoring_loss(context, edge_weight * context.groups.to_edges(whole, 1.0))

    def val_metric(self) -> float:
        """Validation metric of the model on the kept graph."""
        task, data = self.context.objective.task, self.denoiser.data
        gate = edge_factors(self.context.groups, self.gate, data)
        if self.context.settings.recalibrate:
            recalibrate(self.context.model, lambda: task.encode(self.context.model, data, gate))
        return task.metric(predict(task, self.context.model, data, gate), data, "val")


def cut(context: SearchContext, steps: int) -> SearchRun:
    """Pre-train the context's model and cut weights and edges to the target sparsities.

    Args:
        context: What the method was given.
        steps: Denoising steps that are going to follow.
    """
    settings, task = context.settings, context.objective.task
    gate = _new_gate(context)
    gates = () if gate is None else (gate,)
    data = context.data if gate is None else with_edge_places(context.data)
    optimizer = make_optimizer(context.model, settings.lr, context.weight_decay(), gates)
    full = EdgeMask.full(context.groups)
    epochs = 0 if context.pretrained else settings.pretrain_epochs
    if epochs:
        context.callback.on_phase_start("pretrain", epochs)
    random = {"generator": context.generator, **stateful(task=task)}
    parts = {"model": context.model, "optimizer": optimizer, **random}
    parts |= {} if gate is None else {"gate": gate}
    with seeded(settings.seed), fast_dropout(context.model):
        for epoch in context.progress.loop("pretrain", epochs, parts):
            where = f"pretrain epoch {epoch}"
            for _ in range(task.num_batches(data)):
                _train(context, context.objective, optimizer, data, gate, full, where)
            context.callback.on_step("pretrain", epoch, None)
    if epochs:
        context.callback.on_phase_end("pretrain")
    edge_score, reference = settings.edge_score, context.reference
    if edge_score == TRAINED_GATE and gate is None:
        edge_score = "degree"  # there are no edges to choose from
    named = edge_score.split("+")
    if reference is None and not {"divergence", "agreement"}.isdisjoint(named):
        reference = _as_it_is(context)

    def score() -> tuple[Tensor, str, tuple[str, ...]]:
        try:
            return _one_shot_score(context, gate, reference, edge_score), edge_score, ()
        except ModelError as error:
            if "divergence" not in named:
                raise
            # Influence looks for edges between classes, so agreement does not go with it.
            others = [each for each in named if each in ("unit-gate", "degree", "similarity")]
            instead = "+".join(["influence", *others])
            note = _NO_DIVERGENCE.format(error)
            return _one_shot_score(context, gate, reference, instead), instead, (note,)

    one_shot, edge_score, notes = context.progress.once(
        "one-shot",
        score,
        parts=random,
        unpack=lambda kept: (kept[0].to(context.groups.index.device), kept[1], kept[2]),
    )
    denoiser = Denoiser(
        context.model,
        optimizer,
        data,
        steps=steps,
        edge_sparsity=settings.edge_sparsity,
        weight_sparsity=settings.weight_sparsity,
        config=settings if steps else _without_warmup(settings),
        edge_score=one_shot,
        edge_gate=gate,
        groups=context.groups,
        channels=context.channels() if _goes_by_channels(settings) else (),
    )
    density = 1 - settings.weight_sparsity
    for group in optimizer.param_groups:
        group["lr"] = settings.lr_at(density)
    optimizer.param_groups[0]["weight_decay"] = context.weight_decay(density)
    if settings.edge_sparsity > 0 and ADJACENCY in data:
        data[ADJACENCY].forget()  # from here on the kept graph is trained on
    return SearchRun(context, optimizer, gate, denoiser, reference, edge_score, notes)


def denoise(run: SearchRun) -> None:
    """Train on the kept graph and swap, until no swaps are left."""
    context, denoiser, settings = run.context, run.denoiser, run.context.settings
    live, patience = LiveChannels(context.model), settings.denoise_patience
    context.callback.on_phase_start("denoise", denoiser.steps)
    dropout = scaled_dropout(settings.dropout_factor_at(1 - settings.weight_sparsity))
    # The denoiser comes last: it holds pruned weights at 0.
    parts = {"model": context.model, "optimizer": run.optimizer, "generator": context.generator}
    parts |= {} if run.gate is None else {"gate": run.gate}
    parts |= stateful(task=context.objective.task) | {"denoiser": denoiser}
    with seeded(settings.seed + 1), fast_dropout(context.model), dropout:
        for step in (steps := context.progress.loop("denoise", denoiser.steps, parts)):
            where = f"denoise step {step}"
            mask = None if denoiser.reads_gradients else denoiser.weight_mask
            loss = context.objective.at((step - 1) / denoiser.steps)
            with live.under(mask):
                _train(
                    context,
                    loss,
                    run.optimizer,
                    denoiser.data,
                    run.gate,
                    denoiser.edge_mask,
                    where,
                )
            due = denoiser.due
            metric = run.val_metric() if due else None
            event = denoiser.step(score=run.score, metric=metric)
            if event is not None:
                masks = {"the edge mask": denoiser.edge_mask.keep, **denoiser.weight_mask}
                Ranks.current().agree(masks)
                context.callback.on_event(event)
            context.callback.on_step("denoise", step, metric)
            if denoiser.converged or 0 < patience <= denoiser.events_since_best:
                steps.finish()
                break
    context.callback.on_phase_end("denoise")


def result_of(run: SearchRun) -> SearchResult:
    """The best masks of a run."""
    context, denoiser = run.context, run.denoiser
    denoiser.detach()
    best = denoiser.best()
    pretrain = 0 if context.pretrained else context.settings.pretrain_epochs
    num_batches = context.objective.task.num_batches(context.data)
    steps = denoiser.num_steps
    denoise_epochs = steps if num_batches == 1 else steps / num_batches
    return SearchResult(
        best.edge_mask,
        best.weight_mask,
        epochs=pretrain + denoise_epochs,
        state=best.state,
        history=[asdict(event) for event in denoiser.history],
        metrics={"best_search_step": best.step},
        notes=run.notes,
    )


def _goes_by_channels(settings: Settings) -> bool:
    counts = settings.channel_power > 0 or settings.allocation == LIVE
    return counts and settings.weight_sparsity > 0


def _without_warmup(settings: Settings) -> Settings:
    """Where no denoising follows, the cut goes to the target at once."""
    return settings.model_copy(update={"warmup_start": 1.0, "warmup_events": 0})


def _new_gate(context: SearchContext) -> nn.Parameter | None:
    settings = context.settings
    if settings.edge_score != TRAINED_GATE or settings.edge_sparsity == 0:
        return None
    if context.groups.num_groups == 0:
        return None
    noise = torch.randn(context.groups.num_groups, generator=context.generator)
    return nn.Parameter(1 + GATE_NOISE * noise.to(context.groups.index.device))


def _train(
    context: SearchContext,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    data: Data,
    gate: nn.Parameter | None,
    mask: EdgeMask,
    where: str,
) -> None:
    settings, task = context.settings, context.objective.task
    context.model.train()
    batch = task.batch(data, context.generator)
    out = task.forward(context.model, batch, edge_factors(context.groups, gate, batch))
    loss = objective(out, batch)
    if gate is not None:
        loss = loss + gate_penalty(gate, settings.edge_l1, settings.edge_diversity)
    train_step(optimizer, loss, where)
    if gate is not None:
        with torch.no_grad():
            gate.masked_fill_(mask.keep & (gate < GATE_FLOOR), GATE_FLOOR)


def _one_shot_score(
    context: SearchContext,
    gate: nn.Parameter | None,
    reference: Objective | None,
    edge_score: str,
) -> Tensor:
    """``[num_groups]`` scores of the one-shot cut.

    Trained gates without any pre-training differ by their initial noise only, so the edges are
    then cut at random, as in the publication (and the weights by their random initial values).
    """
    groups = context.groups
    if gate is not None:
        return gate.detach().abs()
    if context.settings.edge_sparsity == 0:
        return torch.zeros(groups.num_groups, device=groups.index.device)
    keep = EdgeMask.full(groups).keep
    return edge_scores(edge_score, Graph(context, reference, keep, None))


def _as_it_is(context: SearchContext) -> Objective:
    """The context's model as it is now, as a teacher."""
    Ranks.current().average_statistics(context.model)
    model, task = context.another_model().eval(), context.objective.task
    with torch.no_grad():
        encoded = task.encode(model, context.data)
    return Objective(task, Teacher(encoded, model=model))
