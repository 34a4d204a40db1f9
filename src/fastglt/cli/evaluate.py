"""``fastglt eval``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastglt._atomic import check_writable
from fastglt.cli import formats, summary
from fastglt.cli.config_file import with_config
from fastglt.cli.inputs import use_threads
from fastglt.cli.measure import Check, measure
from fastglt.cli.options import ResultOptions, validated
from fastglt.cli.output import STDOUT, Output, write_json
from fastglt.cli.ticketed import applied, inputs_of
from fastglt.errors import FastGLTError

if TYPE_CHECKING:
    from fastglt.ticket import Ticket


@dataclass(frozen=True)
class _Measurement:
    """What was measured on what.

    Attributes:
        path: The ticket file.
        dataset: Name of the graph.
        title: The name that results are reported under.
        model: Name of the model.
        task: What was predicted.
        metric: What was measured.
        checks: Outcome by split.
        silence: Why nothing is compared, where nothing is.
    """

    path: Path
    dataset: str
    title: str
    model: str
    task: str
    metric: str
    checks: list[Check]
    silence: str


def run(ticket: str, given: Mapping[str, Any]) -> None:
    """Apply a ticket and measure again what it claims.

    Graph, task and model are those recorded in the ticket, unless other ones are named.
    """
    from fastglt.ticket import Ticket

    values = with_config(given)
    results = validated(ResultOptions, values)
    if results.json_file not in (None, STDOUT):
        check_writable(results.json_file)
    use_threads(results)
    path = Path(ticket)
    _report(_measured(Ticket.load(path), path, values), results)


def _measured(ticket: Ticket, path: Path, values: Mapping[str, Any]) -> _Measurement:
    inputs = inputs_of(ticket, values)
    dataset, task = inputs.dataset, inputs.task
    checks = measure(ticket, *applied(ticket, inputs.model, dataset.data), task)
    silence = ""
    if inputs.other_split:
        silence = "measured on another split than the ticket's; nothing is compared"
        checks = [replace(check, recorded=None) for check in checks]
    elif all(check.recorded is None for check in checks):
        silence = f"the ticket records no {task.metric_name} to compare with"
    names = (dataset.name, dataset.title or dataset.name, inputs.model_name)
    return _Measurement(path, *names, task.name, task.metric_name, checks, silence)


def _report(found: _Measurement, results: ResultOptions) -> None:
    """Print and write the outcome.

    Raises:
        FastGLTError: If the ticket claims what does not hold.
    """
    wrong = [check for check in found.checks if check.agrees is False]
    if results.json_file is not None:
        write_json(_document(found), results.json_file)
    output = Output(sys.stderr if results.json_file == STDOUT else None)
    names = {"val": f"validation {found.metric}", "test": f"test {found.metric}"}
    output.line(summary.heading(found.model, found.title, found.task, found.metric))
    output.table(
        ("", "measured", "recorded"),
        [
            (
                names[check.split],
                formats.percent(check.measured),
                formats.cell(check.recorded, formats.percent),
            )
            for check in found.checks
        ],
    )
    if wrong:
        raise FastGLTError(
            "the ticket claims what does not hold here: "
            + "; ".join(
                f"{names[check.split]} {check.recorded:.6f} recorded, {check.measured:.6f} measured"
                for check in wrong
            )
        )
    output.line(found.silence or "measured and recorded figures agree")


def _document(found: _Measurement) -> dict[str, Any]:
    document: dict[str, Any] = {
        "file": str(found.path),
        "dataset": found.dataset,
        "title": found.title,
        "model": found.model,
        "task": found.task,
        "metric": found.metric,
    }
    for check in found.checks:
        document[f"{check.split}_ticket"] = check.measured
        document[f"{check.split}_recorded"] = check.recorded
    verdicts = [check.agrees for check in found.checks if check.agrees is not None]
    document["agrees"] = all(verdicts) if verdicts else None
    return document
