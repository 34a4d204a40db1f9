"""Statistics of batch normalisation, taken anew."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase


@torch.no_grad()
def recalibrate(model: nn.Module, call: Callable[[], object]) -> None:
    """Replace the running statistics of batch normalisation by those of one call.

    Pruning shifts what a layer gets, but running means and variances follow over many steps only.
    Nothing else is in training mode during the call, so there is no dropout; the model is left in
    eval mode.

    Args:
        model: The model; one without running statistics is not called.
        call: Calls it on the graph whose statistics are wanted.
    """
    model.eval()
    layers = [
        module
        for module in model.modules()
        if isinstance(module, _NormBase) and module.track_running_stats
    ]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.train()
            layer.momentum = 1.0
        call()
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()
