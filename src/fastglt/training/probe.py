"""What can be told of a model by calling untrained copies of it, at most on part of the edges."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.errors import FastGLTError, ModelError
from fastglt.gating import keep_edges
from fastglt.training.focus import moved
from fastglt.training.inputs import probed, with_few_edges
from fastglt.training.seeding import seeded
from fastglt.training.task import Task

NO_EDGES = (
    "the model's output does not depend on the edges: it ignores them, or keeps something of a "
    "graph that it was called with before"
)


@contextmanager
def forward_errors() -> Iterator[None]:
    """Name whatever a user's model raises, within the context.

    Raises:
        ModelError: In place of any exception that is not one of ours.
    """
    try:
        yield
    except FastGLTError:
        raise
    except Exception as error:  # the user's code may raise anything
        described = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise ModelError(f"the model's forward raised {described}") from error


@torch.no_grad()
def check_training_output(model: nn.Module, data: Data, task: Task, num_outputs: int) -> None:
    """Call a copy of the model in training mode to see that its output is usable there too.

    Args:
        model: The model; it is not changed.
        data: The whole graph.
        task: Calls the model.
        num_outputs: What :meth:`fastglt.Task.validate` returned.

    Raises:
        ModelError: If the call fails or returns something else.
    """
    model = copy.deepcopy(model).train()
    try:
        with seeded(0), forward_errors():
            out = task.forward(model, with_few_edges(data))
        task.check_output(out, data, num_outputs)
    except ModelError as error:
        raise ModelError(f"in training mode {error}") from error


def check_follows_edges(model: nn.Module, data: Data, task: Task) -> str | None:
    """Refuse a model that keeps something of the graph that it was first called with.

    Args:
        model: The model, not called yet; it is not changed.
        data: The whole graph.
        task: Calls the model.

    Returns:
        :data:`NO_EDGES` if edges make no difference to the output.

    Raises:
        ModelError: If the output on some edges is another after a call on other edges.
    """
    many = probed(model, data, task)
    few = _without_half(many)
    if few.num_edges == many.num_edges:
        return None
    with forward_errors():
        (expected,) = _outputs(model, task, few)
    try:
        before, actual = _outputs(model, task, many, few)
    except Exception as error:  # such as messages that do not fit a cached normalisation
        raise ModelError(_KEEPS_GRAPH) from error
    if not _are_close(actual, expected):
        # Not so if it draws random numbers from somewhere else than torch.
        if _are_close(_outputs(model, task, few)[0], expected):
            raise ModelError(_KEEPS_GRAPH)
        return None
    return NO_EDGES if torch.equal(before, expected) else None


def check_uses_edge_weight(model: nn.Module, data: Data, task: Task) -> None:
    """Refuse a model that takes ``edge_weight`` and does nothing with it.

    Args:
        model: The model; it is not changed.
        data: The whole graph.
        task: Calls the model.

    Raises:
        ModelError: If no gradient reaches the edge weights.
    """
    data = probed(model, data, task)
    gate = torch.ones(data.num_edges, device=data.edge_index.device, requires_grad=True)
    with forward_errors():
        out = task.encode(copy.deepcopy(model).eval(), data, gate)
    gradient = None
    if out.requires_grad:
        (gradient,) = torch.autograd.grad(out.sum(), gate, allow_unused=True)
    if gradient is None:
        raise ModelError(
            "edge_values='learned' needs a model that uses the edge_weight that it takes "
            f"(got {type(model).__name__}, whose output does not depend on it); use "
            "edge_values='binary'"
        )


@torch.no_grad()
def _outputs(model: nn.Module, task: Task, *graphs: Data) -> list[Tensor]:
    """What one copy of the model, in eval mode, gives on graphs one after the other."""
    model = moved(model).eval()
    outputs = []
    for graph in graphs:
        with seeded(0):
            outputs.append(task.encode(model, graph))
    return outputs


def _without_half(data: Data) -> Data:
    """``data`` without about half of its edges; pairs stay together, and so do self-loops."""
    source, target = data.edge_index
    noise = torch.rand(int(data.num_nodes), generator=torch.Generator().manual_seed(0))
    value = noise.to(source.device)[data.edge_index].sum(dim=0)
    proper = source != target
    if not bool(proper.any()):
        return data
    return keep_edges(data, ~proper | (value > value[proper].median()))


def _are_close(actual: Tensor, expected: Tensor) -> bool:
    if actual.shape != expected.shape:
        return False
    scale = expected.abs().nan_to_num(0.0, 0.0, 0.0).amax() if expected.numel() else 0.0
    return torch.allclose(actual, expected, rtol=1e-3, atol=1e-5 * float(scale), equal_nan=True)


_KEEPS_GRAPH = (
    "the model must compute everything from the edges that it is called with: on some of the edges "
    "its output is another after a call on all of them, so it keeps something of the graph that it "
    "was first called with (such as a normalised adjacency) and would ignore a pruned one"
)
