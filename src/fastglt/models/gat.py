"""PyG's GAT with dropout of the input features."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import GAT


class InputDropoutGAT(GAT):  # type: ignore[misc]
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
        x = _dropout(x, self.dropout.p, self.training)
        out: Tensor = super().forward(x, edge_index, *args, **kwargs)
        return out


def _dropout(x: Tensor, p: float, training: bool) -> Tensor:
    if x.layout != torch.sparse_csr:
        return F.dropout(x, p, training)
    if not training:
        return x
    # What is zero stays zero, dropped or not.
    values = F.dropout(x.values(), p, training)
    indices = x.crow_indices(), x.col_indices()
    return torch.sparse_csr_tensor(*indices, values, x.shape, check_invariants=False)
