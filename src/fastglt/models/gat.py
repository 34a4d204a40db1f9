"""PyG's GAT with dropout of the input features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import GAT


class InputDropoutGAT(GAT):  # type: ignore[misc]  # PyG is untyped
    """PyG's GAT that also drops input features, as its paper does (Veličković et al., 2018).

    PyG's own drops hidden features and attention only, which costs more than a point of accuracy
    on Cora. Called and constructed as PyG's; ``x`` may be a CSR matrix.
    """

    def forward(self, x: Tensor, edge_index: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Output ``[num_nodes, out_channels]``.

        Args:
            x: ``[num_nodes, in_channels]``.
            edge_index: ``[2, num_edges]``, or a sparse ``adj_t``.
            args: As PyG's.
            kwargs: As PyG's, for example ``edge_attr``.
        """
        x = _dropped(x, self.dropout)
        out: Tensor = super().forward(x, edge_index, *args, **kwargs)
        return out


def _dropped(x: Tensor, dropout: nn.Dropout) -> Tensor:
    if x.layout != torch.sparse_csr:
        dropped: Tensor = dropout(x)
        return dropped
    if not dropout.training:
        return x
    # What is zero stays zero, dropped or not.
    indices = x.crow_indices(), x.col_indices()
    return torch.sparse_csr_tensor(*indices, dropout(x.values()), x.shape, check_invariants=False)
