"""Hidden features of a teacher as targets, next to its predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from fastglt.errors import InputError

NODES = 512
"""So many random nodes are compared."""


class Features:
    """How unlike a model's hidden features are to a teacher's.

    What is compared is the input of the last conv, by linear CKA (Kornblith et al., ICML 2019,
    arXiv 1905.00414): it asks which nodes are alike, and not in which channels, so that the model
    may have fewer of them alive. At most :data:`NODES` nodes are compared.

    Args:
        teacher: Calls the trained teacher on the graph.
        model: The teacher.
        weight: Of this term in the loss.
        seed: Decides which nodes are compared.

    Raises:
        InputError: If the last conv is not given features of nodes, first or as ``x``.
    """

    def __init__(
        self, teacher: Callable[[], Tensor], model: nn.Module, weight: float, seed: int
    ) -> None:
        self.weight = weight
        self._last: object = None
        self._rows: Tensor | None = None
        with torch.no_grad(), self.watching(model):
            teacher()
            hidden = self._hidden()
        rows = torch.randperm(len(hidden), generator=torch.Generator().manual_seed(seed))
        self._num_nodes = len(hidden)
        self._rows = rows[:NODES].to(hidden.device)
        self._target = hidden[self._rows]

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Remember what the last conv is given, within the context."""

        def remember(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            self._last = inputs[0] if inputs else named.get("x")

        convs = [module for module in model.modules() if isinstance(module, MessagePassing)]
        handles = [conv.register_forward_pre_hook(remember, with_kwargs=True) for conv in convs]
        try:
            yield
        finally:
            self._last = None
            for handle in handles:
                handle.remove()

    def loss(self) -> Tensor:
        """The weighted distance of the last call under :meth:`watching`, a scalar.

        Raises:
            InputError: If the model was not called on as many nodes as the teacher.
        """
        hidden = self._hidden()
        if len(hidden) != self._num_nodes:
            raise InputError(
                "teacher_features is for tasks that call the model on the whole graph in every "
                f"step (got {len(hidden)} of {self._num_nodes} nodes)"
            )
        return self.weight * (1 - linear_cka(hidden[self._rows], self._target))

    def _hidden(self) -> Tensor:
        hidden = self._last
        if not isinstance(hidden, Tensor) or hidden.layout != torch.strided or hidden.dim() != 2:
            raise InputError(
                "teacher_features compares what the last conv is given, which must be a dense "
                f"tensor of one row a node, first or named x (got {type(hidden).__name__})"
            )
        return hidden


def linear_cka(first: Tensor, second: Tensor) -> Tensor:
    """Linear centred kernel alignment of two representations of the same nodes, in ``[0, 1]``.

    Args:
        first: ``[num_nodes, k]``.
        second: ``[num_nodes, l]``.
    """
    first, second = first - first.mean(dim=0), second - second.mean(dim=0)
    shared = (second.T @ first).square().sum()
    # Products with the smaller side have the same norm; a constant representation is like none.
    return shared / (_gram_norm(first) * _gram_norm(second))


def _gram_norm(x: Tensor) -> Tensor:
    gram = x.T @ x if x.size(0) > x.size(1) else x @ x.T
    return gram.square().sum().clamp_min(torch.finfo(gram.dtype).tiny).sqrt()
