"""What the report draws of a cell, checked: files of cells may be foreign or of another version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fastglt.errors import InputError
from fastglt.settings import first_problem
from fastglt.study.cells import Cell


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Group(_Record):
    """Accuracy of some test nodes."""

    name: str
    nodes: int
    dense: float
    ticket: float


class Pair(_Record):
    """A figure of the dense model and of the ticket."""

    dense: float
    ticket: float


class GraphFigures(_Record):
    """Size and shape of a graph."""

    edges: int
    isolated: int
    components: int
    largest_component: int
    homophily: float | None = None


class DegreeBin(_Record):
    """Number of nodes in a range of degrees."""

    name: str
    before: int
    after: int


class Graph(_Record):
    """The graph before and after pruning."""

    num_nodes: int
    before: GraphFigures
    after: GraphFigures
    degrees: list[DegreeBin] = Field(default_factory=list)


class Layer(_Record):
    """Kept weights of a parameter."""

    name: str
    kept: int
    total: int


class Node(_Record):
    """A node of a neighbourhood."""

    id: int
    label: int = Field(alias="class")


class Neighbourhood(_Record):
    """Nodes around one node; edges are places in ``nodes`` and whether they are kept."""

    middle: int
    nodes: list[Node]
    edges: list[tuple[int, int, bool]]


class Analysis(_Record):
    """See :func:`fastglt.study.analysis.analyse`; what was not found is ``None`` or empty."""

    graph: Graph | None = None
    layers: list[Layer] = Field(default_factory=list)
    groups: dict[str, list[Group]] = Field(default_factory=dict)
    agreement: float | None = None
    calibration: Pair | None = None
    neighbourhood: Neighbourhood | None = None


class Event(_Record):
    """See :class:`fastglt.SwapEvent`."""

    step: int
    share: float
    edges_swapped: int
    weights_swapped: int
    edge_sparsity: float
    weight_sparsity: float
    edge_overlap: float
    weight_overlap: float
    metric: float | None = None


class _History(_Record):
    history: list[Event]


_Any = TypeVar("_Any", bound=_Record)


def analysis(cell: Cell) -> Analysis:
    """The checked analysis of a cell.

    Raises:
        InputError: If it is none.
    """
    return _checked(Analysis, cell.analysis, cell, "analysis")


def history(cell: Cell) -> list[Event]:
    """The checked denoising events of a cell, none where it has none.

    Raises:
        InputError: If one is none.
    """
    return _checked(_History, {"history": cell.history}, cell, "").history


def _checked(kind: type[_Any], value: Mapping[str, Any], cell: Cell, where: str) -> _Any:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        place, problem = first_problem(error)
        full = ".".join(part for part in (where, place) if part)
        raise InputError(f"cell {cell.label!r} of seed {cell.seed}: {full}: {problem}") from None
