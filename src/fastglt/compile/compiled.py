"""From a ticket to a model that is small and fast, pass by pass."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.compile.channels import live_channels, merged
from fastglt.compile.edges import Graph, by_target
from fastglt.compile.export import exported, save
from fastglt.compile.kernels import Choice, Runner, in_turn
from fastglt.compile.lower import Unsupported, lower
from fastglt.compile.plain import PlainModel
from fastglt.compile.program import Program
from fastglt.compile.verify import Call, Differences, verify
from fastglt.compile.ways import Cost
from fastglt.cost import num_bytes, num_parameters
from fastglt.errors import ModelError


@dataclass(frozen=True)
class Report:
    """What the passes did.

    Attributes:
        edges: Number of edges that are left.
        widths: Channels of every value of the program, before and after dead ones were left out;
            empty where the model kept its shape.
        inputs: Columns of the features, before and after.
        parameters: Number of parameters, of the masked model (pruned ones included) and of the
            compiled one.
        bytes: Of these parameters.
        kept_shape: Why the model was not taken apart; ``None`` if it was.
        kernels: What was timed, and chosen.
        fell_back: Whether the masked model on the kept edges is faster than any kernels of ours,
            so that ``predict`` calls it.
        milliseconds: Medians of ``predict`` by kernels and by calling the masked model.
        differences: Largest differences from the masked model; ``None`` where it is that model.
        threads: Of torch, when kernels were timed.
    """

    edges: int
    widths: tuple[tuple[int, ...], tuple[int, ...]]
    inputs: tuple[int, int]
    parameters: tuple[int, int]
    bytes: tuple[int, int]
    kept_shape: str | None
    kernels: tuple[Choice, ...]
    fell_back: bool
    milliseconds: dict[str, float]
    differences: Differences | None
    threads: int = field(default_factory=torch.get_num_threads)

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, strings, lists and dicts."""
        return asdict(self)


class Compiled:
    """A compiled ticket.

    Attributes:
        model: A module of ordinary layers, called as ``model(x, edge_index)``, and with
            ``edge_weight`` where it is learned or the graph has it; for any graph that
            :meth:`prepare` has made ready. Where the ticket's model was not taken apart, it is that
            model with its weights masked.
        data: The graph of the ticket, ready for ``model``: kept edges, live columns of the
            features.
        report: What the passes did.
        columns: ``[k]`` int64, the columns of the features that the model reads.
        cost: Multiply-accumulates and bytes that ``predict`` takes; ``None`` where it calls the
            masked model.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        columns: Tensor,
        predict: Callable[[], Tensor],
        report: Report,
        cost: Cost | None = None,
    ) -> None:
        self.model, self.data, self.columns, self.report = model, data, columns, report
        self.cost = cost
        self._predict = predict

    def predict(self) -> Tensor:
        """Outputs ``[num_nodes, num_outputs]`` for the whole graph of the ticket.

        Everything that depends on the graph alone was computed beforehand.
        """
        return self._predict()

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write the model as a ``torch.export`` program, which needs neither PyG nor this library.

        ``torch.export.load(path).module()`` is called as ``module(x, edge_index)`` with all columns
        of the features, and with a third ``edge_weight`` if ``model`` reads it, for any graph.

        Args:
            path: A ``.pt2`` file; an existing one is replaced only when all went well.

        Raises:
            ModelError: The ticket's model was not taken apart, so that it still needs PyG.
            CompileError: The program differs from the model.
            OutputPathError: ``path`` cannot be written.
        """
        if not isinstance(self.model, PlainModel):
            raise ModelError(
                f"this model cannot be exported, since it kept its shape: {self.report.kept_shape}"
            )
        program = exported(
            self.model,
            self.columns,
            self.report.inputs[0],
            weighted=self.model.reads_edge_weight,
        )
        save(program, Path(path))

    def prepare(self, data: Data) -> Data:
        """A copy of a graph of the same features with what the model reads of them.

        Edges stay as they are; :meth:`fastglt.Ticket.transform` prunes those of a new graph.
        """
        return _narrow(data, self.columns)


def compile_applied(model: nn.Module, data: Data, call: Call) -> Compiled:
    """Compile a masked model for its graph.

    Args:
        model: The model with its pruned weights at 0; it is not changed.
        data: The graph with its kept edges.
        call: Calls a model on a graph.

    Raises:
        CompileError: If the result differs from the model.
    """
    model = copy.deepcopy(model).eval()
    data = by_target(data)
    try:
        # Folding in double precision, so that the proof can be in double precision too.
        whole = lower(copy.deepcopy(model).double(), data)
    except Unsupported as reason:
        return _as_it_is(model, data, call, str(reason))
    program = merged(live_channels(whole))
    dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())
    small, narrow = PlainModel(program.to(dtype)).eval(), _narrow(data, program.columns)
    runner = Runner(program.to(dtype), _graph(narrow, program), narrow.x.to(dtype))
    times = in_turn({"kernels": runner, "masked": lambda: _no_grad(call, model, data)})
    fell_back = times["masked"] < times["kernels"]
    predict = (lambda: _no_grad(call, model, data)) if fell_back else runner
    differences = verify(
        (model, data, call),
        (
            lambda precision: PlainModel(program.to(precision)).eval(),
            lambda graph: _narrow(graph, program.columns),
            call_plain,
        ),
        predict,
    )
    report = Report(
        data.num_edges,
        (tuple(whole.widths()), tuple(program.widths())),
        (whole.num_features, len(program.columns)),
        (num_parameters(model), num_parameters(small)),
        (num_bytes(model), num_bytes(small)),
        None,
        tuple(runner.choices),
        fell_back,
        times,
        differences,
    )
    cost = None if fell_back else runner.cost
    return Compiled(small, narrow, program.columns, predict, report, cost)


def runner_for(program: Program, data: Data) -> Runner:
    """A program bound to a graph that has all columns of the features."""
    narrow = _narrow(data, program.columns)
    return Runner(program, _graph(by_target(narrow), program), narrow.x)


def call_plain(model: nn.Module, data: Data) -> Tensor:
    """Call a :class:`~fastglt.compile.plain.PlainModel` on a graph made ready for it."""
    weight = data.get("edge_weight") if getattr(model, "reads_edge_weight", False) else None
    out: Tensor = model(data.x, data.edge_index, weight)
    return out


def _as_it_is(model: nn.Module, data: Data, call: Call, reason: str) -> Compiled:
    """Without taking the model apart: fewer edges, and nothing else."""
    x = data.get("x")
    width = 0 if x is None else x.size(1)

    def predict() -> Tensor:
        return _no_grad(call, model, data)

    report = Report(
        data.num_edges,
        ((), ()),
        (width, width),
        (num_parameters(model), num_parameters(model)),
        (num_bytes(model), num_bytes(model)),
        reason,
        (),
        True,
        in_turn({"masked": predict}),
        None,
    )
    return Compiled(model, data, torch.arange(width), predict, report)


def _no_grad(call: Call, model: nn.Module, data: Data) -> Tensor:
    with torch.no_grad():
        return call(model, data)


def _narrow(data: Data, columns: Tensor) -> Data:
    result = copy.copy(data)
    x = data.x.to_dense() if data.x.layout != torch.strided else data.x
    result.x = x.index_select(1, columns)
    return result


def _graph(data: Data, program: Program) -> Graph:
    weight = data.get("edge_weight") if program.reads_edge_weight else None
    return Graph(data.edge_index, weight, int(data.num_nodes))
