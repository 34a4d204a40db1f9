"""Compiled models as files that need nothing of this library, nor PyG, where they are used."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from fastglt._atomic import atomic_write, check_writable
from fastglt.compile.verify import ROUNDED, difference
from fastglt.errors import CompileError, OutputPathError

TRACED = 3
"""Nodes and edges of the graph that a model is traced with; both may be any number afterwards."""


class WholeFeatures(nn.Module):
    """A model that is given all features and reads the columns that are live."""

    columns: Tensor

    def __init__(self, model: nn.Module, columns: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("columns", columns)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Output ``[num_nodes, num_outputs]`` of features ``[num_nodes, num_features]``."""
        out: Tensor = self.model(x.index_select(1, self.columns), edge_index, edge_weight)
        return out


def exported(
    model: nn.Module, columns: Tensor, num_features: int, *, weighted: bool
) -> torch.export.ExportedProgram:
    """A model as a ``torch.export`` program for any numbers of nodes and edges.

    Args:
        model: A :class:`~fastglt.compile.plain.PlainModel`.
        columns: The columns of the features that it reads.
        num_features: Columns of the features.
        weighted: Whether it is given ``edge_weight`` too.

    Raises:
        CompileError: If the program differs from the model.
    """
    whole = WholeFeatures(model, columns).eval()
    generator = torch.Generator().manual_seed(0)
    dtype = next((p.dtype for p in model.parameters()), torch.float32)

    def inputs(num_nodes: int, num_edges: int) -> tuple[Tensor, ...]:
        x = torch.randn(num_nodes, num_features, generator=generator).to(columns.device, dtype)
        edge_index = torch.randint(num_nodes, (2, num_edges), generator=generator)
        weight = torch.rand(num_edges, generator=generator).to(columns.device, dtype)
        return (x, edge_index.to(columns.device), weight)[: 3 if weighted else 2]

    nodes, edges = Dim("num_nodes", min=2), Dim("num_edges", min=2)
    dynamic = ({0: nodes}, {1: edges}, {0: edges})[: 3 if weighted else 2]
    program = torch.export.export(whole, inputs(TRACED, TRACED + 1), dynamic_shapes=dynamic)
    for num_nodes, num_edges in ((2, 2), (40, 130)):
        given = inputs(num_nodes, num_edges)
        with torch.no_grad():
            gap = difference(program.module()(*given), whole(*given))
        if not gap <= ROUNDED:
            raise CompileError(f"the exported program differs from the model by {gap:.3g}")
    return program


def check_path(path: Path) -> None:
    """Refuse a path that a program cannot be written to, before it is traced.

    Raises:
        OutputPathError: ``path`` cannot be written, or does not end in ``.pt2``.
    """
    if path.suffix != ".pt2":
        raise OutputPathError(f"an exported program goes into a .pt2 file (got {str(path)!r})")
    check_writable(path)


def save(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a program as a ``.pt2`` file, in place of an existing one only when all went well.

    Raises:
        OutputPathError: ``path`` cannot be written, or does not end in ``.pt2``.
    """
    check_path(path)
    with atomic_write(path) as temporary:
        torch.export.save(program, temporary)
