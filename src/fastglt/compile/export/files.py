"""Compiled models as files: kinds of them, and the proof that a file gives what the model gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt._atomic import atomic_write, check_writable
from fastglt.compile.export import onnx, package, program
from fastglt.compile.export.compact import compact
from fastglt.compile.export.whole import Inputs, WholeFeatures, traced
from fastglt.compile.verify import ROUNDED, difference
from fastglt.errors import CompileError, OutputPathError, UnknownNameError

Kind = Literal["program", "onnx", "package"]
Weights = Literal["float", "int8"]
KINDS: Final[dict[Kind, ModuleType]] = {"program": program, "onnx": onnx, "package": package}
"""Modules with ``check()``, ``write(program, path)`` and ``load(path)``."""
SUFFIXES: Final[dict[Kind, str]] = {"program": ".pt2", "onnx": ".onnx", "package": ".pt2"}
WEIGHTS: Final[tuple[Weights, ...]] = ("float", "int8")
INT8_TOLERANCE = 0.05
"""Largest difference that rounded weights may make, in units of the largest output."""
SIZES = ((2, 2), (40, 130))
"""Nodes and edges of the random graphs that a file is tried on."""


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        path: Where it lies.
        kind: Of file.
        weights: ``"float"`` or ``"int8"``.
        bytes: Its size.
        difference: Largest difference of the file from the model whose weights it holds, on random
            graphs, in units of the largest output or 1.
        rounding: Largest difference that rounding the weights makes, on the ticket's graph and on
            random ones, in units of the largest output; 0 for ``"float"``.
    """

    path: str
    kind: Kind
    weights: Weights
    bytes: int
    difference: float
    rounding: float

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers and strings."""
        return asdict(self)


def checked(path: Path, kind: str | None = None, weights: str = "float") -> tuple[Kind, Weights]:
    """The kind of file and of weights, before anything is computed.

    Args:
        path: The file to be written.
        kind: ``"program"``, ``"onnx"`` or ``"package"``; ``None`` goes by the suffix.
        weights: ``"float"`` or ``"int8"``.

    Raises:
        UnknownNameError: There is no such kind.
        OutputPathError: ``path`` cannot be written, or its suffix is that of another kind.
        InputError: What this kind needs is not installed.
    """
    if weights not in WEIGHTS:
        raise UnknownNameError("form of weights", weights, WEIGHTS)
    if kind is None:
        kind = {suffix: kind for kind, suffix in reversed(SUFFIXES.items())}.get(path.suffix)
        if kind is None:
            raise OutputPathError(
                f"a model is exported into a .pt2 or an .onnx file (got {str(path)!r})"
            )
    if kind not in KINDS:
        raise UnknownNameError("kind of file", kind, KINDS)
    suffix = SUFFIXES[kind]
    if path.suffix != suffix:
        raise OutputPathError(f"kind {kind!r} goes into a {suffix} file (got {str(path)!r})")
    check_writable(path)
    KINDS[kind].check()
    return kind, weights


@torch.no_grad()
def export(
    model: nn.Module,
    data: Data,
    columns: Tensor,
    num_features: int,
    path: Path,
    kind: str | None = None,
    weights: str = "float",
) -> Exported:
    """Write a model as a file, and prove that the file gives what the model gives.

    Args:
        model: A :class:`~fastglt.compile.plain.PlainModel`; it is not changed.
        data: A graph that is ready for it.
        columns: ``[k]`` int64, the columns of the features that it reads.
        num_features: Columns of the features.
        path: The file; an existing one is replaced only when all went well.
        kind: As in :func:`checked`.
        weights: Likewise.

    Raises:
        CompileError: The file differs from the model, or ``onnxruntime`` cannot run it.
        OutputPathError: ``path`` cannot be written, or its suffix is that of another kind.
        InputError: There is no such kind, or what it needs is not installed.
    """
    chosen, form = checked(path, kind, weights)
    small = compact(model, form)
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    inputs = Inputs(num_features, bool(model.reads_edge_weight), dtype, columns.device)
    exact, written = (WholeFeatures(one, columns, num_features) for one in (model, small))
    rounding = 0.0
    if form == "int8":
        ready = inputs.of(data)
        gaps = [difference(written(*given), exact(*given)) for given in _graphs(inputs)]
        rounding = max(*gaps, difference(small(*ready), model(*ready)))
        _within("the model with int8 weights", rounding, INT8_TOLERANCE)
    with atomic_write(path) as temporary:
        KINDS[chosen].write(traced(written, inputs), temporary)
        loaded = KINDS[chosen].load(temporary)
        expected = exact if form == "float" else written
        gap = max(difference(loaded(*given), expected(*given), 1.0) for given in _graphs(inputs))
        _within(f"the exported {chosen}", gap, ROUNDED)
    return Exported(str(path), chosen, form, path.stat().st_size, gap, rounding)


def _graphs(inputs: Inputs) -> list[tuple[Tensor, ...]]:
    return [inputs.random(*sizes, seed=seed) for seed, sizes in enumerate(SIZES)]


def _within(what: str, found: float, tolerance: float) -> None:
    if not found <= tolerance:
        raise CompileError(
            f"{what} differs by {found:.3g} of the largest output, and {tolerance:g} is allowed"
        )
