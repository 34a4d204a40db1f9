"""Graph lottery tickets for any PyTorch Geometric model.

Names are imported on first use (PEP 562), so ``import fastglt`` imports neither torch nor PyG.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastglt.api import find as find
    from fastglt.api import find_seeds as find_seeds
    from fastglt.compile import Compiled as Compiled
    from fastglt.search.denoiser import Denoiser as Denoiser
    from fastglt.settings import DenoiseConfig as DenoiseConfig
    from fastglt.settings import Settings as Settings
    from fastglt.ticket import PruneEdges as PruneEdges
    from fastglt.ticket import Ticket as Ticket
    from fastglt.ticket import degree_rule as degree_rule
    from fastglt.ticket import masks_from_state_dict as masks_from_state_dict
    from fastglt.training.callback import Callback as Callback
    from fastglt.training.callback import Callbacks as Callbacks
    from fastglt.training.json_lines_log import JsonLinesLog as JsonLinesLog
    from fastglt.training.swap_event import SwapEvent as SwapEvent
    from fastglt.training.task import Task as Task
    from fastglt.training.tasks import GraphClassification as GraphClassification
    from fastglt.training.tasks import LinkPrediction as LinkPrediction
    from fastglt.training.tasks import MultiLabelNodeClassification as MultiLabelNodeClassification
    from fastglt.training.tasks import NodeClassification as NodeClassification
    from fastglt.training.tensorboard_log import TensorBoardLog as TensorBoardLog

__version__ = "0.1.0"

_EXPORTS = {
    "Callback": "fastglt.training.callback",
    "Callbacks": "fastglt.training.callback",
    "Compiled": "fastglt.compile",
    "DenoiseConfig": "fastglt.settings",
    "Denoiser": "fastglt.search.denoiser",
    "GraphClassification": "fastglt.training.tasks",
    "JsonLinesLog": "fastglt.training.json_lines_log",
    "LinkPrediction": "fastglt.training.tasks",
    "MultiLabelNodeClassification": "fastglt.training.tasks",
    "NodeClassification": "fastglt.training.tasks",
    "PruneEdges": "fastglt.ticket",
    "Settings": "fastglt.settings",
    "SwapEvent": "fastglt.training.swap_event",
    "Task": "fastglt.training.task",
    "TensorBoardLog": "fastglt.training.tensorboard_log",
    "Ticket": "fastglt.ticket",
    "degree_rule": "fastglt.ticket",
    "find": "fastglt.api",
    "find_seeds": "fastglt.api",
    "masks_from_state_dict": "fastglt.ticket",
}

__all__ = [
    "Callback",
    "Callbacks",
    "Compiled",
    "DenoiseConfig",
    "Denoiser",
    "GraphClassification",
    "JsonLinesLog",
    "LinkPrediction",
    "MultiLabelNodeClassification",
    "NodeClassification",
    "PruneEdges",
    "Settings",
    "SwapEvent",
    "Task",
    "TensorBoardLog",
    "Ticket",
    "__version__",
    "degree_rule",
    "find",
    "find_seeds",
    "masks_from_state_dict",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
