"""Sparse inputs: features and adjacency as CSR matrices, where that changes nothing but the time.

PyG's convs take both natively. Each form is used only if a probe in eval mode, on the whole graph
or a random part of its edges, gives the same outputs and weight gradients as the plain tensors up
to rounding, and if the model can be called with it in training mode too.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import MessagePassing

from fastglt._csr import ignore_csr_warnings
from fastglt.gating import keep_edges, takes_edge_attr
from fastglt.training.dropout import without_dropout
from fastglt.training.field import Field
from fastglt.training.focus import proven_reach
from fastglt.training.known_graph import KnownGraph
from fastglt.training.rows import take_rows
from fastglt.training.seeding import seeded
from fastglt.training.served import is_served
from fastglt.training.task import ADJACENCY, Task

MAX_DENSITY = 0.05
"""Features with a larger share of non-zeros are left dense: a dense product is as fast."""
EDGE_PLACE = "edge_place"
"""Where :func:`with_edge_places` puts the place of each edge in the graph it was called on."""
PROBED_NODES, PROBED_EDGES = 4096, 50_000
"""Numbers of nodes and edges of a probe, at most: on a large graph each pass costs as much as an
epoch, and forms differ by what a conv does with an edge or a node, not by how many there are."""
_FIRST_NODES = 16
"""Number of training nodes, and of validation nodes, that a probe begins with."""


def with_sparse_inputs(model: nn.Module, data: Data, task: Task) -> Data:
    """``data`` with ``x`` in CSR form and with an adjacency matrix, whichever prove equal.

    A model that cannot take one of them keeps the plain tensor; ``edge_index`` always stays. The
    adjacency matrix is tried only if the task passes it on and a conv of the model has a fused form
    for it. A batch of graphs stays as it is, since graphs cannot be taken out of a CSR matrix.
    """
    if isinstance(data, Batch):
        return data
    forms = list(_forms(model, data, task))
    if not forms:
        return data
    plain = probed(model, data, task)
    reference = _reference(model, plain, task)
    for form in forms:
        if _is_equal(*reference, form, task):
            result = form(data)
            if ADJACENCY in result:
                known = result[ADJACENCY]
                known.reach = proven_reach(model, form(plain), task)
                if result.x is not data.x and not _takes_sparse_x(model, plain, task):
                    known.plain_x = data.x
            return result
    return data


def _forms(model: nn.Module, data: Data, task: Task) -> Iterator[Callable[[Data], Data]]:
    """The forms of the inputs that are worth a try, the best first."""
    sparse = with_sparse_features(data) is not data
    convs = [module for module in model.modules() if isinstance(module, MessagePassing)]
    served = [is_served(conv) for conv in convs]
    # Edge attributes would have to follow the order of the matrix.
    reads_attributes = data.get("edge_attr") is not None and takes_edge_attr(model)
    passes = task.passes_adjacency and not reads_attributes
    tokens = [True] if convs and all(served) else []
    if any(served) or any(conv.fuse for conv in convs):
        tokens.append(False)
    adjacencies = [functools.partial(with_adjacency, is_token=token) for token in tokens if passes]
    if sparse:
        yield from (functools.partial(_with_both, adjacency) for adjacency in adjacencies)
        yield _with_csr_features
    yield from adjacencies


@torch.no_grad()
def _takes_sparse_x(model: nn.Module, plain: Data, task: Task) -> bool:
    """Whether a model takes CSR features together with ``edge_index``."""
    model = copy.deepcopy(model).eval()
    expected = task.encode(model, plain)
    try:
        actual = task.encode(model, _with_csr_features(plain))
    except Exception:  # noqa: BLE001 - a model may raise anything on a form it does not know
        return False
    return _are_close(actual, expected)


def _with_both(adjacency: Callable[[Data], Data], data: Data) -> Data:
    return adjacency(_with_csr_features(data))


def with_sparse_features(data: Data) -> Data:
    """``data`` with ``x`` in CSR form if at most :data:`MAX_DENSITY` of it is non-zero."""
    x: Tensor | None = data.get("x")
    if x is None:
        return data
    if x.layout != torch.strided or float((x != 0).to(torch.float32).mean()) > MAX_DENSITY:
        return data
    return _with_csr_features(data)


def _with_csr_features(data: Data) -> Data:
    sparse = copy.copy(data)
    with ignore_csr_warnings():
        sparse.x = data.x.to_sparse_csr()
    return sparse


def with_adjacency(data: Data, is_token: bool = False) -> Data:
    """``data`` with a :class:`KnownGraph` under :data:`ADJACENCY`.

    :meth:`Task.call` prefers its matrix to ``edge_index``.
    """
    result = copy.copy(data)
    result[ADJACENCY] = KnownGraph(data, is_token)
    return result


def with_edge_places(data: Data) -> Data:
    """``data`` whose edges know their place ``[num_edges]``, also in views with fewer of them."""
    result = copy.copy(data)
    result[EDGE_PLACE] = torch.arange(data.num_edges, device=data.edge_index.device)
    return result


def kept_view(data: Data, keep: Tensor) -> Data:
    """:func:`keep_edges`, with an adjacency matrix of the kept edges if ``data`` has one.

    Args:
        data: The graph; it is not changed.
        keep: ``[num_edges]`` bool.
    """
    if bool(keep.all()):
        return copy.copy(data)
    if ADJACENCY not in data:
        return keep_edges(data, keep)
    plain = copy.copy(data)
    del plain[ADJACENCY]
    kept = keep_edges(plain, keep)
    kept[ADJACENCY] = data[ADJACENCY].like(kept)
    return kept


def probed(model: nn.Module, data: Data, task: Task) -> Data:
    """A part of ``data`` that is enough to see what a model does with a graph.

    It has at most :data:`PROBED_NODES` nodes, which keep their order, some of the training and
    validation nodes among them, or all nodes if the model insists; and of their edges the
    self-loops and at most :data:`PROBED_EDGES` random others.

    Args:
        model: The model; it is not changed.
        data: The graph.
        task: Calls the model.
    """
    part = _some_nodes(data)
    if part is not data:
        try:
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


def _some_nodes(data: Data) -> Data:
    num_nodes = int(data.num_nodes)
    if num_nodes <= PROBED_NODES or data.get("x") is None:
        return data
    first = torch.zeros(num_nodes, dtype=torch.bool, device=data.edge_index.device)
    first[0] = True
    for mask in (data.get("train_mask"), data.get("val_mask")):
        if isinstance(mask, Tensor) and mask.shape == first.shape:
            first[mask.nonzero().view(-1)[:_FIRST_NODES]] = True
    near = Field.of(data.edge_index, first, num_convs=2).order[:PROBED_NODES]
    inside = torch.zeros_like(first)
    inside[near] = True
    place = inside.cumsum(0) - 1
    part = keep_edges(data, inside[data.edge_index].all(dim=0))
    part.edge_index = place[part.edge_index]
    rows = inside.nonzero().view(-1)
    for name in data.node_attrs():
        if isinstance(data[name], Tensor):
            part[name] = take_rows(data[name], rows)
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
    tolerance = max(1e-5 * _scale(expected), floor, 1e-35)
    is_finite = bool(expected.isfinite().all())
    return is_finite and torch.allclose(actual, expected, rtol=1e-3, atol=tolerance)


def _scale(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0


def _reference(model: nn.Module, data: Data, task: Task) -> tuple[nn.Module, Data, list[Tensor]]:
    """A model, a graph and what the one gives on the other, in double precision if it can.

    In a deep model rounding alone makes larger differences than are let pass.
    """
    try:
        exact, given = copy.deepcopy(model).double(), copy.copy(data)
        for key, value in data.to_dict().items():
            if isinstance(value, Tensor) and value.is_floating_point():
                given[key] = value.double()
        return exact, given, _probe(exact, given, task)
    except Exception:  # noqa: BLE001 - a model may insist on its own precision in any way
        return model, data, _probe(model, data, task)


def _probe(model: nn.Module, data: Data, task: Task) -> list[Tensor]:
    """Outputs in training mode, where some models change the edges, and in eval mode; gradients."""
    model = copy.deepcopy(model).train()
    with torch.no_grad(), seeded(0), without_dropout(model):
        trained = task.encode(model, data)
    out = task.encode(model.eval(), data)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(
        out.square().sum(), parameters, allow_unused=True, materialize_grads=True
    )
    return [trained, out.detach(), *gradients]
