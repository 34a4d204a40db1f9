"""Sparse inputs: features and adjacency as CSR matrices, where that changes nothing but the time.

PyG's convs take both natively. Each form is used only if a probe on the whole graph, in eval
mode, gives the same outputs and weight gradients as the plain tensors up to rounding.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.utils import to_torch_csr_tensor

from fastglt.gating import keep_edges
from fastglt.training.task import ADJACENCY, Task

MAX_DENSITY = 0.05
"""Features with a larger share of non-zeros are left dense: a dense product is as fast."""


def with_sparse_inputs(model: nn.Module, data: Data, task: Task) -> Data:
    """``data`` with ``x`` in CSR form and with an adjacency matrix, whichever prove equal.

    A model that cannot take one of them keeps the plain tensor; ``edge_index`` always stays.
    """
    for candidate in (with_sparse_features, with_adjacency):
        sparse = candidate(data)
        if sparse is not data and _is_equal(model, sparse, data, task):
            data = sparse
    return data


def with_sparse_features(data: Data) -> Data:
    """``data`` with ``x`` in CSR form if at most :data:`MAX_DENSITY` of it is non-zero."""
    x: Tensor = data.x
    if x.layout != torch.strided or float((x != 0).to(torch.float32).mean()) > MAX_DENSITY:
        return data
    sparse = copy.copy(data)
    with _ignore_csr_warnings():
        sparse.x = x.to_sparse_csr()
    return sparse


def with_adjacency(data: Data) -> Data:
    """``data`` with the transposed adjacency matrix of its edges under :data:`ADJACENCY`.

    The matrix is CSR, ``[num_nodes, num_nodes]``; :meth:`Task.forward` prefers it.
    """
    result = copy.copy(data)
    size = (data.num_nodes, data.num_nodes)
    with _ignore_csr_warnings():
        result[ADJACENCY] = to_torch_csr_tensor(
            data.edge_index.flip(0), data.get("edge_weight"), size=size
        )
    return result


def kept_view(data: Data, keep: Tensor) -> Data:
    """:func:`keep_edges`, with an adjacency matrix of the kept edges if ``data`` has one.

    Args:
        data: The graph; it is not changed.
        keep: ``[num_edges]`` bool.
    """
    if ADJACENCY not in data:
        return keep_edges(data, keep)
    plain = copy.copy(data)
    del plain[ADJACENCY]
    return with_adjacency(keep_edges(plain, keep))


def _is_equal(model: nn.Module, sparse: Data, plain: Data, task: Task) -> bool:
    try:
        actual = _probe(model, sparse, task)
    # What torch and PyG raise for an operation that has no CSR form.
    except (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError, AssertionError):
        return False
    return all(
        bool(b.isfinite().all())
        and torch.allclose(a, b, rtol=1e-3, atol=1e-5 * float(b.abs().max().clamp_min(1e-30)))
        for a, b in zip(actual, _probe(model, plain, task), strict=True)
    )


def _probe(model: nn.Module, data: Data, task: Task) -> list[Tensor]:
    model = copy.deepcopy(model).eval()
    out = task.forward(model, data)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(
        out.square().sum(), parameters, allow_unused=True, materialize_grads=True
    )
    return [out.detach(), *gradients]


@contextmanager
def _ignore_csr_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        warnings.filterwarnings("ignore", "Sparse invariant checks are implicitly disabled")
        yield
