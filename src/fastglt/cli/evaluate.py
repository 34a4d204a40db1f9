"""``fastglt eval``."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastglt._atomic import check_writable
from fastglt.cli import formats
from fastglt.cli.config_file import with_config
from fastglt.cli.inputs import build_model, check_names, load_dataset, use_threads
from fastglt.cli.options import DataOptions, ModelOptions, ResultOptions, validated
from fastglt.cli.output import STDOUT, Output, write_json
from fastglt.cli.records import DatasetRecord, ModelRecord, read_record
from fastglt.errors import FastGLTError, InputError, TicketFileError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch_geometric.data import Data

    from fastglt.ticket import Ticket

EXACT = 1e-6
"""Metrics closer than this are equal."""
ROUNDING = 1e-4
"""Logits closer than this share of the largest one may change places by rounding."""


@dataclass(frozen=True)
class Check:
    """One metric, measured again.

    Attributes:
        split: ``"val"`` or ``"test"``.
        measured: The metric now.
        recorded: The metric in the ticket, if it has it.
        tolerance: How far rounding may move it.
    """

    split: str
    measured: float
    recorded: float | None
    tolerance: float

    @property
    def agrees(self) -> bool | None:
        """Whether the ticket's claim holds; ``None`` where it claims nothing."""
        if self.recorded is None:
            return None
        return abs(self.measured - self.recorded) <= self.tolerance


def run(ticket: str, given: Mapping[str, Any]) -> None:
    """Apply a ticket and measure again what it claims.

    Graph and model are those recorded in the ticket, unless other ones are named.
    """
    from fastglt.ticket import Ticket

    values = with_config(given)
    results = validated(ResultOptions, values)
    if results.json_file not in (None, STDOUT):
        check_writable(results.json_file)
    use_threads(results)
    path = Path(ticket)
    content = Ticket.load(path)
    data_options, dataset_record = _dataset_of(content, values)
    model_record = _model_of(content, values)
    check_names(model=model_record.name)
    dataset = load_dataset(data_options, dataset_record)
    model = build_model(model_record, dataset, seed=0)
    checks = _measure(content, *_applied(content, model, dataset.data), dataset.num_classes)
    _report(path, dataset.name, model_record.name, checks, results)


def _dataset_of(
    ticket: Ticket, values: Mapping[str, Any]
) -> tuple[DataOptions, DatasetRecord | None]:
    """The dataset that is named, else the recorded one; the record only if it is about that one."""
    options = validated(DataOptions, values)
    record = read_record(DatasetRecord, "dataset", ticket.settings)
    if options.dataset is None:
        if record is None:
            raise InputError(
                "this ticket does not say which dataset it was found on; name it with --dataset"
            )
        options = options.model_copy(update={"dataset": record.name})
    is_other = record is not None and record.name.lower() != str(options.dataset).lower()
    # Who asks for another split wants that one, not the recorded one.
    return options, None if is_other or "split_seed" in values else record


def _model_of(ticket: Ticket, values: Mapping[str, Any]) -> ModelRecord:
    """The model that is named, completed by the recorded one."""
    record = read_record(ModelRecord, "model", ticket.settings)
    recorded = {} if record is None else record.model_dump()
    if "name" in recorded:
        recorded["model"] = recorded.pop("name")
    return ModelRecord.of(validated(ModelOptions, {**recorded, **values}))


def _applied(ticket: Ticket, model: nn.Module, data: Data) -> tuple[nn.Module, Data]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        applied = ticket.apply(model, data)
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)  # noqa: T201
    return applied


def _measure(ticket: Ticket, model: nn.Module, data: Data, num_classes: int) -> list[Check]:
    from fastglt.training.loop import predict
    from fastglt.training.task import NodeClassification
    from fastglt.training.teacher import Objective

    task = NodeClassification(num_classes)
    out = predict(model, data, Objective(task))
    return [
        Check(
            split,
            task.metric(out, data, split),
            _recorded(ticket, f"{split}_ticket"),
            EXACT + _rounding_slack(out[data[f"{split}_mask"]]),
        )
        for split in ("val", "test")
    ]


def _recorded(ticket: Ticket, name: str) -> float | None:
    value = ticket.metrics.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TicketFileError(f"the ticket's metric {name} must be a number (got {value!r})")
    return float(value)


def _rounding_slack(out: Tensor) -> float:
    """Share of the nodes whose class rounding may change, for logits ``[num_nodes, num_classes]``.

    Sparse or dense inputs, thread counts and machines add in different orders.
    """
    if out.numel() == 0 or out.size(1) < 2:
        return 0.0
    first, second = out.topk(2, dim=1).values.unbind(dim=1)
    return float(((first - second) <= ROUNDING * out.abs().max()).float().mean())


def _report(
    path: Path, dataset: str, model: str, checks: list[Check], results: ResultOptions
) -> None:
    """Print and write the outcome.

    Raises:
        FastGLTError: If the ticket claims what does not hold.
    """
    wrong = [check for check in checks if check.agrees is False]
    compared = [check for check in checks if check.agrees is not None]
    if results.json_file is not None:
        document: dict[str, Any] = {"file": str(path), "dataset": dataset, "model": model}
        for check in checks:
            document[f"{check.split}_ticket"] = check.measured
            document[f"{check.split}_recorded"] = check.recorded
        document["agrees"] = not wrong if compared else None
        write_json(document, results.json_file)
    output = Output(sys.stderr if results.json_file == STDOUT else None)
    names = {"val": "validation metric", "test": "test metric"}
    output.table(
        ("", "measured", "recorded"),
        [
            (
                names[check.split],
                formats.percent(check.measured),
                formats.cell(check.recorded, formats.percent),
            )
            for check in checks
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
    output.line(
        "measured and recorded figures agree"
        if compared
        else "the ticket records no metrics to compare with"
    )
