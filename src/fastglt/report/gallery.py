"""Which figures a report has, and the words beside them."""

from __future__ import annotations

from functools import partial

from fastglt.report import wording
from fastglt.report.details import Detail, SingleRun, kinds
from fastglt.report.drawing import Drawing
from fastglt.report.figures.curves import curves
from fastglt.report.figures.degrees import degree_distribution
from fastglt.report.figures.denoising import denoising
from fastglt.report.figures.differences import differences
from fastglt.report.figures.frontier import frontier
from fastglt.report.figures.harm import harm_by
from fastglt.report.figures.layers import layer_densities
from fastglt.report.figures.neighbourhood import neighbourhood
from fastglt.report.slices import Frontier, frontiers, slices
from fastglt.report.subjects import Subject, slug
from fastglt.study.summary import Table


def comparison_drawings(subject: Subject, margin: float) -> list[Drawing]:
    """Differences of each budget, curves over budgets, searches for a frontier."""
    found = [
        _differences(subject, table)
        for table in subject.tables
        if any(row.versus_dense is not None for row in table.rows)
    ]
    found += [
        Drawing(
            f"{subject.key}curves-{part.name}",
            f"Test {subject.first.metric} on {subject.title} {part.title}, by method",
            f"Test {subject.first.metric} {part.title}. Lines are means over seeds, bands their "
            "95 % intervals; dashed: the dense model. A line that stays in the dense band has "
            "lost nothing; compare pairs of seeds in the table before you conclude.",
            partial(curves, part, subject.first.metric, subject.labels),
        )
        for part in slices(subject.tables)
    ]
    found += [
        _frontier(subject, part, number, margin)
        for number, part in enumerate(frontiers(subject.cells), start=1)
    ]
    return found


def harm_drawings(subject: Subject, detail: Detail) -> list[Drawing]:
    """Harm by each kind of groups."""
    return [
        Drawing(
            f"{subject.key}harm-{slug(key)}",
            f"Change of test accuracy of {detail.label} against dense on {subject.title} by {name}",
            f"Change of test accuracy against dense by {name} ({detail.source}), with 95 % "
            "intervals. In brackets: test nodes; right: accuracy of dense and of the ticket. "
            "Left of the line, the ticket does harm; an arrowhead is a change outside the picture.",
            partial(harm_by, name, groups),
        )
        for key, name, groups in kinds(detail)
    ]


def pruned_drawings(subject: Subject, detail: Detail) -> list[Drawing]:
    """Degrees and densities."""
    found = []
    if detail.degrees:
        found.append(
            Drawing(
                f"{subject.key}degrees",
                f"Degrees of {subject.title} before and after pruning by {detail.label}",
                f"Number of nodes by degree ({detail.source}). Bars at 0 are nodes that no edge "
                "is left of: they are predicted from their own features alone.",
                partial(degree_distribution, detail.degrees),
            )
        )
    if detail.layers:
        found.append(
            Drawing(
                f"{subject.key}layers",
                f"Share of weights that each layer of {subject.model} keeps",
                f"Share of the weights of each prunable parameter that is kept ({detail.source}), "
                "and how many there are.",
                partial(layer_densities, detail.layers),
            )
        )
    return found


def denoising_drawing(subject: Subject, run: SingleRun) -> Drawing:
    """The denoising run."""
    return Drawing(
        f"{subject.key}denoising",
        f"Denoising run of {run.source} on {subject.title}",
        f"One run ({run.source}). Top: validation metric of the masks before each event. Middle: "
        "share that the schedule swaps, and share of the kept that the one-shot cut kept too. "
        "Bottom: what was really swapped. Overlap that ends near 100 % says that denoising hardly "
        "changed the one-shot mask.",
        partial(denoising, run.events, run.cell.metric, run.cell.val_dense),
    )


def neighbourhood_drawing(subject: Subject, run: SingleRun) -> Drawing | None:
    """The drawing of a neighbourhood."""
    part = run.neighbourhood
    if part is None:
        return None
    kept = sum(keeps for _, _, keeps in part.edges)
    return Drawing(
        f"{subject.key}neighbourhood",
        f"Neighbourhood of node {part.middle} of {subject.title}: {kept} kept and "
        f"{len(part.edges) - kept} removed edges",
        f"Nodes within two hops of node {part.middle} (thick ring), one run ({run.source}). "
        "Numbers are classes; blue edges are kept, dashed ones are removed.",
        partial(neighbourhood, part),
    )


def budget_slug(table: Table) -> str:
    """Part of a file name, such as ``e30-w99_5``."""
    return f"e{100 * table.edge_sparsity:g}-w{100 * table.weight_sparsity:g}".replace(".", "_")


def _differences(subject: Subject, table: Table) -> Drawing:
    where = wording.budget(table.edge_sparsity, table.weight_sparsity)
    return Drawing(
        f"{subject.key}differences-{budget_slug(table)}",
        f"Paired differences of each method to dense on {table.title}, {where}",
        f"With {where}: mean paired difference to dense and its 95 % interval, in points. "
        f"A method wins if it is shown to lie right of the dashed line (−{table.margin:g}), and "
        "loses if it is shown to lie left of it. Arrows point to what lies outside.",
        partial(differences, table),
    )


def _frontier(subject: Subject, part: Frontier, number: int, margin: float) -> Drawing:
    confirmed = (
        "The diamond was confirmed on test, with seeds that the search did not use."
        if part.confirmed
        else "No sparsity has been confirmed on test yet."
    )
    return Drawing(
        f"{subject.key}frontier-{number}-{slug(part.label)}",
        f"Search for the highest sparsity at which {part.label} wins on {subject.title}",
        f"Search for the highest sparsity at which {part.label} loses nothing: difference to dense "
        f"on validation, with 95 % intervals. {confirmed}",
        partial(frontier, part, subject.first.metric, margin),
    )
