"""From a ticket to a model that is small and fast, pass by pass."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.compile.channels import live_channels, merged
from fastglt.compile.cuda import Replayed, launched
from fastglt.compile.edges import Graph, by_target
from fastglt.compile.export import Exported, checked, export
from fastglt.compile.kernels import Choice, Runner, density
from fastglt.compile.lower import Unsupported, lower
from fastglt.compile.native.build import why_not
from fastglt.compile.order import folded, summed_first
from fastglt.compile.plain import PlainModel
from fastglt.compile.program import Program
from fastglt.compile.timing import in_turn, on_device
from fastglt.compile.verify import LOW, ROUNDED, Call, Differences, Reference, verify
from fastglt.compile.ways import Cost
from fastglt.cost import num_bytes, num_parameters
from fastglt.errors import InputError, ModelError
from fastglt.training.task import Task

SUMMED = 0.02
"""Share of the features that must be other than 0 for sums of them over neighbours to be tried."""


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
        native: Why kernels of our own were not among them; ``None`` where they were.
        fastest: What ``predict`` goes by, the fastest on this graph: ``"kernels"``, ``"masked"``,
            the ticket's model on the kept edges, or, where a lower precision was asked for,
            ``"kernels in float32"``.
        milliseconds: Medians of each of them.
        differences: Largest differences from the masked model; ``None`` where it is that model.
        no_graph: Why kernels are launched one by one on a CUDA device, where that is not for speed.
        threads: Of torch, when kernels were timed.
    """

    edges: int
    widths: tuple[tuple[int, ...], tuple[int, ...]]
    inputs: tuple[int, int]
    parameters: tuple[int, int]
    bytes: tuple[int, int]
    kept_shape: str | None
    kernels: tuple[Choice, ...]
    native: str | None
    fastest: str
    milliseconds: dict[str, float]
    differences: Differences | None
    no_graph: str | None = None
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
        program: Program | None = None,
    ) -> None:
        self.model, self.data, self.columns, self.report = model, data, columns, report
        self.cost, self._program = cost, program
        self._predict = predict

    @property
    def runner(self) -> Runner | Replayed | None:
        """What :meth:`predict` calls; ``None`` where that is the masked model."""
        return self._predict if isinstance(self._predict, (Runner, Replayed)) else None

    def predict(self) -> Tensor:
        """Outputs ``[num_nodes, num_outputs]`` for the whole graph of the ticket.

        Everything that depends on its edges alone was computed beforehand. They are in the lower
        precision that was asked for, if any was and kernels of that precision are the fastest.
        """
        return self._predict().clone() if self.cost is None else self._predict()

    def __repr__(self) -> str:
        """What it is and what ``predict`` goes by."""
        before, after = self.report.parameters
        return (
            f"Compiled({self.data.num_nodes} nodes, {self.report.edges} edges, {before} -> {after} "
            f"parameters, predicts by {self.report.fastest})"
        )

    def __reduce__(self) -> NoReturn:
        """Refuse copies: what was computed for this process and graph holds nowhere else."""
        raise TypeError(
            "a compiled ticket can be neither pickled nor copied; export it, or compile the "
            "ticket where it is needed"
        )

    def num_bytes_kept(self) -> int:
        """Bytes of memory that :meth:`predict` keeps for its next call."""
        return 0 if self.runner is None else self.runner.num_bytes_kept()

    def export(
        self, path: str | os.PathLike[str], kind: str | None = None, weights: str = "float"
    ) -> Exported:
        """Write the model as a file that needs neither PyG nor this library where it is used.

        It takes ``x`` ``[num_nodes, num_features]`` with all columns of the features,
        ``edge_index`` ``[2, num_edges]``, and ``edge_weight`` ``[num_edges]`` if ``model`` reads
        it, of any graph with at least two nodes and two edges. What was written is read again and
        compared with ``model`` on random graphs.

        Args:
            path: The file; an existing one is replaced only when all went well.
            kind: ``"program"`` for ``torch.export.load(path).module()``, ``"onnx"`` for
                ``onnxruntime`` and others, which needs the extra ``onnx``, or ``"package"`` for
                ``torch._inductor.aoti_load_package(path)``, which is compiled for machines like
                this one and needs a C++ compiler. ``None`` goes by the suffix: a program in a
                ``.pt2`` file, ONNX in an ``.onnx`` file. Packages are ``.pt2`` files too.
            weights: ``"float"``, or ``"int8"`` to round the weights of linear maps, which changes
                outputs.

        Returns:
            Exported: Size of the file, and the differences that were found.

        Raises:
            ModelError: The ticket's model was not taken apart, so that it still needs PyG.
            CompileError: The file differs from the model, or rounded weights change the largest
                output by more than 5 %.
            UnknownNameError: There is no such kind of file or of weights.
            OutputPathError: ``path`` cannot be written, or its suffix is that of another kind.
            InputError: What this kind needs is not installed.
        """
        checked(Path(path), kind, weights)
        if not isinstance(self.model, PlainModel):
            raise ModelError(
                f"this model cannot be exported, since it kept its shape: {self.report.kept_shape}"
            )
        columns, num_features = self.columns, self.report.inputs[0]
        return export(self.model, self.data, columns, num_features, Path(path), kind, weights)

    def prepare(self, data: Data) -> Data:
        """A copy of a graph of the same features with what the model reads of them.

        Edges stay as they are; :meth:`fastglt.Ticket.transform` prunes those of a new graph.

        Raises:
            InputError: The graph has another number of features.
        """
        return copy.copy(data) if self._program is None else narrowed(data, self._program)


