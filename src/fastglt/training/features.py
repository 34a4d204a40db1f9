"""Sparse input features: bag-of-words matrices multiplied as what they are."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.training.task import Task

MAX_DENSITY = 0.05
"""Above this share of non-zeros a dense product is as fast."""


def with_sparse_features(model: nn.Module, data: Data, task: Task) -> Data:
    """``data`` with ``x`` as a CSR matrix, where that changes nothing but the time.

    The features are converted if at most :data:`MAX_DENSITY` of them are non-zero and the model,
    called in eval mode with both forms, gives the same outputs and weight gradients up to
    rounding. A model that cannot take a CSR matrix keeps its dense features.
    """
    x: Tensor = data.x
    if x.layout != torch.strided or float((x != 0).to(torch.float32).mean()) > MAX_DENSITY:
        return data
    sparse = copy.copy(data)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        sparse.x = x.to_sparse_csr()
    try:
        actual = _probe(model, sparse, task)
    # What torch and PyG raise for an operation that has no CSR form.
    except (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError, AssertionError):
        return data
    expected = _probe(model, data, task)
    return sparse if _all_close(actual, expected) else data


def _probe(model: nn.Module, data: Data, task: Task) -> list[Tensor]:
    model = copy.deepcopy(model).eval()
    out = task.forward(model, data)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(
        out.square().sum(), parameters, allow_unused=True, materialize_grads=True
    )
    return [out.detach(), *gradients]


def _all_close(actual: list[Tensor], expected: list[Tensor]) -> bool:
    return all(
        torch.allclose(a, b, rtol=1e-3, atol=1e-5 * float(b.abs().max().clamp_min(1e-30)))
        for a, b in zip(actual, expected, strict=True)
    )
