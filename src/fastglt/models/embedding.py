"""A learned embedding for graphs whose nodes have no features."""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from fastglt.errors import InputError
from fastglt.gating import accepts_keyword
from fastglt.gating.keywords import EdgeKeyword

_KEYWORDS: Final[tuple[EdgeKeyword, ...]] = ("edge_weight", "edge_attr")


class WithEmbedding(nn.Module):
    """A model that reads a learned row for each node instead of features.

    Args:
        model: Called as ``model(embedding, edge_index)``.
        num_nodes: Number of nodes; the model fits graphs of this many nodes only.
        dim: Columns of the embedding, which is ``embedding.weight``, ``[num_nodes, dim]``.
    """

    def __init__(self, model: nn.Module, num_nodes: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_nodes, dim)
        self.model = model
        self._options = [name for name in _KEYWORDS if accepts_keyword(model, name)]

    def forward(
        self,
        x: Tensor | None,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
        edge_attr: Tensor | None = None,
    ) -> Tensor:
        """Output of the inner model, ``[num_nodes, num_outputs]``.

        Args:
            x: Not used; there for the signature that every model has.
            edge_index: ``[2, num_edges]``, or a sparse ``adj_t``.
            edge_weight: ``[num_edges]``, passed on if the inner model takes it.
            edge_attr: ``[num_edges, num_edge_features]``, passed on if the inner model takes it.

        Raises:
            InputError: If ``x`` has rows for another number of nodes.
        """
        nodes = self.embedding.weight
        if x is not None and x.size(0) != nodes.size(0):
            raise InputError(
                f"the model has an embedding of {nodes.size(0)} nodes and fits no other graph "
                f"(got {x.size(0)} nodes)"
            )
        given = {"edge_weight": edge_weight, "edge_attr": edge_attr}
        taken = {name: given[name] for name in self._options if given[name] is not None}
        out: Tensor = self.model(nodes, edge_index, **taken)
        return out
