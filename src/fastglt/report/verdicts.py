"""What a study shows, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastglt.report import wording
from fastglt.report.subjects import Subject, is_control, main_row, rows_in_order
from fastglt.study.methods import LIKE
from fastglt.study.statistics import Verdict
from fastglt.study.summary import Comparison, Row, Table, is_teacher_control

SAYS = {
    Verdict.WINS: "wins",
    Verdict.LOSES: "loses",
    Verdict.INCONCLUSIVE: "is inconclusive",
}
"""A verdict as the verb of a sentence."""
_SAY = SAYS | {Verdict.WINS: "win", Verdict.LOSES: "lose", Verdict.INCONCLUSIVE: "are inconclusive"}

# Controls that every table should have: their method, and what they are called in a sentence.
_CONTROLS = {
    "random": "random masks at the same sparsity",
    "reinit": "the ticket’s masks with fresh weights",
    "small-dense": "a small dense model with as many weights",
    "dense": "the dense model with the same teacher",
}
_PLURAL = {"random", "reinit"}
_SHOWS = {
    "random": "which edges and weights are kept makes no difference that this study can show",
    "reinit": "the initial weights are not what makes it win",
    "small-dense": "a narrower dense model does as well as sparse weights",
}


@dataclass(frozen=True)
class Finding:
    """The verdicts on one table.

    Attributes:
        verdict: Against dense; ``None`` where nothing was tested.
        headline: The first sentence.
        sentences: What has to be said beside it.
        caveat: What a control that wins too means for a ticket that wins; may be empty.
    """

    verdict: Verdict | None
    headline: str
    sentences: tuple[str, ...] = ()
    caveat: str = ""


def finding(subject: Subject, table: Table | None) -> Finding:
    """The verdicts on a table of a subject."""
    if table is None:
        return Finding(
            None,
            f"On {subject.title}, nothing has been tested yet for {subject.model}: the study has "
            "only runs of the search for a sparsity, which are judged on validation.",
        )
    main = main_row(table)
    where = wording.budget(table.edge_sparsity, table.weight_sparsity)
    if main is None:
        return Finding(
            None, f"On {table.title} with {where}, the study has controls only.", _controls(table)
        )
    compared = main.versus_dense
    if compared is None:
        return Finding(
            None,
            f"On {table.title}, {main.label} with {where} has no test result to compare with "
            f"dense {table.model}.",
            _controls(table),
        )
    return Finding(
        compared.verdict,
        f"On {table.title}, {main.label} with {where} {SAYS[compared.verdict]} against dense "
        f"{table.model}: {evidence(compared)}.",
        (*_reservations(main, compared), _like_for_like(main), *_others(table), *_controls(table)),
        _caveat(table, compared),
    )


def evidence(compared: Comparison) -> str:
    """``−0.12 points (95 % lower bound −0.41, margin 0.5, 10 seeds)``."""
    test = compared.test
    seeds = wording.plural(test.difference.num, "seed")
    if not math.isfinite(test.lower_bound):
        bound = "no bound from a single run"
    elif compared.verdict is Verdict.LOSES:
        bound = f"95 % upper bound {wording.signed(test.upper_bound)}"
    else:
        bound = f"95 % lower bound {wording.signed(test.lower_bound)}"
    difference = wording.points(test.difference.mean)
    return f"{difference} ({bound}, margin {test.margin:g}, {seeds})"


def _reservations(main: Row, compared: Comparison) -> Iterable[str]:
    cell = main.cells[0]
    if not compared.is_due:
        yield (
            "This study is not finished: verdicts are taken at the numbers of seeds that were "
            "declared before its first run, and this is none of them."
        )
    elif compared.verdict is not compared.test.verdict():
        yield (
            "Taken alone this comparison would be "
            f"{'won' if compared.test.verdict() is Verdict.WINS else 'lost'}; it is inconclusive "
            "because verdicts are corrected for all methods of its table and all looks at the data."
        )
    if compared.test.difference.num == 1:
        yield "One seed shows nothing either way; run more."
    if cell.settings.get("recover") == "finetune":
        yield "It was fine-tuned, not rewound, so it is no lottery ticket."


def _like_for_like(main: Row) -> str:
    compared = main.versus_like
    if main.cells[0].settings.get("teacher") == "none":
        if compared is None:
            return "It was trained for other epochs than dense, so this is not like for like."
        return "It was trained without a teacher, so this comparison is like for like."
    if compared is None:
        return (
            "Like for like is unknown: the study has no dense model trained with the same teacher."
        )
    return (
        f"Like for like, against dense trained with the same teacher, it {SAYS[compared.verdict]}: "
        f"{evidence(compared)}."
    )


def _others(table: Table) -> Iterable[str]:
    """One sentence on the methods besides the main one."""
    main = main_row(table)
    others = [row for row in rows_in_order(table) if row is not main and not is_control(row)]
    said = [
        f"{row.label} {SAYS[row.versus_dense.verdict]} "
        f"({wording.signed(row.versus_dense.test.difference.mean)})"
        for row in others
        if row.versus_dense is not None
    ]
    if said:
        yield f"Other methods against dense, in points: {wording.listed(said)}."


def _controls(table: Table) -> tuple[str, ...]:
    """One sentence on the controls that were run, one on those that were not."""
    said, missing = [], []
    for method, name in _CONTROLS.items():
        compared = [row for row in _control_rows(table, method) if row.versus_dense is not None]
        verbs = _SAY if method in _PLURAL else SAYS
        said += [
            f"{name} {verbs[row.versus_dense.verdict]} "
            f"({wording.signed(row.versus_dense.test.difference.mean)})"
            for row in compared
            if row.versus_dense is not None
        ]
        if not compared and not (method == "dense" and _has_no_teacher(table)):
            missing.append(name)
    sentences = []
    if said:
        sentences.append(f"Controls against dense, in points: {wording.listed(said)}.")
    if missing:
        sentences.append(f"Controls that were not run here: {wording.listed(missing)}.")
    return tuple(sentences)


def _has_no_teacher(table: Table) -> bool:
    main = main_row(table)
    return main is not None and main.cells[0].settings.get("teacher") == "none"


def _control_rows(table: Table, method: str) -> Sequence[Row]:
    """The rows of a control; dense models only under the teacher of the table's main row."""
    rows = [row for row in table.rows if row.cells[0].method == method]
    main = main_row(table)
    if method != "dense" or main is None:
        return [row for row in rows if method != "dense" or is_teacher_control(row.cells[0])]
    wanted = main.cells[0].settings
    return [
        row
        for row in rows
        if is_teacher_control(row.cells[0])
        and all(row.cells[0].settings[name] == wanted[name] for name in LIKE)
    ]


def _caveat(table: Table, compared: Comparison) -> str:
    if compared.verdict is not Verdict.WINS:
        return ""
    shown = [
        f"{_CONTROLS[method]} {'win' if method in _PLURAL else 'wins'} too, so {meaning}"
        for method, meaning in _SHOWS.items()
        if any(
            row.versus_dense is not None and row.versus_dense.verdict is Verdict.WINS
            for row in _control_rows(table, method)
        )
    ]
    if not shown:
        return ""
    return f"The sparsity is not the method’s merit alone: {'; '.join(shown)}."
