"""``fastglt show``."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastglt.cli import formats, summary
from fastglt.cli.output import Output, print_json
from fastglt.search.presets import PRESETS, own_defaults
from fastglt.settings import Settings

if TYPE_CHECKING:
    from fastglt.ticket import Ticket

# Metrics that the tables and lines above the list of metrics show already.
_SHOWN = {
    *(f"{name}_{side}" for name in ("val", "test", "edges", "params", "macs")
      for side in ("dense", "ticket")),
    "metric", "edge_sparsity", "weight_sparsity",
}  # fmt: skip

# Settings that say what was searched, not how.
_RECORDS = ("dataset", "task", "model")


def run(ticket: str, given: Mapping[str, Any]) -> None:
    """Show what is in a ticket file, without its graph."""
    from fastglt.ticket import Ticket

    path = Path(ticket)
    content = Ticket.load(path)
    if given.get("json"):
        print_json(describe(content, path))
    else:
        _print(content, path, Output())


def describe(ticket: Ticket, path: Path) -> dict[str, Any]:
    """All of a ticket but its tensors, as JSON.

    Args:
        ticket: What the file holds.
        path: The file.
    """
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "is_lottery_ticket": ticket.is_lottery_ticket,
        "edges": {"kept": ticket.num_edges_kept, "total": ticket.edge_keep.numel()},
        "weights": {name: dict(zip(("kept", "total"), pair, strict=True))
                    for name, pair in _kept_by_parameter(ticket).items()},
        "edge_sparsity": ticket.edge_sparsity,
        "weight_sparsity": ticket.weight_sparsity,
        "metrics": ticket.metrics,
        "settings": ticket.settings,
        "provenance": ticket.provenance,
        "graph": ticket.graph,
        "model": ticket.model,
        "history": ticket.history,
        "init_is_full": ticket.init_is_full,
    }  # fmt: skip


def split_settings(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings that differ from the defaults of their preset and method, and the others.

    Args:
        settings: Settings of a ticket; those that this version does not know count as different.
    """
    preset, method = settings.get("preset"), settings.get("method")
    known = {}
    if isinstance(preset, str) and preset in PRESETS:
        known = own_defaults(method if isinstance(method, str) else "", preset)
    defaults = {name: field.default for name, field in Settings.model_fields.items()} | known
    defaults["preset"] = preset
    # As a ticket file gives them back: it has lists, no tuples.
    plain = {
        name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()
    }
    different = {
        name: value
        for name, value in settings.items()
        if name not in plain or (list(value) if isinstance(value, tuple) else value) != plain[name]
    }
    return different, {name: settings[name] for name in settings if name not in different}


def _print(ticket: Ticket, path: Path, output: Output) -> None:
    kind = "lottery ticket" if ticket.is_lottery_ticket else "pruned model, not rewound"
    output.line(f"{formats.text(str(path))}: {kind}, {formats.size(path.stat().st_size)}")
    output.line(summary.removed(ticket))
    if not ticket.init_is_full:
        output.line("only the kept entries of the initial weights are in the file")
    _section(output, "", summary.HEADER, summary.rows(ticket.metrics))
    counts = {"edges": (ticket.num_edges_kept, ticket.edge_keep.numel())}
    counts |= _kept_by_parameter(ticket)
    _section(
        output,
        "Kept",
        ("", "kept", "of", "sparsity"),
        [_kept_row(*each) for each in counts.items()],
    )
    recorded = {name: ticket.settings[name] for name in _RECORDS if name in ticket.settings}
    searched = {name: ticket.settings[name] for name in ticket.settings if name not in recorded}
    _values(output, "Found on", _known(_flat(recorded)))
    different, same = split_settings(searched)
    _values(output, "Settings that differ from the preset", different)
    _values(output, "Other settings", same)
    _values(output, "Other figures", _flat(ticket.metrics, leave_out=_SHOWN))
    _values(output, "Graph", ticket.graph)
    _values(output, "Found with", ticket.provenance)


def _section(
    output: Output,
    title: str,
    header: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
    text: tuple[int, ...] = (0,),
) -> None:
    if not rows:
        return
    output.line()
    if title:
        output.line(title)
    output.table(header, rows, text=text)


def _values(output: Output, title: str, values: Mapping[str, Any]) -> None:
    rows = [(formats.text(name), formats.text(value)) for name, value in values.items()]
    _section(output, title, ("name", "value"), rows, text=(0, 1))


def _kept_by_parameter(ticket: Ticket) -> dict[str, tuple[int, int]]:
    return {name: (int(mask.sum()), mask.numel()) for name, mask in ticket.weight_masks.items()}


def _kept_row(name: str, pair: tuple[int, int]) -> tuple[str, ...]:
    kept, total = pair
    sparsity = formats.percent(1 - kept / total) if total else "-"
    return (formats.text(name), formats.count(kept), formats.count(total), sparsity)


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what does not apply, such as the heads of a model that has none."""
    return {name: value for name, value in values.items() if value is not None}


def _flat(values: Mapping[str, Any], leave_out: Container[str] = ()) -> dict[str, Any]:
    """Nested values under dotted names, e.g. ``seconds.total``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if name in leave_out:
            continue
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": each for inner, each in value.items()}
        else:
            flat[name] = value
    return flat