def compile_applied(
    model: nn.Module, data: Data, task: Task, dtype: torch.dtype | None = None
) -> Compiled:
    """Compile a masked model for its graph.

    Args:
        model: The model with its pruned weights at 0; it is not changed.
        data: The graph with its kept edges.
        task: Calls the model.
        dtype: A lower precision for the values that kernels compute, one of
            :data:`~fastglt.compile.verify.LOW`; that of the model by default.

    Raises:
        CompileError: If the result differs from the model, or the model gives NaN or infinities.
        InputError: If ``dtype`` is none of those.
        ModelError: If ``dtype`` is given and the model is not taken apart.
    """
    if dtype is not None and dtype not in LOW:
        raise InputError(f"dtype must be one of {', '.join(map(str, LOW))} (got {dtype})")
    with torch.inference_mode(False), on_device(data.edge_index.device):
        return _compiled(copy.deepcopy(model).eval(), by_target(data), task, dtype)


def _compiled(model: nn.Module, data: Data, task: Task, dtype: torch.dtype | None) -> Compiled:
    try:
        own = _dtype_of(model, task)
        # Folding in double precision, so that the proof can be in double precision too.
        whole = lower(copy.deepcopy(model).double(), _dense(data))
    except Unsupported as reason:
        if dtype is not None:
            raise ModelError(f"{dtype} needs a model that is taken apart: {reason}") from reason
        return _as_it_is(model, data, task.call, str(reason))
    program, order = _ordered(live_channels(whole), data, own)
    small = PlainModel(program.to(own)).eval()
    narrow = narrowed(data, program)
    bound = _bound(program, data, own, dtype)
    launch = launched(bound)
    ways: dict[str, Callable[[], Tensor]] = {
        "kernels": launch.runner,
        # What the caller does to the graph is not to change what is predicted.
        "masked": _called(task.call, model, data.clone()),
    }
    if dtype is not None:
        precise = launched(_bound(program, data, own))
        ways[f"kernels in {str(own).removeprefix('torch.')}"] = precise.runner
    times = in_turn(ways)
    fastest = min(times, key=times.__getitem__)
    differences = verify(
        Reference(model, _dense(data), task.call),
        lambda precision: PlainModel(program.to(precision)).eval(),
        lambda graph: narrowed(graph, program),
        lambda precision: _bound(program, data, precision),
        ways[fastest],
        LOW[dtype] if dtype is not None and fastest == "kernels" else ROUNDED,
    )
    report = Report(
        data.num_edges,
        (tuple(whole.widths()), tuple(program.widths())),
        (whole.num_features, len(program.columns)),
        (num_parameters(model), num_parameters(small)),
        (num_bytes(model), num_bytes(small)),
        None,
        (*order, *bound.choices, *launch.choices),
        why_not(),
        fastest,
        times,
        differences,
        launch.no_graph,
    )
    chosen = ways[fastest]
    cost = chosen.cost if isinstance(chosen, (Runner, Replayed)) else None
    return Compiled(small, narrow, program.columns, chosen, report, cost, program)


