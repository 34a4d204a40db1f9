"""Sparse inputs: features and adjacency as CSR matrices, where that changes nothing but the time.

PyG's convs take both natively. Each form is used only if a probe in eval mode, on the whole graph
or a random part of its edges, gives the same outputs and weight gradients as the plain tensors up
to rounding, and if the model can be called with it in training mode too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import MessagePassing

from fastglt._csr import ignore_csr_warnings
from fastglt.gating import keep_edges, takes_edge_attr
from fastglt.training.known_graph import KnownGraph
from fastglt.training.seeding import seeded
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
    keep = _probed_edges(data)
    if _is_equal(model, data, with_sparse_features, keep, task):
        data = with_sparse_features(data)
    fuses = task.passes_adjacency and any(
        isinstance(conv, MessagePassing) and conv.fuse for conv in model.modules()
    )
    # Edge attributes would have to follow the order of the matrix.
    reads_attributes = data.get("edge_attr") is not None and takes_edge_attr(model)
    if fuses and not reads_attributes and _is_equal(model, data, with_adjacency, keep, task):
        data = with_adjacency(data)
    return data


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


def with_adjacency(data: Data) -> Data:
    """``data`` with a :class:`KnownGraph` under :data:`ADJACENCY`.

    :meth:`Task.call` prefers its matrix to ``edge_index``.
    """
    result = copy.copy(data)
    result[ADJACENCY] = KnownGraph(data)
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
    return with_adjacency(keep_edges(plain, keep))


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
    model: nn.Module, data: Data, form: Callable[[Data], Data], keep: Tensor, task: Task
) -> bool:
    """Whether a form of the inputs changes no output and no weight gradient."""
    plain = kept_view(data, keep)
    if form(plain) is plain:
        return False
    model, plain, expected = _reference(model, plain, task)
    sparse = form(plain)
    try:
        actual = _probe(model, sparse, task)
        _train_once(model, sparse, task)
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


@torch.no_grad()
def _train_once(model: nn.Module, data: Data, task: Task) -> None:
    """Call a copy in training mode, in which some models change the edges."""
    with seeded(0):
        task.encode(copy.deepcopy(model).train(), data)


def _probe(model: nn.Module, data: Data, task: Task) -> list[Tensor]:
    model = copy.deepcopy(model).eval()
    out = task.encode(model, data)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(
        out.square().sum(), parameters, allow_unused=True, materialize_grads=True
    )
    return [out.detach(), *gradients]
