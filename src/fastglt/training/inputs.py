"""Sparse inputs: features and adjacency as CSR matrices, where that changes nothing but the time.

PyG's convs take both natively, and some are served (:mod:`fastglt.training.served`). Each form is
used only if it proves equal on the model itself: a copy with moved weights is called, on a part of
the graph and in double precision, in training mode without dropout and in eval mode, and gives the
same outputs and weight gradients as with the plain tensors up to rounding.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import MessagePassing

from fastglt._csr import ignore_csr_warnings
from fastglt.gating import accepts_keyword, keep_edges, takes_edge_attr
from fastglt.masks import stable_sort
from fastglt.training.dropout import without_dropout
from fastglt.training.field import Field
from fastglt.training.focus import moved, proven_reach, rows_of_nodes
from fastglt.training.known_graph import KnownGraph, kept_view
from fastglt.training.seeding import seeded
from fastglt.training.served import is_served
from fastglt.training.task import ADJACENCY, EDGE_PLACE, PART, Task

MAX_DENSITY = 0.05
"""Features with a larger share of non-zeros are left dense: a dense product is as fast."""
PROBED_NODES, PROBED_EDGES = 4096, 50_000
"""Numbers of nodes and edges of a probe, at most: on a large graph each pass costs as much as an
epoch, and forms differ by what a conv does with an edge or a node, not by how many there are."""
_FIRST = 16
"""Number of training nodes, validation nodes, edges and self-loops that a probe begins with."""


def with_sparse_inputs(model: nn.Module, data: Data, task: Task) -> Data:
    """``data`` with ``x`` in CSR form and with an adjacency matrix, whichever prove equal.

    A model that cannot take one of them keeps the plain tensor; ``edge_index`` always stays. The
    adjacency matrix is tried only if the task passes it on and a conv of the model is served or has
    a fused form for it. A batch of graphs stays as it is, since graphs cannot be taken out of a CSR
    matrix.
    """
    if isinstance(data, Batch):
        return data
    forms = _forms(model, data, task)
    first = next(forms, None)
    if first is None:
        return data
    # A model that fails on a part of the nodes may do with all of them.
    parts: list[Callable[[], Data]] = [
        functools.partial(probed, model, data, task),
        functools.partial(with_few_edges, data),
    ]
    for part in parts:
        plain = part()
        with suppress(Exception):  # a model may raise anything where it is probed
            reference = _reference(model, plain, task)
            break
    else:
        return data
    for form in chain([first], forms):
        if _is_equal(*reference, form, task):
            formed = form(plain)
            if _runs(model, formed, task):
                return _with_proofs(model, plain, formed, data.get("x"), form(data), task)
    return data


def _with_proofs(
    model: nn.Module, plain: Data, form: Data, whole_x: Tensor | None, result: Data, task: Task
) -> Data:
    """``result``, whose adjacency matrix knows what else holds of the model.

    Args:
        model: The model.
        plain: The part of the graph that was probed.
        form: Its form.
        whole_x: The features of the whole graph as they were given.
        result: The form of the whole graph.
        task: Calls the model.
    """
    if ADJACENCY in result:
        known: KnownGraph = result[ADJACENCY]
        known.reach = proven_reach(model, form, task)
        if form.x is not plain.x and not _takes_sparse_x(model, plain, task):
            known.plain_x = whole_x
    return result


def _forms(model: nn.Module, data: Data, task: Task) -> Iterator[Callable[[Data], Data]]:
    """The forms of the inputs that are worth a try, the best first."""
    convs = [module for module in model.modules() if isinstance(module, MessagePassing)]
    served = [is_served(conv) for conv in convs]
    # Edge attributes would have to follow the order of the matrix.
    reads_attributes = data.get("edge_attr") is not None and takes_edge_attr(model)
    passes = task.passes_adjacency and not reads_attributes
    weighted = accepts_keyword(model, "edge_weight")
    # A matrix holds an edge once, and a part of the graph may not show that it is there twice.
    # Sorting a large graph to see that takes seconds, so it is put off.
    holds_all_edges = functools.cache(lambda: not _has_duplicates(data))

    def adjacencies() -> Iterator[Callable[[Data], Data]]:
        if passes and convs and all(served):
            yield functools.partial(with_adjacency, is_token=True, weighted=weighted)
        is_fused = any(served) or any(conv.fuse for conv in convs)
        if passes and is_fused and holds_all_edges():
            yield functools.partial(with_adjacency, weighted=weighted)

    if _has_sparse_features(data):
        yield from (functools.partial(_with_both, adjacency) for adjacency in adjacencies())
        yield _with_csr_features
    yield from adjacencies()


def _has_duplicates(data: Data) -> bool:
    num_nodes = int(data.num_nodes)
    key, _ = stable_sort(data.edge_index[0] * num_nodes + data.edge_index[1], num_nodes**2)
    return bool((key[1:] == key[:-1]).any())


@torch.no_grad()
def _takes_sparse_x(model: nn.Module, plain: Data, task: Task) -> bool:
    """Whether a model takes CSR features together with ``edge_index``."""
    try:
        model = copy.deepcopy(model).eval()
        expected = task.encode(model, plain)
        return _are_close(task.encode(model, _with_csr_features(plain)), expected)
    except Exception:  # noqa: BLE001 - a model may raise anything on a form it does not know
        return False


def _runs(model: nn.Module, data: Data, task: Task) -> bool:
    """Whether a model can be trained on a form of the inputs in its own precision."""
    try:
        return all(bool(figure.isfinite().all()) for figure in _probe(model, data, task))
    except Exception:  # noqa: BLE001 - a model may raise anything on a form it does not know
        return False


def _with_both(adjacency: Callable[[Data], Data], data: Data) -> Data:
    return adjacency(_with_csr_features(data))


def with_sparse_features(data: Data) -> Data:
    """``data`` with ``x`` in CSR form if at most :data:`MAX_DENSITY` of it is non-zero."""
    return _with_csr_features(data) if _has_sparse_features(data) else data


def _has_sparse_features(data: Data) -> bool:
    x: Tensor | None = data.get("x")
    if x is None or x.layout != torch.strided:
        return False
    return float((x != 0).to(torch.float32).mean()) <= MAX_DENSITY


def _with_csr_features(data: Data) -> Data:
    sparse = copy.copy(data)
    with ignore_csr_warnings():
        sparse.x = data.x.to_sparse_csr()
    return sparse


def with_adjacency(data: Data, is_token: bool = False, weighted: bool = True) -> Data:
    """``data`` with a :class:`KnownGraph` under :data:`ADJACENCY`.

    :meth:`Task.call` prefers its matrix to ``edge_index``.
    """
    result = copy.copy(data)
    result[ADJACENCY] = KnownGraph(data, is_token, weighted=weighted)
    return result


def with_edge_places(data: Data) -> Data:
    """``data`` whose edges know their place ``[num_edges]``, also in views with fewer of them."""
    result = copy.copy(data)
    result[EDGE_PLACE] = torch.arange(data.num_edges, device=data.edge_index.device)
    return result


def at_places(values: Tensor, data: Data) -> Tensor:
    """``[num_edges]`` values of a view's edges, 1 for those that it has in addition.

    Args:
        values: One for each edge of the graph that :func:`with_edge_places` was called on.
        data: A view of it.
    """
    place: Tensor = data[EDGE_PLACE]
    if PART not in data:
        return values[place]
    return torch.where(place >= 0, values[place.clamp_min(0)], 1.0)


def probed(model: nn.Module, data: Data, task: Task, num_nodes: int | None = None) -> Data:
    """A part of ``data`` that is enough to see what a model does with a graph.

    It has at most ``num_nodes`` nodes, which keep their order, some of the training and validation
    nodes among them, or all nodes if the model insists; and of their edges the self-loops and at
    most :data:`PROBED_EDGES` random others.

    Args:
        model: The model; it is not changed.
        data: The graph.
        task: Calls the model.
        num_nodes: At most so many nodes; by default :data:`PROBED_NODES`.
    """
    try:
        part = _some_nodes(data, PROBED_NODES if num_nodes is None else num_nodes)
        if part is not data:
            with torch.no_grad():
                out = task.encode(copy.deepcopy(model).eval(), part)
            data = part if out.size(0) == part.num_nodes else data
    except Exception:  # noqa: BLE001 - a model may know its graph's nodes and raise anything
        pass
    return with_few_edges(data)


def with_few_edges(data: Data) -> Data:
    """``data`` with at most :data:`PROBED_EDGES` random edges and all self-loops."""
    edge_index = data.edge_index
    keep = torch.ones(edge_index.size(1), dtype=torch.bool, device=edge_index.device)
    if len(keep) > PROBED_EDGES:
        noise = torch.rand(len(keep), generator=torch.Generator().manual_seed(0))
        keep = (noise < PROBED_EDGES / len(keep)).to(keep.device)
        keep |= edge_index[0] == edge_index[1]
    return kept_view(data, keep)


def _some_nodes(data: Data, most: int) -> Data:
    num_nodes, edge_index = int(data.num_nodes), data.edge_index
    # On a GPU an index that is out of the part's range could not be caught.
    if num_nodes <= most or data.get("x") is None or edge_index.device.type != "cpu":
        return data
    first = torch.zeros(num_nodes, dtype=torch.bool)
    loops = (edge_index[0] == edge_index[1]).nonzero().view(-1)
    first[edge_index[:, :_FIRST]] = True
    first[edge_index[0, loops[:_FIRST]]] = True
    for mask in (data.get("train_mask"), data.get("val_mask")):
        if isinstance(mask, Tensor) and mask.shape == first.shape:
            first[mask.nonzero().view(-1)[:_FIRST]] = True
    near = Field.of(edge_index, first, num_convs=3).order[:most]
    inside = torch.zeros_like(first)
    inside[near] = True
    others = (~inside).nonzero().view(-1)
    inside[others[: most - len(near)]] = True
    place = inside.cumsum(0) - 1
    part = keep_edges(data, inside[edge_index].all(dim=0))
    part.edge_index = place[part.edge_index]
    rows = inside.nonzero().view(-1)
    for name in data.node_attrs():
        if isinstance(data[name], Tensor):
            part[name] = rows_of_nodes(data, name, rows)
    part.num_nodes = len(rows)
    return part


def _is_equal(
    model: nn.Module,
    plain: Data,
    expected: list[Tensor],
    form: Callable[[Data], Data],
    task: Task,
) -> bool:
    """Whether a form of the inputs changes no output and no weight gradient."""
    sparse = form(plain)
    try:
        actual = _probe(model, sparse, task)
    except Exception:  # noqa: BLE001 - a model may raise anything on a form it does not know
        return False
    # A gradient that is 0 but for rounding has no scale of its own.
    floor = 1e-12 * max(_scale(figure) for figure in expected)
    return all(_are_close(a, b, floor) for a, b in zip(actual, expected, strict=True))


def _are_close(actual: Tensor, expected: Tensor, floor: float = 0.0) -> bool:
    if actual.shape != expected.shape or not bool(expected.isfinite().all()):
        return False
    tolerance = max(1e-5 * _scale(expected), floor, 1e-35)
    return torch.allclose(actual, expected, rtol=1e-3, atol=tolerance)


def _scale(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0


def _reference(model: nn.Module, data: Data, task: Task) -> tuple[nn.Module, Data, list[Tensor]]:
    """A model, a graph and what the one gives on the other, in double precision if it can.

    In a deep model rounding alone makes larger differences than are let pass.
    """
    try:
        exact, given = moved(model).double(), copy.copy(data)
        for key, value in data.to_dict().items():
            if isinstance(value, Tensor) and value.is_floating_point():
                given[key] = value.double()
        return exact, given, _probe(exact, given, task)
    except Exception:  # noqa: BLE001 - a model may insist on its own precision in any way
        model = moved(model)
        return model, data, _probe(model, data, task)


def _probe(model: nn.Module, data: Data, task: Task) -> list[Tensor]:
    """Outputs and weight gradients in training mode, then in eval mode.

    Some models change the edges in the former. Gradients are taken as a training step takes them,
    when the model has long returned.
    """
    model, figures = copy.deepcopy(model), []
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for mode in (True, False):
        model.train(mode)
        model.zero_grad()
        with seeded(0), without_dropout(model):
            out = task.encode(model, data)
            out.square().sum().backward()  # type: ignore[no-untyped-call]
        gradients = (p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters)
        figures += [out.detach(), *(gradient.clone() for gradient in gradients)]
    return figures
