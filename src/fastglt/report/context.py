"""All that the page shows of one subject, as text and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fastglt.report import wording
from fastglt.report.details import (
    Detail,
    denoising_run,
    details,
    kinds,
    neighbourhood_run,
)
from fastglt.report.drawing import Drawing
from fastglt.report.gallery import (
    comparison_drawings,
    denoising_drawing,
    harm_drawings,
    neighbourhood_drawing,
    pruned_drawings,
)
from fastglt.report.method_table import MethodTable, method_tables
from fastglt.report.overview import Overview, overview
from fastglt.report.provenance import Settings, notes, settings
from fastglt.report.subjects import Subject, main_table
from fastglt.report.verdicts import Finding, finding
from fastglt.study.summary import Table

_NODE_TASKS = ("node-classification", "multilabel-node-classification")


@dataclass(frozen=True)
class Block:
    """A part of the page: figures, or a sentence that says why there are none."""

    drawings: tuple[Drawing, ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class GroupTable:
    """Harm by one kind of groups, as text."""

    name: str
    rows: tuple[tuple[str, str, str, str, str], ...]


@dataclass(frozen=True)
class DetailView:
    """One method's figures as text."""

    label: str
    source: str
    groups: tuple[GroupTable, ...]
    facts: tuple[tuple[str, str], ...]
    detail: Detail


@dataclass(frozen=True)
class SubjectView:
    """One subject, in the order of the page."""

    number: int
    name: str
    subtitle: str
    finding: Finding
    overview: Overview | None
    where: str
    tables: list[MethodTable]
    comparison: Block
    harm: Block
    pruned: Block
    denoising: Block
    neighbourhood: Block
    details: list[DetailView]
    settings: Settings
    notes: list[tuple[str, str]] = field(default_factory=list)

    @property
    def drawings(self) -> list[Drawing]:
        """All figures."""
        blocks = self.comparison, self.harm, self.pruned, self.denoising, self.neighbourhood
        return [drawing for block in blocks for drawing in block.drawings]


def subject_view(subject: Subject, number: int, margin: float) -> SubjectView:
    """What the page shows of a subject.

    Args:
        subject: The subject.
        number: Its number on the page, from 1.
        margin: Largest loss that still counts as none, in points.
    """
    main = main_table(subject.tables)
    found = [] if main is None else details(main)
    return SubjectView(
        number=number,
        name=subject.name,
        subtitle=_subtitle(subject),
        finding=finding(subject, main),
        overview=overview(subject, main),
        where="" if main is None else wording.budget(main.edge_sparsity, main.weight_sparsity),
        tables=method_tables(subject, main),
        comparison=_block(
            comparison_drawings(subject, margin), "No cell has test results to compare yet."
        ),
        harm=_harm(subject, found),
        pruned=_pruned(subject, found),
        denoising=_denoising(subject, main),
        neighbourhood=_neighbourhood(subject, main),
        details=[_detail_view(detail) for detail in found],
        settings=settings(subject.groups),
        notes=notes(subject.cells),
    )


def _block(drawings: Sequence[Drawing], missing: str) -> Block:
    return Block(tuple(drawings), "" if drawings else missing)


def _subtitle(subject: Subject) -> str:
    first = subject.first
    seeds = len({(cell.seed, cell.split_seed) for cell in subject.cells})
    parts = [
        first.task.replace("-", " "),
        f"measured by {first.metric}",
        wording.plural(seeds, "seed"),
        wording.plural(len(subject.cells), "run"),
    ]
    if first.inductive:
        parts.append("inductive: validation and test nodes are unseen by teacher and search")
    elif first.task in _NODE_TASKS:
        parts.append("transductive: features of all nodes are used, labels of training nodes only")
    return ", ".join(parts)


def _harm(subject: Subject, found: Sequence[Detail]) -> Block:
    main = next((detail for detail in found if detail.harm), None)
    drawings = [] if main is None else harm_drawings(subject, main)
    return _block(
        drawings,
        "No accuracy by class, degree or homophily was recorded: it needs one class a node and "
        "test nodes.",
    )


def _pruned(subject: Subject, found: Sequence[Detail]) -> Block:
    drawings = pruned_drawings(subject, found[0]) if found else []
    return _block(drawings, "No figures of the pruned graph or layers were recorded.")


def _denoising(subject: Subject, main: Table | None) -> Block:
    run = None if main is None else denoising_run(main)
    drawings = [] if run is None else [denoising_drawing(subject, run)]
    return _block(drawings, "No run has denoising events to draw.")


def _neighbourhood(subject: Subject, main: Table | None) -> Block:
    run = None if main is None else neighbourhood_run(main)
    drawing = None if run is None else neighbourhood_drawing(subject, run)
    return _block(
        [] if drawing is None else [drawing],
        "No run recorded a neighbourhood small enough to draw.",
    )


def _detail_view(detail: Detail) -> DetailView:
    groups = tuple(
        GroupTable(
            name,
            tuple(
                (
                    group.name,
                    wording.count(group.nodes),
                    wording.number(group.dense, 1),
                    wording.number(group.ticket, 1),
                    wording.signed(group.change.mean, 1),
                )
                for group in same
            ),
        )
        for _, name, same in kinds(detail)
    )
    return DetailView(detail.label, detail.source, groups, tuple(_facts(detail)), detail)


def _facts(detail: Detail) -> list[tuple[str, str]]:
    known = detail.behaviour
    if known is None:
        return []
    facts = [("agrees with dense on", f"{wording.number(known.agreement, 1)} % of test nodes")]
    if known.calibration_dense is not None and known.calibration_ticket is not None:
        facts.append(
            (
                "expected calibration error",
                f"dense {wording.number(known.calibration_dense, 1)}, ticket "
                f"{wording.number(known.calibration_ticket, 1)} points",
            )
        )
    return facts
