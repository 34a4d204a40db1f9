"""What a study's cells show: a table of methods for each graph, model and budget."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastglt.study.cells import BUDGET, Cell, hash_of
from fastglt.study.methods import DENSE, LIKE
from fastglt.study.naming import distinguished
from fastglt.study.statistics import (
    Interval,
    PairedTest,
    Verdict,
    interval,
    paired_test,
    rejected,
    verdict,
)

POINTS = 100
"""Points in a metric of 1."""
REFERENCE_METHOD = "ugs"
"""Whose search cost others are divided by."""
Pair = tuple[int, int]
"""Seed and seed of the split: what ties the runs of different methods together."""


@dataclass(frozen=True)
class Comparison:
    """A paired test with its verdict, corrected for the other rows of its table.

    Attributes:
        test: The test.
        verdict: At an error rate of 5 % for all rows and looks together (Holm, Pocock).
        is_due: Whether a look was declared at that number of pairs; else it is inconclusive.
    """

    test: PairedTest
    verdict: Verdict
    is_due: bool = True


@dataclass(frozen=True)
class Row:
    """One method of a table. Metrics are in points; costs are medians over seeds.

    Attributes:
        label: Name of the method, with what sets it apart in this study.
        cells: Its cells, one a seed.
        test: Test metric of the ticket; ``None`` where nothing was tested.
        versus_dense: Against the dense model.
        versus_like: Against the dense model that was trained with the same teacher; ``None`` where
            it was not run, or for that model itself.
        search_seconds: Up to the masks, the dense run included.
        search_epochs: Likewise.
        cost_ratio: Search seconds of UGS, divided by those of this method, seed by seed; above 1
            is cheaper than UGS. Only runs of the same code, processor and number of threads are
            compared; how busy the machine was is not known.
    """

    label: str
    cells: tuple[Cell, ...]
    test: Interval | None
    versus_dense: Comparison | None
    versus_like: Comparison | None
    search_seconds: float
    search_epochs: float
    cost_ratio: float | None

    def median(self, name: str) -> float:
        """Median over seeds of a figure of the cells, such as ``"macs_ticket"``."""
        return float(statistics.median(getattr(cell, name) for cell in self.cells))


@dataclass(frozen=True)
class Table:
    """All methods for one graph, model and budget.

    Attributes:
        title: Name of the graph.
        model: Name of the model.
        metric: What is measured.
        edge_sparsity: As asked for.
        weight_sparsity: As asked for.
        margin: In points.
        looks: Number of pairs at which verdicts are taken; ``None`` if none were declared.
        dense: Test metric of the dense model over all its seeds.
        rows: One a method, in the order of their first cells.
    """

    title: str
    model: str
    metric: str
    edge_sparsity: float
    weight_sparsity: float
    margin: float
    looks: tuple[int, ...] | None
    dense: Interval | None
    rows: tuple[Row, ...]

    def row(self, label: str) -> Row | None:
        """The row of that name."""
        return next((row for row in self.rows if row.label == label), None)


def tables(
    cells: Iterable[Cell], margin: float = 0.5, looks: Sequence[int] | None = None
) -> list[Table]:
    """Tables of all budgets, in the order in which they first appear.

    Cells of the search for a frontier are left out. A run that was made both to compare and to
    confirm counts once. Verdicts are corrected for all rows of their table.

    Args:
        cells: Cells of a study.
        margin: Largest loss that still counts as none, in points.
        looks: Number of seeds at each look at the data, see
            :func:`fastglt.study.statistics.look_level`. At any other number nothing is decided.
            ``None`` looks once, at what is there.
    """
    cells = list(cells)
    tested = (cell for cell in cells if cell.stage != "search")
    once = {(cell.label, cell.settings_hash, *_pair(cell)): cell for cell in tested}
    groups = _grouped(once.values(), _place).values()
    titles = subject_titles(group[0] for group in groups)
    names = {key: method_names(subject) for key, subject in _grouped(cells, subject_key).items()}
    declared = None if looks is None else tuple(looks)
    return [
        _table(
            titles[subject_key(group[0])],
            _grouped(group, names[subject_key(group[0])]),
            margin,
            declared,
        )
        for group in groups
    ]


def subject_key(cell: Cell) -> str:
    """The same for all cells of a graph, model and dense training."""
    return hash_of(common_key(cell))


def subject_titles(cells: Iterable[Cell]) -> dict[str, str]:
    """Name of the graph by :func:`subject_key`, with what sets it apart from its namesakes."""
    first = {subject_key(cell): cell for cell in cells}
    names = [(cell.title or cell.dataset, cell.model) for cell in first.values()]
    specs = [common_key(cell) for cell in first.values()]
    titles: dict[str, str] = {}
    for model in dict.fromkeys(model for _, model in names):
        places = [place for place, name in enumerate(names) if name[1] == model]
        told = distinguished([names[place][0] for place in places], [specs[p] for p in places])
        titles |= {list(first)[place]: title for place, title in zip(places, told, strict=True)}
    return titles


def common_key(cell: Cell) -> dict[str, Any]:
    """What all cells of a comparison share: graph, model, and how it is trained densely."""
    shared = {name: cell.spec[name] for name in ("dataset", "split", "model_config", "task")}
    return shared | {name: cell.settings[name] for name in DENSE}


def is_teacher_control(cell: Cell) -> bool:
    """Whether it is the dense model trained with the teacher, without any pruning."""
    return cell.method == "dense" and cell.settings["teacher"] != "none"


def _place(cell: Cell) -> str:
    budget = {name: cell.settings[name] for name in BUDGET}
    return hash_of(common_key(cell) | budget)


def _grouped(cells: Iterable[Cell], key: Callable[[Cell], str]) -> dict[str, list[Cell]]:
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[key(cell)].append(cell)
    return dict(groups)


def _table(
    title: str,
    by_label: Mapping[str, Sequence[Cell]],
    margin: float,
    looks: tuple[int, ...] | None,
) -> Table:
    cells = [cell for row in by_label.values() for cell in row]
    first = cells[0]
    ugs = _reference(by_label.values())
    like = [cell for cell in cells if is_teacher_control(cell)]
    rows = [_row(label, group, like, ugs, margin) for label, group in by_label.items()]
    dense = {_pair(cell): cell.test_dense for cell in cells if cell.test_dense is not None}
    return Table(
        title,
        first.model,
        first.metric,
        first.settings["edge_sparsity"],
        first.settings["weight_sparsity"],
        margin,
        looks,
        interval([POINTS * value for value in dense.values()]) if dense else None,
        _decided(rows, looks),
    )


def _reference(rows: Iterable[Sequence[Cell]]) -> Sequence[Cell]:
    """The cells of UGS that costs are compared with: its first row, one of the preset before."""
    candidates = [row for row in rows if row[0].method == REFERENCE_METHOD]
    return min(candidates, key=lambda row: row[0].preset != "default", default=())


def method_names(cells: Iterable[Cell]) -> Callable[[Cell], str]:
    """What a cell's method is called: its label, with settings that set it apart from namesakes.

    Args:
        cells: All cells of a subject, whatever their budgets.
    """
    first = {_method_key(cell): cell for cell in cells}
    labels = [cell.label for cell in first.values()]
    told = distinguished(labels, [_without_budget(cell) for cell in first.values()])
    names = dict(zip(first, told, strict=True))
    return lambda cell: names[_method_key(cell)]


def _method_key(cell: Cell) -> str:
    return f"{hash_of(_without_budget(cell))} {cell.label}"


def _without_budget(cell: Cell) -> dict[str, Any]:
    settings = {name: value for name, value in cell.settings.items() if name not in BUDGET}
    return cell.spec | {"settings": settings}


def _row(
    label: str, cells: Sequence[Cell], like: Sequence[Cell], ugs: Sequence[Cell], margin: float
) -> Row:
    tested = [POINTS * cell.test_ticket for cell in cells if cell.test_ticket is not None]
    dense = {_pair(cell): cell.test_dense for cell in cells}
    return Row(
        label,
        tuple(cells),
        interval(tested) if tested else None,
        _compared(cells, dense, margin),
        _compared(cells, _like_for_like(cells[0], like, dense), margin),
        statistics.median(cell.search_seconds for cell in cells),
        statistics.median(cell.search_epochs for cell in cells),
        _cost_ratio(cells, ugs),
    )


def _pair(cell: Cell) -> Pair:
    return cell.seed, cell.split_seed


def _like_for_like(
    cell: Cell, like: Sequence[Cell], dense: Mapping[Pair, float | None]
) -> Mapping[Pair, float | None]:
    """Test metrics of the dense model that was trained as the cell's ticket, teacher included."""
    if is_teacher_control(cell):
        return {}
    if cell.settings["teacher"] == "none":
        as_long = cell.settings["dense_epochs"] == cell.settings["retrain_epochs"]
        return dense if as_long else {}
    same = [
        other for other in like if all(other.settings[name] == cell.settings[name] for name in LIKE)
    ]
    return {_pair(other): other.test_ticket for other in same}


