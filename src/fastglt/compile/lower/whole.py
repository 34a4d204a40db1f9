"""A whole model as a program."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.compile.lower import convs, models, rows
from fastglt.compile.lower.base import Lowering, Unsupported
from fastglt.compile.program import Program
from fastglt.gating import accepts_keyword
from fastglt.models.embedding import WithEmbedding


def lower(model: nn.Module, data: Data) -> Program:
    """A model in evaluation as a program.

    Args:
        model: Its parameters are shared with the program.
        data: A graph as the model is called on.

    Raises:
        Unsupported: If part of the model, or of what it reads of the graph, is not known.
    """
    if isinstance(model, WithEmbedding):
        raise Unsupported("the model learned a row for each node, and reads no features")
    x = data.get("x")
    if x is None:
        raise Unsupported("the graph has no features")
    if not isinstance(x, Tensor) or x.dim() != 2 or not x.is_floating_point():
        raise Unsupported("the features are no matrix of floating-point numbers")
    if data.get("edge_attr") is not None and accepts_keyword(model, "edge_attr"):
        raise Unsupported("the model reads edge_attr")
    weighted = data.get("edge_weight") is not None and accepts_keyword(model, "edge_weight")
    if weighted and data.edge_weight.dim() != 1:
        raise Unsupported("edge_weight has more than one dimension")
    low = Lowering(rows.LOWERINGS, {**models.LOWERINGS, **convs.LOWERINGS}, weighted=weighted)
    output = low.module(model, 0)
    if not output:
        raise Unsupported("nothing is computed")
    columns = torch.arange(x.size(1), device=x.device)
    return Program(columns, x.size(1), tuple(low.ops[:output]), low.reads_edge_weight)
