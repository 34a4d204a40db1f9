"""Whom a ticket harms: accuracy by class, degree and homophily, mean over seeds."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastglt.report.records import Analysis, Group
from fastglt.study.statistics import Interval, interval
from fastglt.study.summary import POINTS

KINDS = {
    "class": "class",
    "degree": "degree",
    "homophily": "local homophily",
}
"""Kinds of groups by their key, in the order of the report."""


@dataclass(frozen=True)
class GroupMean:
    """Accuracy of a group of test nodes in points, mean over seeds.

    Attributes:
        name: Its name.
        nodes: Median number of its test nodes.
        dense: Of the dense model.
        ticket: Of the ticket.
        change: Ticket minus dense, with its interval over seeds.
    """

    name: str
    nodes: float
    dense: float
    ticket: float
    change: Interval


@dataclass(frozen=True)
class Behaviour:
    """How a ticket's predictions compare with the dense model's, in points, mean over seeds."""

    seeds: int
    agreement: float
    calibration_dense: float | None
    calibration_ticket: float | None


def harm(analyses: Sequence[Analysis]) -> dict[str, list[GroupMean]]:
    """Groups by kind; kinds that no seed has are left out.

    Args:
        analyses: One a seed.
    """
    result = {}
    for kind in KINDS:
        groups = [group for each in analyses for group in each.groups.get(kind, [])]
        if groups:
            result[kind] = _means(groups)
    return result


def behaviour(analyses: Sequence[Analysis]) -> Behaviour | None:
    """Agreement and calibration, ``None`` where no seed has them."""
    agreement = [each.agreement for each in analyses if each.agreement is not None]
    if not agreement:
        return None
    calibration = [each.calibration for each in analyses if each.calibration is not None]
    return Behaviour(
        len(agreement),
        POINTS * statistics.fmean(agreement),
        POINTS * statistics.fmean(pair.dense for pair in calibration) if calibration else None,
        POINTS * statistics.fmean(pair.ticket for pair in calibration) if calibration else None,
    )


def by_leading_number(name: str) -> tuple[float, str]:
    """Key that puts ``3-4`` before ``17-32``, and names without a number last."""
    found = re.match(r"\d+(\.\d+)?", name, re.ASCII)
    return float(found[0]) if found else float("inf"), name


def _means(groups: Iterable[Group]) -> list[GroupMean]:
    by_name: dict[str, list[Group]] = {}
    for group in groups:
        by_name.setdefault(group.name, []).append(group)
    return [
        GroupMean(
            name,
            statistics.median(group.nodes for group in same),
            POINTS * statistics.fmean(group.dense for group in same),
            POINTS * statistics.fmean(group.ticket for group in same),
            interval([POINTS * (group.ticket - group.dense) for group in same]),
        )
        for name, same in sorted(by_name.items(), key=lambda item: by_leading_number(item[0]))
    ]