def _compared(
    cells: Sequence[Cell], reference: Mapping[Pair, float | None], margin: float
) -> Comparison | None:
    differences = []
    for cell in cells:
        other = reference.get(_pair(cell))
        if cell.test_ticket is not None and other is not None:
            differences.append(POINTS * (cell.test_ticket - other))
    if not differences:
        return None
    test = paired_test(differences, margin)
    return Comparison(test, test.verdict())


def _cost_ratio(cells: Sequence[Cell], ugs: Sequence[Cell]) -> float | None:
    cost = {_circumstances(cell): cell.search_seconds for cell in ugs}
    ratios = [
        cost[key] / cell.search_seconds for cell in cells if (key := _circumstances(cell)) in cost
    ]
    return statistics.median(ratios) if ratios else None


def _circumstances(cell: Cell) -> tuple[Any, ...]:
    """What must be the same for seconds to be compared."""
    known = (cell.provenance.get(name) for name in ("commit", "processor", "device", "threads"))
    return (*_pair(cell), *known)


def _decided(rows: Sequence[Row], looks: tuple[int, ...] | None) -> tuple[Row, ...]:
    """The rows of a table with verdicts that hold for all of one kind together."""
    dense = _verdicts([row.versus_dense for row in rows], looks)
    like = _verdicts([row.versus_like for row in rows], looks)
    return tuple(
        replace(row, versus_dense=against_dense, versus_like=against_like)
        for row, against_dense, against_like in zip(rows, dense, like, strict=True)
    )


def _verdicts(
    comparisons: Sequence[Comparison | None], looks: tuple[int, ...] | None
) -> list[Comparison | None]:
    tests = [each.test for each in comparisons if each is not None]
    due = [looks is None or test.difference.num in looks for test in tests]

    def shown(p_values: Iterable[float]) -> list[bool]:
        valid = [p if is_due else 1.0 for p, is_due in zip(p_values, due, strict=True)]
        return rejected(valid, looks or (1,))

    wins, loses = shown(test.p_win for test in tests), shown(test.p_lose for test in tests)
    decided = (
        Comparison(test, verdict(win, lose), is_due)
        for test, win, lose, is_due in zip(tests, wins, loses, due, strict=True)
    )
    return [None if each is None else next(decided) for each in comparisons]
