"""``find``: from a model and a graph to a ticket with its evidence."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.api.finder import Finder
from fastglt.api.goals import Goal, GoalFinder
from fastglt.checkpoint.folder import opened
from fastglt.checkpoint.identity import identity_of
from fastglt.errors import InputError
from fastglt.search import METHOD_VERSION
from fastglt.search.presets import resolve_settings
from fastglt.settings import GIVEN, Settings
from fastglt.study.frontier import Axis
from fastglt.ticket import Ticket
from fastglt.ticket.compiled import uncompiled, uncompiled_names
from fastglt.training.callback import Callback
from fastglt.training.parts import LoaderFactory
from fastglt.training.progress import NO_CHECKPOINT, Progress
from fastglt.training.ranks import Ranks
from fastglt.training.task import Task
from fastglt.training.tasks import make_task


def find(
    model: nn.Module,
    data: Data,
    *,
    task: str | Task | Mapping[str, Any] | None = None,
    metric: str | None = None,
    edge_sparsity: float = 0.0,
    weight_sparsity: float = 0.0,
    method: str = "fastglt",
    preset: str = "default",
    seed: int = 0,
    init: Mapping[str, Tensor] | None = None,
    recover: str = "rewind",
    callback: Callback | None = None,
    narrow: Callable[[int], nn.Module] | None = None,
    teacher: str | nn.Module | Tensor | None = None,
    max_drop: float | None = None,
    target_macs: float | None = None,
    target_latency_ms: float | None = None,
    axis: Axis = "joint",
    resolution: float = 1.0,
    loader: LoaderFactory | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 60.0,
    resume: bool = False,
    **settings: Any,
) -> Ticket:
    """Find a graph lottery ticket: a subset of edges and weights, and evidence of its worth.

    The model is trained densely (it is the baseline, and the teacher if one is asked for), masks
    are searched, the model is reset to its initial weights and retrained under the masks. The
    epoch and the masks are chosen on validation; the test split is read once, at the end.

    ``model`` and ``data`` are not changed. With the same seed on the same machine the result on
    the CPU is the same. Unless ``inductive=True``, the teacher's predictions and the edge score
    ``influence`` use the features of all nodes, also of unlabelled and test nodes (never their
    labels): the setting is transductive.

    Args:
        model: Any module. It is called as ``model(x, edge_index)``, with ``edge_weight=`` and
            ``edge_attr=`` if the graph has them and it takes them; a ``task`` of your own may
            call it otherwise. Its weights are the initialisation to rewind to, unless ``init`` is
            given or ``recover="finetune"``: then it counts as trained already and is not trained
            densely or pre-trained again. Lazy modules are initialised, in a copy. Of a model that
            ``torch.compile`` wraps, the one inside is searched: it would be compiled anew for
            every graph that denoising makes.
        data: A graph with ``edge_index`` (also an ``EdgeIndex``) or a torch CSR ``adj_t``, with
            what the task needs: for node classification ``x``, ``y``, ``train_mask``,
            ``val_mask`` and, for a test metric, ``test_mask``. Taken as given: normalise features
            before. A :class:`~torch_geometric.data.Batch` of graphs gives weights-only tickets.
        task: What is predicted: a :class:`fastglt.Task`, what a ticket's settings say of it, or
            the name of one,
            ``"node-classification"``, ``"multilabel-node-classification"``,
            ``"link-prediction"`` or ``"graph-classification"``; ``None`` goes by the data.
        metric: What is measured, see the task's class; ``None`` takes its usual metric.
        edge_sparsity: Share of the prunable edge groups to remove, in ``[0, 1)``.
        weight_sparsity: Share of the prunable weights to remove, in ``[0, 1)``.
        method: Search method: ``"fastglt"``, or a baseline or control to compare it with, see
            :data:`fastglt.search.METHODS`.
        preset: ``"default"`` or ``"paper"``: defaults of all other settings.
        seed: Seed of everything random.
        init: The state dict that a trained ``model`` started from.
        recover: ``"rewind"`` retrains from the initial weights; ``"finetune"`` goes on from the
            searched ones, for models whose initialisation was not kept. Only the former gives a
            lottery ticket.
        callback: Is told of every phase, step and swap; several are one :class:`fastglt.Callbacks`.
            What it raises ends the run.
        narrow: Makes the model with so many hidden channels (or any other width, from 1, that its
            number of weights rises with), which method ``"small-dense"`` needs. Its weights come
            from torch's global random state, seeded by ``seed``.
        teacher: Whose soft predictions guide search and retraining: ``"dense"``, the model itself
            after its dense training, ``"none"``, or a teacher of your own: a trained model, called
            as ``model`` is, or its outputs for the whole graph, for node tasks logits
            ``[num_nodes, num_outputs]``. ``None`` goes by the preset.
        max_drop: Instead of sparsities: the highest ones whose ticket loses at most so many points
            of the metric on validation. They are bracketed and bisected, by one run each on
            ``seed``; what was tried is in ``ticket.metrics["goal"]``. Such a choice is as noisy as
            the validation split is small; ``fastglt frontier`` goes by several seeds and confirms.
        target_macs: Instead of sparsities: the lowest ones with so few multiply-accumulates an
            inference; below 1, a share of the dense model's.
        target_latency_ms: Instead of sparsities: the lowest ones at which an inference takes so few
            milliseconds, measured here on the kept graph with masked weights.
        axis: What these choose: ``"joint"`` prunes edges and weights in step (5 % of the remaining
            edges with 20 % of the remaining weights), ``"edges"`` or ``"weights"`` that side only,
            the other being as sparse as is given.
        resolution: How closely they look, in such steps.
        loader: Trains in mini-batches that a loader of your own yields: ``loader(data)`` is called
            with a graph, which may be a pruned one, and returns a PyG loader or any other sized
            iterable of batches for one pass over it. A batch has ``edge_index``; ``n_id``, the
            places of its nodes in the graph; ``e_id``, those of its edges, where these are scored
            by gradients; and ``batch_size`` if only its first nodes are predicted.
        checkpoint: Folder where the run is saved as it goes, so that it can be killed at any time.
            Two files in it take turns, each checked before it is believed. One process at a time
            may use it. SIGTERM then ends the run with a checkpoint, if this is the main thread.
        checkpoint_every: Seconds between two checkpoints; 0 saves after every epoch.
        resume: Go on from what is in the folder, if anything is. With the same arguments, versions
            and number of threads the ticket is, on the CPU, the one of a run that was never
            interrupted, bit by bit; its ``seconds`` are those of all processes. If the run was
            over, its ticket is returned at once.
        settings: Any other field of :class:`fastglt.Settings`.

    Raises:
        CheckpointError: If another process uses the folder, or what lies there is damaged, is of
            another run, or is there although ``resume`` is false.
        InputError: If an argument, the graph or the model cannot be used; its subclasses say
            which.
        NonFiniteLossError: If a loss becomes NaN or infinite.
        Terminated: If SIGTERM ended a run with a checkpoint.

    Warns:
        UserWarning: The two directions of an undirected edge disagree, so that the graph is
            treated as directed; ``ticket.metrics["notes"]`` says so too.
    """
    own_teacher = teacher if isinstance(teacher, nn.Module | Tensor) else None
    if teacher is not None:
        settings["teacher"] = teacher if own_teacher is None else GIVEN
    if loader is not None and settings.setdefault("sampler", GIVEN) != GIVEN:
        raise InputError(
            f"sampler must be left out with a loader of your own (got {settings['sampler']!r})"
        )
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
    chosen = make_task(task, data, metric=metric)
    init = None if init is None else uncompiled_names(init)
    callback = callback or Callback()
    finder = partial(
        Finder,
        uncompiled(model),
        data,
        chosen,
        init=init,
        callback=callback,
        narrow=narrow,
        teacher=own_teacher,
        loader=loader,
    )
    goal = Goal.of(
        {
            "max_drop": max_drop,
            "target_macs": target_macs,
            "target_latency_ms": target_latency_ms,
        },
        axis,
        resolution,
    )

    run = partial(_run, finder, resolved, chosen, goal, callback)
    if checkpoint is None:
        if resume:
            raise InputError("resume=True needs the folder of the checkpoint: pass checkpoint=")
        return run(NO_CHECKPOINT)
    if not checkpoint_every >= 0:
        raise InputError(f"checkpoint_every must be at least 0 (got {checkpoint_every})")
    if loader is not None:
        raise InputError(
            "checkpoint must be left out with a loader of your own, of which a checkpoint cannot "
            "hold where it is; sampler='neighbor' can be resumed"
        )
    asked = {
        "ranks": Ranks.current().size,
        "method_version": METHOD_VERSION,
        "settings": resolved.model_dump(mode="json"),
        "task": chosen.record(),
        "goal": None if goal is None else asdict(goal),
    }
    describe = partial(identity_of, asked, uncompiled(model), data, init, own_teacher)
    with opened(checkpoint, describe, every=checkpoint_every, resume=resume) as session:
        return session.ticket or session.finish(run(session.recorder))


def _run(
    finder: Callable[..., Finder],
    settings: Settings,
    task: Task,
    goal: Goal | None,
    callback: Callback,
    progress: Progress,
) -> Ticket:
    """A run from its start or from where it was, told to the callback."""
    recorded = partial(finder, progress=progress)
    started = settings.model_dump(mode="json") | {"task": task.record()}
    try:
        if goal is None:
            callback.on_run_start(started)
            ticket = recorded(settings).run()
        else:
            callback.on_run_start(started | {"goal": asdict(goal)})
            ticket = GoalFinder(recorded, settings, goal, progress).run()
    except BaseException as error:
        callback.on_error(error)
        raise
    callback.on_run_end(ticket.metrics)
    return ticket
