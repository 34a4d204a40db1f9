"""What the detail sections show of one method: means over seeds, and single runs to draw."""

from __future__ import annotations

from dataclasses import dataclass

from fastglt.report import records, wording
from fastglt.report.harm import KINDS, Behaviour, GroupMean, behaviour, harm
from fastglt.report.pruned import (
    BeforeAfter,
    DegreeMean,
    LayerMean,
    degrees,
    graph_figures,
    layers,
)
from fastglt.report.records import Event, Neighbourhood
from fastglt.report.subjects import rows_in_order
from fastglt.study.cells import Cell
from fastglt.study.summary import Row, Table


@dataclass(frozen=True)
class Detail:
    """One method at one budget.

    Attributes:
        label: Its name.
        seeds: Number of runs that were analysed.
        harm: Accuracy of groups of test nodes, by kind.
        behaviour: Agreement and calibration.
        graph: The graph before and after.
        degrees: Its degree distribution.
        layers: Densities of the layers.
    """

    label: str
    seeds: int
    harm: dict[str, list[GroupMean]]
    behaviour: Behaviour | None
    graph: list[BeforeAfter]
    degrees: list[DegreeMean]
    layers: list[LayerMean]

    @property
    def source(self) -> str:
        """Such as ``fastglt, mean of 10 seeds``."""
        if self.seeds == 1:
            return f"{self.label}, one seed"
        return f"{self.label}, mean of {wording.plural(self.seeds, 'seed')}"


@dataclass(frozen=True)
class SingleRun:
    """A run that is drawn itself, as an example."""

    cell: Cell
    events: tuple[Event, ...] = ()
    neighbourhood: Neighbourhood | None = None

    @property
    def source(self) -> str:
        """Such as ``fastglt, seed 0``."""
        return f"{self.cell.label}, seed {self.cell.seed}"


def details(table: Table) -> list[Detail]:
    """All methods of a table that were analysed, the main one first."""
    found = [_detail(row) for row in rows_in_order(table)]
    return [each for each in found if each.seeds]


def denoising_run(table: Table) -> SingleRun | None:
    """The first method's run of the lowest seed that has denoising events."""
    for cell in _cells(table):
        events = records.history(cell)
        if events:
            return SingleRun(cell, events=tuple(events))
    return None


def neighbourhood_run(table: Table) -> SingleRun | None:
    """The first method's run of the lowest seed that has a neighbourhood to draw."""
    for cell in _cells(table):
        part = records.analysis(cell).neighbourhood
        if part is not None and part.nodes:
            return SingleRun(cell, neighbourhood=part)
    return None


def kinds(detail: Detail) -> list[tuple[str, str, list[GroupMean]]]:
    """Key, name and groups of each kind."""
    return [(key, KINDS[key], groups) for key, groups in detail.harm.items()]


def _cells(table: Table) -> list[Cell]:
    return [
        cell
        for row in rows_in_order(table)
        for cell in sorted(row.cells, key=lambda cell: (cell.seed, cell.split_seed))
    ]


def _detail(row: Row) -> Detail:
    analyses = [records.analysis(cell) for cell in row.cells if cell.analysis]
    return Detail(
        row.label,
        len(analyses),
        harm(analyses),
        behaviour(analyses),
        graph_figures(analyses),
        degrees(analyses),
        layers(analyses),
    )
