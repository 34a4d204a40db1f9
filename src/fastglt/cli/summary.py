"""What a run won: the table that people read and the figures that programs read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fastglt.cli import formats

if TYPE_CHECKING:
    from fastglt.ticket import Ticket

HEADER = ("", "dense", "ticket")

# Label, what the keys in `metrics` end in `_dense` and `_ticket` after, and the format.
_ROWS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("validation {metric}", "val", formats.percent),
    ("test {metric}", "test", formats.percent),
    ("edges", "edges", formats.count),
    ("parameters", "params", formats.count),
    ("MACs", "macs", formats.large),
)
_STAGES = ("dense", "teacher", "search", "retrain", "total")
_OPTIONAL = ("trials",)
"""Stages that not every run has."""
_PRUNABLE = ("edges_pruned", "edges_prunable")
_TRAINED = ("dense", "teacher", "search", "retrain")


def subject(settings: Mapping[str, Any]) -> str:
    """One line: which model on which graph, for what.

    Args:
        settings: Those of a ticket, with the records of the command line.
    """
    dataset, task = settings["dataset"], settings["task"]
    return heading(
        settings["model"]["name"], dataset["title"] or dataset["name"], task["name"], task["metric"]
    )


def heading(model: str, dataset: str, task: str, metric: str) -> str:
    """Such as ``gcn on Cora: node-classification by accuracy``."""
    named = formats.text(model), formats.text(dataset), formats.text(task), formats.text(metric)
    return "{} on {}: {} by {}".format(*named)


def rows(metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Rows of the table dense / ticket; what was not measured has no row."""
    metric = formats.text(metrics.get("metric", "metric"))
    table = []
    for label, key, number_format in _ROWS:
        pair = (metrics.get(f"{key}_dense"), metrics.get(f"{key}_ticket"))
        if pair != (None, None):
            dense, ticket = (formats.cell(value, number_format) for value in pair)
            table.append((label.format(metric=metric), dense, ticket))
    cost = metrics.get("seconds")
    if isinstance(cost, Mapping) and _are_numbers(cost, _TRAINED):
        table.append(("training", formats.seconds(cost["dense"]), formats.seconds(cost["retrain"])))
        epochs = metrics.get("epochs")
        if isinstance(epochs, Mapping) and epochs.get("teacher"):
            table.append(("training of the teacher", "", formats.seconds(cost["teacher"])))
        table.append(("search (the dense run not counted)", "", formats.seconds(cost["search"])))
    return table


def result(ticket: Ticket) -> dict[str, Any]:
    """The figures of a run of ``find``, with the sparsities achieved.

    Args:
        ticket: What was found, with the records of the command line.
    """
    metrics, settings = ticket.metrics, ticket.settings
    measured = ("val_dense", "test_dense", "val_ticket", "test_ticket", "macs_dense",
                "macs_ticket", "params_dense", "params_ticket", "edges_dense",
                "edges_ticket")  # fmt: skip
    return {
        "dataset": settings["dataset"]["name"],
        "title": settings["dataset"]["title"],
        "model": settings["model"]["name"],
        "task": settings["task"]["name"],
        "metric": metrics["metric"],
        **{name: settings[name] for name in ("method", "preset", "seed", "inductive")},
        **{name: metrics[name] for name in ("edge_sparsity", "weight_sparsity", *measured)},
        "seconds": {
            stage: metrics["seconds"][stage]
            for stage in (*_STAGES, *_OPTIONAL)
            if stage in metrics["seconds"] or stage not in _OPTIONAL
        },
        "epochs": {stage: metrics["epochs"][stage] for stage in _TRAINED},
        **({"goal": metrics["goal"]} if "goal" in metrics else {}),
        "notes": metrics["notes"],
    }


def removed(ticket: Ticket) -> str:
    """One line with the sparsities achieved, and of how many edges if the search saw but a part."""
    metrics, counts = ticket.metrics, ""
    if ticket.settings.get("inductive") and _are_numbers(metrics, _PRUNABLE):
        pruned, prunable = (formats.count(metrics[name]) for name in _PRUNABLE)
        counts = f" ({pruned} of {prunable})"
    return (
        f"removed {formats.percent(ticket.edge_sparsity)} of the prunable edges{counts} and "
        f"{formats.percent(ticket.weight_sparsity)} of the prunable weights"
    )


def tried(goal: Mapping[str, Any]) -> str:
    """One line on how the sparsities were chosen.

    Args:
        goal: What a ticket's metrics say of it.
    """
    kind, value = formats.text(str(goal["kind"])), goal["value"]
    return f"chosen by {kind.replace('_', '-')} {value:g} among {len(goal['trials'])} sparsities"


def _are_numbers(values: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    return all(
        isinstance(values.get(name), (int, float)) and not isinstance(values[name], bool)
        for name in names
    )
