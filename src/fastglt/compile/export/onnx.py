"""ONNX models, which ``onnxruntime`` and others run without torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from fastglt._extras import require
from fastglt.compile.export.quiet import quietly
from fastglt.errors import CompileError

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OUTPUT = "out"
AXES = {"x": ("num_nodes", None), "edge_index": (None, "num_edges"), "edge_weight": ("num_edges",),
        OUTPUT: ("num_nodes", None)}  # fmt: skip
"""Names of the sizes that may be any number."""


def check() -> None:
    """Make sure that the packages of the extra ``onnx`` are there.

    Raises:
        InputError: If one is missing.
    """
    for name in PACKAGES:
        require(name, "onnx")


def write(program: ExportedProgram, path: Path) -> None:
    """Write a program in one file, without a word on where its nodes come from."""
    import onnx

    with quietly():
        written = torch.onnx.export(program, (), dynamo=True, verbose=False, output_names=[OUTPUT])
    if written is None:
        raise CompileError("torch.onnx made nothing of this model")
    model = written.model_proto
    _strip(model)
    onnx.save(model, path)


def load(path: Path) -> Callable[..., Tensor]:
    """What was written, run by ``onnxruntime``, as a function of the same inputs.

    Raises:
        CompileError: If ``onnxruntime`` cannot run it.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), _options(onnxruntime))
    except Exception as error:  # its classes derive from nothing else
        raise CompileError(f"onnxruntime cannot run this model: {error}") from error
    names = [one.name for one in session.get_inputs()]

    def run(*given: Tensor) -> Tensor:
        arrays = {name: one.cpu().numpy() for name, one in zip(names, given, strict=True)}
        return torch.from_numpy(session.run(None, arrays)[0]).to(given[0].device)

    return run


def _options(onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    return options


def _strip(model: Any) -> None:
    """Leave out notes and inferred shapes, and give the open sizes names."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        for dim, name in zip(dims, AXES[value.name], strict=True):
            if name is not None:
                dim.dim_param = name
