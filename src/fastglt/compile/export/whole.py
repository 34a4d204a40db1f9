"""A compiled model as a program of torch, for features with all their columns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch_geometric.data import Data

TRACED = (3, 4)
"""Nodes and edges of the graph that a model is traced with; both may be any number afterwards."""
TRACES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")
"""Where a node of a program comes from; this takes more room than all else, and names folders."""


class WholeFeatures(nn.Module):
    """A model that is given all features and reads the columns that are live.

    Args:
        model: The model.
        columns: ``[k]`` int64, ascending: what it reads.
        num_features: How many there are.
    """

    steps: Tensor | None

    def __init__(self, model: nn.Module, columns: Tensor, num_features: int) -> None:
        super().__init__()
        self.model = model
        steps = columns.diff(prepend=columns.new_zeros(1))
        small = torch.uint8 if bool((steps < 256).all()) else torch.int32
        self.register_buffer("steps", None if len(columns) == num_features else steps.to(small))

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Output ``[num_nodes, num_outputs]`` of features ``[num_nodes, num_features]``."""
        if self.steps is not None:
            x = x.index_select(1, self.steps.to(torch.int64).cumsum(0))
        out: Tensor = self.model(x, edge_index, edge_weight)
        return out


@dataclass(frozen=True)
class Inputs:
    """What a model is called with.

    Attributes:
        num_features: Columns of the features.
        weighted: Whether ``edge_weight`` is among it.
        dtype: Of features and weights.
        device: Where they lie.
    """

    num_features: int
    weighted: bool
    dtype: torch.dtype
    device: torch.device

    @property
    def names(self) -> tuple[str, ...]:
        """In order."""
        return ("x", "edge_index", "edge_weight")[: 3 if self.weighted else 2]

    def of(self, data: Data) -> tuple[Tensor, ...]:
        """Those of a graph."""
        given = (data[name] for name in self.names)
        return tuple(one.to(self.dtype) if one.is_floating_point() else one for one in given)

    def random(self, num_nodes: int, num_edges: int, seed: int = 0) -> tuple[Tensor, ...]:
        """A random graph."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(num_nodes, self.num_features, generator=generator).to(self.dtype)
        edge_index = torch.randint(num_nodes, (2, num_edges), generator=generator)
        weight = torch.rand(num_edges, generator=generator).to(self.dtype)
        given = (x, edge_index, weight)[: len(self.names)]
        return tuple(one.to(self.device) for one in given)


def traced(whole: nn.Module, inputs: Inputs) -> ExportedProgram:
    """A model as a program for any numbers of nodes and edges."""
    nodes, edges = Dim("num_nodes", min=2), Dim("num_edges", min=2)
    dynamic = ({0: nodes}, {1: edges}, {0: edges})[: len(inputs.names)]
    # Zeros, because these inputs are written too, and zeros take no room.
    example = tuple(torch.zeros_like(one) for one in inputs.random(*TRACED))
    program = torch.export.export(whole, example, dynamic_shapes=dynamic)
    for node in program.graph.nodes:
        for name in TRACES:
            node.meta.pop(name, None)
    return program