def _dtype_of(model: nn.Module, task: Task) -> torch.dtype:
    """The precision of a model that a program can stand for.

    Raises:
        Unsupported: If the task calls the model in a way of its own, or the precision is low.
    """
    if type(task).call is not Task.call or type(task).keywords is not Task.keywords:
        raise Unsupported(f"{type(task).__name__} calls the model in a way of its own")
    dtypes = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if dtypes not in ({torch.float32}, {torch.float64}):
        names = ", ".join(sorted(map(str, dtypes))) or "no parameters"
        raise Unsupported(f"the model is neither in float32 nor in float64 ({names})")
    return dtypes.pop()


def _bound(
    program: Program, data: Data, dtype: torch.dtype, values: torch.dtype | None = None
) -> Runner:
    """A program bound to a graph that has all columns of the features.

    Args:
        program: The program.
        data: The graph.
        dtype: Of parameters, and of values by default.
        values: Of the values.
    """
    ready = narrowed(data, program)
    weight = ready.get("edge_weight") if program.reads_edge_weight else None
    graph = Graph(ready.edge_index, weight, int(ready.num_nodes))
    return Runner(program.to(dtype), graph, ready.x.to(values or dtype))


def _ordered(program: Program, data: Data, dtype: torch.dtype) -> tuple[Program, list[Choice]]:
    """The program, or one with its sums over neighbours earlier if that is faster here."""
    program = merged(folded(merged(program)))
    early = summed_first(program, features=density(narrowed(data, program).x) >= SUMMED)
    if early is None:
        return program, []
    orders = {"A (X W)": program, "(A X) W": early}
    times = in_turn({name: _bound(order, data, dtype) for name, order in orders.items()})
    fastest = min(times, key=times.__getitem__)
    return orders[fastest], [Choice("order", fastest, times)]


def runner_for(model: nn.Module, data: Data) -> Runner | Replayed:
    """All of a model, nothing of it pruned, by the kernels that are fastest on a graph.

    Raises:
        Unsupported: If part of the model, or of what it reads of the graph, is not known.
    """
    ready = _dense(by_target(data))
    dtype = next(model.parameters()).dtype
    with on_device(ready.edge_index.device):
        program, _ = _ordered(lower(model, ready), ready, dtype)
        return launched(_bound(program, ready, dtype)).runner


def narrowed(data: Data, program: Program) -> Data:
    """A copy of a graph with the columns of the features that a program reads.

    Raises:
        InputError: If the graph has another number of features.
    """
    result, x = copy.copy(data), data.get("x")
    width = None if x is None or x.dim() != 2 else x.size(1)
    if x is None or width != program.num_features:
        raise InputError(
            f"the graph must have the {program.num_features} features that the ticket's model was "
            f"built for (got {width if x is None else list(x.shape)})"
        )
    dense = x if x.layout == torch.strided else x.to_dense()
    result.x = dense.index_select(1, program.columns)
    return result


def _dense(data: Data) -> Data:
    """A copy of a graph with what models read of it, and features as a plain matrix."""
    x = data.get("x")
    if isinstance(x, Tensor) and x.layout != torch.strided:
        x = x.to_dense()
    read = {name: data.get(name) for name in ("edge_index", "edge_weight", "edge_attr")}
    there = {name: value for name, value in read.items() if value is not None}
    return Data(x=x, num_nodes=data.num_nodes, **there)


def _as_it_is(model: nn.Module, data: Data, call: Call, reason: str) -> Compiled:
    """Without taking the model apart: fewer edges, and nothing else."""
    x = data.get("x")
    width = x.size(1) if isinstance(x, Tensor) and x.dim() == 2 else 0
    # What the caller does to the model and the graph is not to change what is predicted.
    predict = _called(call, copy.deepcopy(model), data.clone())
    report = Report(
        data.num_edges,
        ((), ()),
        (width, width),
        (num_parameters(model), num_parameters(model)),
        (num_bytes(model), num_bytes(model)),
        reason,
        (),
        why_not(),
        "masked",
        in_turn({"masked": predict}),
        None,
    )
    return Compiled(model, data, torch.arange(width), predict, report)


def _called(call: Call, model: nn.Module, data: Data) -> Callable[[], Tensor]:
    def predict() -> Tensor:
        with torch.no_grad():
            return call(model, data)

    return predict
