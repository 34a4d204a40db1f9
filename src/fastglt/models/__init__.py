"""Named backbones. To add one, write its builder and enter it in :data:`BACKBONES`.

Importing this package imports neither torch nor PyG, for the help of the command line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastglt.errors import UnknownNameError
from fastglt.models.config import BackboneConfig

if TYPE_CHECKING:
    from torch import nn


def gcn(num_features: int, num_classes: int, config: BackboneConfig) -> nn.Module:
    """PyG's GCN: ReLU and dropout between its layers."""
    from torch_geometric.nn import GCN

    model: nn.Module = GCN(
        num_features, config.hidden, config.layers, num_classes, dropout=config.dropout
    )
    return model


BACKBONES: dict[str, Callable[[int, int, BackboneConfig], nn.Module]] = {"gcn": gcn}


def build_model(
    name: str, num_features: int, num_classes: int, config: BackboneConfig | None = None
) -> nn.Module:
    """Build a named backbone with random weights from torch's global random state.

    Args:
        name: A name in :data:`BACKBONES`.
        num_features: Columns of ``x``.
        num_classes: Columns of the output.
        config: Width, depth and dropout.

    Raises:
        UnknownNameError: If there is no such backbone.
    """
    if name.lower() not in BACKBONES:
        raise UnknownNameError("model", name, BACKBONES)
    return BACKBONES[name.lower()](num_features, num_classes, config or BackboneConfig())
