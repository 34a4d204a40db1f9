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
from fastglt.training.focus import proven_reach
from fastglt.training.known_graph import KnownGraph
from fastglt.training.seeding import seeded
from fastglt.training.served import is_served
from fastglt.training.task import ADJACENCY, Task

MAX_DENSITY = 0.05
"""Features with a larger share of non-zeros are left dense: a dense product is as fast."""


EDGE_PLACE = "edge_place"
"""Where :func:`with_edge_places` puts the place of each edge in the graph it was called on."""
PROBED_EDGES = 50_000
"""Number of edges of a probe, at most: a per-edge pass over a large graph costs as much as a whole
epoch, and the two forms differ by what a conv does with an edge, not by how many there are."""


def with_sparse_inputs(model: nn.Module, data: Data, task: Task) -> Data:
    """``data`` with ``x`` in CSR form and with an adjacency matrix, whichever prove equal.

    A model that cannot take one of them keeps the plain tensor; ``edge_index`` always stays. The
    adjacency matrix is tried only if the task passes it on and a conv of the model has a fused form
    for it. A batch of graphs stays as it is, since graphs cannot be taken out of a CSR matrix.
    """
    if isinstance(data, Batch):
        return data
    plain = kept_view(data, _probed_edges(data))
    forms = list(_forms(model, data, task))
    if not forms:
        return data
    reference = _reference(model, plain, task)
    for form in forms:
        if _is_equal(*reference, form, task):
            result = form(data)
            if ADJACENCY in result:
                result[ADJACENCY].reach = proven_reach(model, form(plain), task)
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
        for adjacency in adjacencies:
            yield lambda data, adjacency=adjacency: adjacency(with_sparse_features(data))
        yield with_sparse_features
    yield from adjacencies


def with_sparse_features(data: Data) -> Data:
    """``data`` with ``x`` in CSR form if at most :data:`MAX_DENSITY` of it is non-zero."""
    x: Tensor | None = data.get("x")
    if x is None:
        return data
    if x.layout != torch.strided or float((x != 0).to(torch.float32).mean()) > MAX_DENSITY:
        return data
    sparse = copy.copy(data)
    with ignore_csr_warnings():
        sparse.x = x.to_sparse_csr()
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


def probed(data: Data) -> Data:
    """``data`` with at most :data:`PROBED_EDGES` random edges and all self-loops."""
    return kept_view(data, _probed_edges(data))


def _probed_edges(data: Data) -> Tensor:
    """``[num_edges]`` mask of at most :data:`PROBED_EDGES` random edges and all self-loops."""
    edge_index = data.edge_index
    keep = torch.ones(edge_index.size(1), dtype=torch.bool, device=edge_index.device)
    if len(keep) > PROBED_EDGES:
        noise = torch.rand(len(keep), generator=torch.Generator().manual_seed(0))
        keep = (noise < PROBED_EDGES / len(keep)).to(keep.device)
        keep |= edge_index[0] == edge_index[1]
    return keep


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
    return all(
        bool(b.isfinite().all())
        and torch.allclose(a, b, rtol=1e-3, atol=1e-5 * float(b.abs().max().clamp_min(1e-30)))
        for a, b in zip(actual, expected, strict=True)
    )


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
