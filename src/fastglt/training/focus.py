"""Predictions for some nodes only: those that a loss or a metric reads.

On a graph with few labels most of an epoch goes into hidden channels of nodes that no labelled
node depends on. Where a model is proven to be a chain of convs that can be served
(:mod:`fastglt.training.served`), each conv computes only what the next one reads.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import MessagePassing

from fastglt.training.dropout import without_dropout
from fastglt.training.field import Field
from fastglt.training.known_graph import KnownGraph, Reach, kept_view
from fastglt.training.rows import take_rows
from fastglt.training.seeding import seeded
from fastglt.training.served import is_served
from fastglt.training.task import ADJACENCY, Split, Task

WORTHWHILE = 0.8
"""A view must have at most this share of the rows that the convs would compute otherwise."""
_MOVED = 0.1
"""Standard deviation of what weights are moved by."""
_HALVINGS = 12
"""How often the edges of a probe are halved at most."""


def focused(data: Data, task: Task, split: Split) -> Data:
    """``data`` as far as a split's loss and metric depend on it.

    Args:
        data: A graph that came through :func:`fastglt.training.inputs.with_sparse_inputs`.
        task: What is predicted.
        split: The split whose predictions are wanted; for ``"train"``, also in training mode.

    Returns:
        A view on which the model returns one row a wanted node, and whose labels and masks have as
        many rows; or ``data`` itself, where nothing is proven of the model or little would be won.
    """
    known = data.get(ADJACENCY)
    if known is None or known.reach is None or not known.is_of(data):
        return data
    if split == "train" and not known.reach.in_training:
        return data
    wanted = task.reads(data, split)
    if wanted is None:
        return data
    field = Field.of(data.edge_index, wanted, known.reach.num_convs)
    if sum(field.sizes) > WORTHWHILE * len(field.sizes) * len(wanted):
        return data
    return _restricted(data, field)


def proven_reach(model: nn.Module, data: Data, task: Task) -> Reach | None:
    """What holds of a model: whether its predictions for some nodes can be computed alone.

    Outputs, losses, metrics and gradients of a copy with moved weights are compared, in double
    precision; in training mode without dropout.

    Args:
        model: The model; it is not changed.
        data: The graph, with a :class:`KnownGraph`.
        task: Calls the model.
    """
    convs = [module for module in model.modules() if isinstance(module, MessagePassing)]
    if not convs or not all(map(is_served, convs)) or task.reads(data, "train") is None:
        return None
    if type(task).batch is not Task.batch or type(task).num_batches is not Task.num_batches:
        return None
    try:
        # On a GPU an index that is out of a view's range could not be caught.
        model, data = moved(model).double().cpu(), _in_double(data)
        known = data[ADJACENCY]
        task.encode(model.eval(), data)
        num_convs = known.num_calls
        known.reach = Reach(num_convs, in_training=True)
        if not _is_equal(model.eval(), data, task, "val"):
            return None
        in_training = _is_equal(model.train(), data, task, "train")
        return Reach(num_convs, in_training and _draws_nothing(model, data, task))
    except Exception:  # noqa: BLE001 - a model or task may raise anything on fewer nodes
        return None


def rows_of_nodes(data: Data, name: str, nodes: Tensor) -> Tensor:
    """Some rows of an attribute of the nodes.

    Raises:
        ValueError: If it has something else than nodes in its rows.
    """
    value: Tensor = data[name]
    if value.size(0) != data.num_nodes or data.__cat_dim__(name, value) != 0:
        raise ValueError(f"data.{name} must have one row a node")
    return take_rows(value, nodes)


def _restricted(data: Data, field: Field) -> Data:
    rows = field.order[: field.sizes[-1]]
    result = copy.copy(data)
    for name in data.node_attrs():
        if isinstance(data[name], Tensor) and name != "x":
            result[name] = rows_of_nodes(data, name, rows)
    view: KnownGraph = data[ADJACENCY].like(data, field)
    result.x = view.x
    result[ADJACENCY] = view
    return result


def _is_equal(model: nn.Module, data: Data, task: Task, split: Split) -> bool:
    """Whether a view gives what the whole graph gives, on a graph where that tells something."""
    thinned = _thinned(data, task, split)
    if thinned is None:
        return False
    data, field = thinned
    wanted = task.reads(data, split)
    expected = _figures(model, data, task, split, lambda out: out[wanted])
    actual = _figures(model, _restricted(data, field), task, split, lambda out: out)
    return all(
        a.shape == b.shape and torch.allclose(a, b, rtol=1e-7, atol=1e-9)
        for a, b in zip(actual, expected, strict=True)
    )


def _thinned(data: Data, task: Task, split: Split) -> tuple[Data, Field] | None:
    """A graph with so few of the edges that each conv reads more nodes than the next, but not all.

    Elsewhere a model that reads other nodes might go unnoticed.
    """
    wanted = task.reads(data, split)
    if wanted is None or not bool(wanted.any()):
        return None
    noise = torch.rand(data.num_edges, generator=torch.Generator().manual_seed(0))
    for halvings in range(_HALVINGS):
        part = kept_view(data, noise < 0.5**halvings)
        field = Field.of(part.edge_index, wanted, data[ADJACENCY].reach.num_convs)
        sizes = (len(wanted), *field.sizes)
        if all(more > fewer for more, fewer in pairwise(sizes)):
            return part, field
    return None


@torch.no_grad()
def _draws_nothing(model: nn.Module, data: Data, task: Task) -> bool:
    """Whether nothing but dropout draws random numbers in training mode.

    A model that leaves out a layer now and then is no chain.
    """
    with seeded(0), without_dropout(model):
        before = torch.get_rng_state()
        task.encode(model, data)
        return torch.equal(before, torch.get_rng_state())


def _figures(
    model: nn.Module, data: Data, task: Task, split: Split, rows: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """Predictions, loss, its gradients and, in eval mode, the metric."""
    model.zero_grad()
    with seeded(0), without_dropout(model):
        out = task.forward(model, data)
        loss = task.loss(out, data, split)
        loss.backward()  # type: ignore[no-untyped-call]
    gradients = (p.grad if p.grad is not None else p.new_zeros(()) for p in model.parameters())
    figures = [rows(out).detach(), loss.detach(), *(gradient.clone() for gradient in gradients)]
    if split != "train":
        figures.append(torch.tensor(task.metric(out.detach(), data, split)))
    return figures


def moved(model: nn.Module) -> nn.Module:
    """A copy with other weights, lest zero-initialised ones hide something."""
    result = copy.deepcopy(model)
    with seeded(0), torch.no_grad():
        for parameter in result.parameters():
            if parameter.is_floating_point():
                parameter.add_(torch.randn_like(parameter), alpha=_MOVED)
    return result


def _in_double(data: Data) -> Data:
    result = copy.copy(data)
    if data.edge_index.device.type != "cpu":
        result = result.to("cpu")
    for name in ("x", "edge_weight"):
        value = result.get(name)
        if isinstance(value, Tensor) and value.is_floating_point():
            result[name] = value.double()
    result[ADJACENCY] = data[ADJACENCY].like(result)
    return result
