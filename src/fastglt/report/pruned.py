"""What was pruned: the graph before and after, and the layers, mean over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fastglt.report import wording
from fastglt.report.harm import by_leading_number
from fastglt.report.records import Analysis, DegreeBin, Graph, GraphFigures


@dataclass(frozen=True)
class BeforeAfter:
    """A figure of the graph before and after pruning, as text."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class DegreeMean:
    """Number of nodes in a range of degrees, mean over seeds."""

    name: str
    before: float
    after: float


@dataclass(frozen=True)
class LayerMean:
    """Kept weights of a parameter, mean over seeds."""

    name: str
    kept: float
    total: float

    @property
    def density(self) -> float:
        """Share that is kept."""
        return self.kept / self.total if self.total else 0.0


def graph_figures(analyses: Sequence[Analysis]) -> list[BeforeAfter]:
    """Size and shape of the graph; empty where no seed has it."""
    graphs = _graphs(analyses)
    if not graphs:
        return []
    nodes = statistics.fmean(graph.num_nodes for graph in graphs)
    rows: tuple[tuple[str, Callable[[GraphFigures], float | None], Callable[[float], str]], ...] = (
        ("edges (directed)", lambda graph: graph.edges, wording.count),
        ("isolated nodes", lambda graph: graph.isolated, lambda value: _of(value, nodes)),
        ("connected components", lambda graph: graph.components, wording.count),
        (
            "nodes in the largest component",
            lambda graph: graph.largest_component,
            lambda value: _of(value, nodes),
        ),
        ("edge homophily", lambda graph: graph.homophily, lambda value: f"{value:.3f}"),
    )
    return [
        BeforeAfter(
            name,
            _mean(map(read, (graph.before for graph in graphs)), write),
            _mean(map(read, (graph.after for graph in graphs)), write),
        )
        for name, read, write in rows
    ]


def degrees(analyses: Sequence[Analysis]) -> list[DegreeMean]:
    """Degree distribution before and after; empty where no seed has it."""
    graphs = _graphs(analyses)
    by_name: dict[str, list[DegreeBin]] = {}
    for graph in graphs:
        for each in graph.degrees:
            by_name.setdefault(each.name, []).append(each)
    # A bin that a seed does not have is empty there.
    return [
        DegreeMean(
            name,
            sum(each.before for each in same) / len(graphs),
            sum(each.after for each in same) / len(graphs),
        )
        for name, same in sorted(by_name.items(), key=lambda item: by_leading_number(item[0]))
    ]


def layers(analyses: Sequence[Analysis]) -> list[LayerMean]:
    """Densities of all pruned parameters, in the order of the model."""
    by_name: dict[str, list[tuple[int, int]]] = {}
    for each in analyses:
        for layer in each.layers:
            by_name.setdefault(layer.name, []).append((layer.kept, layer.total))
    return [
        LayerMean(
            name,
            statistics.fmean(kept for kept, _ in same),
            statistics.fmean(total for _, total in same),
        )
        for name, same in by_name.items()
    ]


def _graphs(analyses: Sequence[Analysis]) -> list[Graph]:
    return [each.graph for each in analyses if each.graph is not None]


def _mean(values: Iterable[float | None], write: Callable[[float], str]) -> str:
    known = [value for value in values if value is not None]
    return write(statistics.fmean(known)) if known else wording.NOTHING


def _of(value: float, nodes: float) -> str:
    return f"{wording.count(value)} ({100 * value / nodes:.3g} %)" if nodes else "0"
