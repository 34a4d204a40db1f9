"""``fastglt bench``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastglt._atomic import check_writable
from fastglt.cli import formats
from fastglt.cli.config_file import with_config
from fastglt.cli.inputs import use_threads
from fastglt.cli.options import BenchOptions, validated
from fastglt.cli.output import STDOUT, Output, write_json
from fastglt.cli.ticketed import applied, inputs_of

if TYPE_CHECKING:
    from fastglt.compile.bench import Bench


def run(ticket: str, given: Mapping[str, Any]) -> None:
    """Measure what a ticket takes in time, memory and arithmetic, dense to compiled, side by side.

    Graph, task and model are those recorded in the ticket, unless other ones are named.
    """
    import torch

    from fastglt.compile import compile_applied
    from fastglt.compile.bench import bench
    from fastglt.ticket import Ticket

    values = with_config(given)
    options = validated(BenchOptions, values)
    if options.json_file not in (None, STDOUT):
        check_writable(options.json_file)
    use_threads(options)
    found = Ticket.load(ticket)
    inputs = inputs_of(found, values)
    data = inputs.dataset.data
    pruned = applied(found, inputs.model, data)
    dtype = None if options.dtype is None else getattr(torch, options.dtype)
    compiled = compile_applied(*pruned, inputs.task, dtype)
    measured = bench(
        (inputs.model, data), pruned, compiled, found.edge_keep, inputs.task, options.repeats
    )
    if options.json_file is not None:
        from fastglt.study.provenance import run_provenance

        document = {"file": ticket, **measured.to_dict(), "provenance": run_provenance()}
        write_json(document, options.json_file)
    _report(
        measured,
        compiled.report.native,
        Output(sys.stderr if options.json_file == STDOUT else None),
    )


def _report(measured: Bench, no_kernels: str | None, output: Output) -> None:
    fastest = measured.variants["compiled"].median_ms
    output.table(
        ("", "median ms", "10 to 90 %", "times compiled", "peak MB", "MACs", "bytes"),
        [
            (
                name.replace("_", " "),
                f"{variant.median_ms:.3g}",
                f"{variant.p10_ms:.3g} to {variant.p90_ms:.3g}",
                f"{variant.median_ms / fastest:.3g}",
                f"{variant.peak_mb:.3g}",
                formats.large(variant.macs),
                formats.size(variant.bytes),
            )
            for name, variant in measured.variants.items()
        ],
    )
    if measured.bound_ms is not None:
        output.line(
            f"bound of this machine for what is computed: {measured.bound_ms:.3g} ms, of which "
            f"compiled takes {fastest / measured.bound_ms:.3g} times as long "
            f"({measured.bandwidth_gb_s:.3g} GB/s, {measured.peak_gflop_s:.3g} GFLOP/s)"
        )
    output.line(
        f"largest difference of compiled and materialised: {measured.max_abs_diff:.2g} "
        f"({measured.threads} threads, {measured.device})"
    )
    for name, reason in measured.failed.items():
        output.line(f"note: {name.replace('_', ' ')} could not be measured: {reason}")
    if no_kernels is not None:
        output.line(f"note: without kernels of our own: {formats.text(no_kernels)}")
