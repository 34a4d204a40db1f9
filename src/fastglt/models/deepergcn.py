"""DeeperGCN of Li et al., "DeeperGCN: All You Need to Train Deeper GCNs" (arXiv 2006.07739)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch_geometric.explain.algorithm.utils import clear_masks, set_masks
from torch_geometric.nn import DeepGCNLayer

from fastglt.errors import InputError
from fastglt.models._gen_conv import SoftmaxGENConv


class DeeperGCN(nn.Module):
    """A deep residual stack of GENConvs (``res+``: norm, ReLU, dropout, conv, skip).

    Softmax aggregation with a learned temperature that starts at 0.1 and one linear map a conv, as
    the paper's authors set it for ogbn-arxiv. The norm is LayerNorm: it does the same in training
    and evaluation, so that short runs are evaluated as they were trained.

    Args:
        in_channels: Columns of ``x``.
        hidden_channels: Width of the stack.
        num_layers: Number of convs.
        out_channels: Columns of the output.
        dropout: Dropout in front of each conv and of the last linear map.
        edge_dim: Columns of ``edge_attr``, or ``None`` for bare edges.
        checkpointing: Keep the input of each layer alone and compute the rest again in the
            backward, which divides the memory by about six for a third more time.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_layers: int,
        out_channels: int,
        *,
        dropout: float = 0.5,
        edge_dim: int | None = None,
        checkpointing: bool = True,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.checkpointing = checkpointing
        self.encoder = nn.Linear(in_channels, hidden_channels)
        self.edge_encoder = nn.Linear(edge_dim, hidden_channels) if edge_dim else None
        self.layers = nn.ModuleList(
            _layer(hidden_channels, dropout=dropout) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_channels)
        self.lin = nn.Linear(hidden_channels, out_channels)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None) -> Tensor:
        """Output ``[num_nodes, out_channels]``.

        Args:
            x: ``[num_nodes, in_channels]``.
            edge_index: ``[2, num_edges]``, or a torch CSR ``adj_t``, which is far faster and needs
                far less memory, if there are no edge attributes.
            edge_attr: ``[num_edges, edge_dim]``, in the order of the edges.

        Raises:
            InputError: If ``edge_attr`` is given to a model without ``edge_dim`` or missing for a
                model with one.
        """
        edge_attr = self._encoded(edge_attr)
        x = self.encoder(x)
        for layer in self.layers[:-1]:
            x = self._checkpointed(layer, x, edge_index, edge_attr)
        # Its backward comes first: nothing is saved by computing it again.
        x = self.layers[-1](x, edge_index, edge_attr)
        x = F.dropout(self.norm(x).relu_(), self.dropout, self.training)
        out: Tensor = self.lin(x)
        return out

    def _encoded(self, edge_attr: Tensor | None) -> Tensor | None:
        if (edge_attr is None) != (self.edge_encoder is None):
            expected = "none" if self.edge_encoder is None else self.edge_encoder.in_features
            found = "none" if edge_attr is None else list(edge_attr.shape)
            raise InputError(
                f"edge_attr must have the columns that the model was built for ({expected}; got "
                f"{found}); build it with edge_dim to fit"
            )
        return None if self.edge_encoder is None else self.edge_encoder(edge_attr)

    def _checkpointed(
        self, layer: DeepGCNLayer, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None
    ) -> Tensor:
        out: Tensor
        if self.checkpointing and torch.is_grad_enabled():
            # Not DeepGCNLayer's own, which keeps the conv's surroundings (four times as much) and
            # is reentrant, so that torch.autograd.grad cannot differentiate it.
            out = checkpoint(
                layer,
                x,
                edge_index,
                edge_attr,
                use_reentrant=False,
                context_fn=lambda: _contexts(layer, edge_index),
            )
        else:
            out = layer(x, edge_index, edge_attr)
        return out


def _layer(channels: int, *, dropout: float) -> DeepGCNLayer:
    conv = SoftmaxGENConv(channels, channels, t=0.1, num_layers=1, bias=True)
    act = nn.ReLU(inplace=True)
    return DeepGCNLayer(conv, nn.LayerNorm(channels), act, block="res+", dropout=dropout)


def _contexts(
    layer: DeepGCNLayer, edge_index: Tensor
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of a layer's forward and of its recomputation.

    PyG keeps the mask of the messages in the conv, and it may be cleared before the backward.
    """
    mask = layer.conv._edge_mask
    if mask is None:
        return nullcontext(), nullcontext()
    return nullcontext(), _masked(layer, mask, edge_index, layer.conv._apply_sigmoid)


@contextmanager
def _masked(
    layer: DeepGCNLayer, mask: Tensor, edge_index: Tensor, apply_sigmoid: bool
) -> Iterator[None]:
    set_masks(layer, mask, edge_index, apply_sigmoid)
    try:
        yield
    finally:
        clear_masks(layer)
