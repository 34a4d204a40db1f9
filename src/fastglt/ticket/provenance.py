"""What a result depends on besides its settings."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import torch
import torch_geometric


def library_versions(device: torch.device | None = None) -> dict[str, Any]:
    """What results depend on besides the settings, for a ticket's ``provenance``.

    Args:
        device: Where it was computed; the CPU if not given.

    Returns:
        dict[str, Any]: Versions of ``fastglt``, ``torch``, ``torch_geometric`` and ``python``, the
        ``platform`` (system, processor) and the number of ``threads`` torch computes with; off the
        CPU also the ``device``.
    """
    try:
        own = metadata.version("fastglt")
    except metadata.PackageNotFoundError:
        own = "not installed"
    return {
        "fastglt": own,
        "torch": str(torch.__version__),
        "torch_geometric": str(torch_geometric.__version__),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        **_device_record(device),
    }


def _device_record(device: torch.device | None) -> dict[str, str]:
    if device is None or device.type == "cpu":
        return {}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"device": name}
