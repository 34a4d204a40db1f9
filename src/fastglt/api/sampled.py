"""Whether and how a run trains in mini-batches."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import MessagePassing

from fastglt.errors import InputError
from fastglt.gating import averaging_convs
from fastglt.settings import Settings
from fastglt.training.inputs import probed
from fastglt.training.known_graph import kept_view
from fastglt.training.minibatch import MiniBatch
from fastglt.training.parts import LoaderFactory, Sampling
from fastglt.training.probe import forward_errors
from fastglt.training.ranks import Ranks
from fastglt.training.task import Task
from fastglt.training.tasks import LinkPrediction

DEFAULT_BATCH_SIZE = 1024
"""Nodes in a step (PyG's examples)."""
PROBED_NODES = 128
"""On whose neighbourhoods a model is called to see what its convs do."""


def in_parts(
    task: Task, model: nn.Module, data: Data, settings: Settings, loader: LoaderFactory | None
) -> tuple[Task, list[str]]:
    """The task on parts of the graph, if the settings ask for that.

    Args:
        task: What is predicted.
        model: The model, initialised.
        data: The graph, as the task prepares it.
        settings: All settings.
        loader: Makes the user's own batches.

    Returns:
        The task, and notes on how parts of the graph fit the model.

    Raises:
        InputError: If the task or the model cannot be trained on parts, or several processes share
            a search that is not made of parts.
    """
    if settings.sampler == "none":
        if Ranks.current().size > 1:
            raise InputError(
                "several processes share a search by its mini-batches: choose one, such as "
                "--sampler neighbor"
            )
        return task, []
    if settings.sampler == "given" and loader is None:
        raise InputError("sampler must be left out, or loader= given (got sampler='given')")
    if isinstance(data, Batch):
        raise InputError(
            f"sampler must be 'none' for a batch of graphs (got {settings.sampler!r}): its steps "
            "take some of the graphs anyway"
        )
    batch_size = settings.batch_size or DEFAULT_BATCH_SIZE
    if isinstance(task, LinkPrediction):
        if settings.sampler != "neighbor":
            raise InputError(
                "sampler must be 'neighbor' for link prediction, whose batches are pairs (got "
                f"{settings.sampler!r})"
            )
        task = copy.copy(task)
        task.batch_size = settings.batch_size or task.batch_size or DEFAULT_BATCH_SIZE
    sampling = Sampling(
        settings.sampler,
        settings.fanout,
        batch_size,
        settings.num_clusters,
        settings.batch_clusters,
        loader,
    )
    for name, module in model.named_modules():
        if isinstance(module, MessagePassing) and module.flow != "source_to_target":
            raise InputError(
                f"sampler must be 'none' for {type(module).__name__} {name!r} with flow="
                f"{module.flow!r}: parts of a graph have the edges into a node; reverse the graph"
            )
    averaging = _averaging(model, data, task)
    in_batches = MiniBatch(
        task,
        sampling,
        task.gates_edge_weight(model),
        settings.seed,
        loop_weight=_loop_weight(model),
        averages=any(averaging),
    )
    return in_batches, _notes(model, settings, averaging)


def _notes(model: nn.Module, settings: Settings, averaging: list[bool]) -> list[str]:
    notes = []
    convs = sum(isinstance(module, MessagePassing) for module in model.modules())
    if settings.sampler == "neighbor" and len(settings.fanout) != convs:
        notes.append(
            f"fanout has {len(settings.fanout)} hops and the model {convs} convs: with fewer hops "
            "a prediction misses messages in training, with more some are drawn in vain"
        )
    if len({*averaging}) > 1:
        notes.append(
            "some convs of the model average their messages and others sum them: in parts of the "
            "graph edges weigh what is right for averages, and sums are smaller than they would be"
        )
    return notes


def _averaging(model: nn.Module, data: Data, task: Task) -> list[bool]:
    """Which convs average their messages, as a part of the graph shows."""
    part = probed(model, data, task, PROBED_NODES)
    if part.num_edges == part.num_nodes:  # what belongs to which is told by their numbers
        part = kept_view(part, torch.arange(part.num_edges, device=part.edge_index.device) > 0)
    with forward_errors():
        weighted = task.gates_edge_weight(model)
        return averaging_convs(model, lambda model: task.encode(model, part), weighted)


def _loop_weight(model: nn.Module) -> float:
    """Of the self-loops that GCN's normalisation adds (``gcn_norm`` of PyG)."""
    for module in model.modules():
        if isinstance(module, MessagePassing) and hasattr(module, "add_self_loops"):
            if not module.add_self_loops:
                return 0.0
            return 2.0 if getattr(module, "improved", False) else 1.0
    return 1.0
