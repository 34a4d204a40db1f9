"""``fastglt compile``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastglt._atomic import check_writable
from fastglt.cli import formats
from fastglt.cli.config_file import with_config
from fastglt.cli.inputs import use_threads
from fastglt.cli.options import CompileOptions, validated
from fastglt.cli.output import STDOUT, Output, write_json
from fastglt.cli.ticketed import applied, inputs_of
from fastglt.errors import InputError

if TYPE_CHECKING:
    from fastglt.compile import Compiled
    from fastglt.compile.export import Exported


def run(ticket: str, given: Mapping[str, Any]) -> None:
    """Make a ticket a small, fast model that is proven equal, and write it to a file.

    Graph, task and model are those recorded in the ticket, unless other ones are named.
    """
    from fastglt.compile import compile_applied
    from fastglt.compile.export import checked
    from fastglt.ticket import Ticket

    values = with_config(given)
    options = validated(CompileOptions, values)
    checked(options.out, options.kind, options.weights)
    if options.json_file not in (None, STDOUT):
        check_writable(options.json_file)
        if Path(options.json_file).resolve() == options.out.resolve():
            raise InputError(f"--out and --json name one file ({str(options.out)!r})")
    use_threads(options)
    found = Ticket.load(ticket)
    inputs = inputs_of(found, values)
    compiled = compile_applied(*applied(found, inputs.model, inputs.dataset.data), inputs.task)
    exported = compiled.export(options.out, options.kind, options.weights)
    if options.json_file is not None:
        document = {
            "file": ticket,
            "out": str(options.out),
            **compiled.report.to_dict(),
            "exported": exported.to_dict(),
        }
        write_json(document, options.json_file)
    _report(compiled, exported, Output(sys.stderr if options.json_file == STDOUT else None))


def _report(compiled: Compiled, exported: Exported, output: Output) -> None:
    report = compiled.report
    channels = [max(widths[1:-1], default=0) for widths in report.widths]
    output.table(
        ("", "masked", "compiled"),
        [
            ("features read", *map(formats.count, report.inputs)),
            ("widest layer", *map(formats.count, channels)),
            ("parameters", *map(formats.count, report.parameters)),
            ("bytes", *map(formats.size, report.bytes)),
        ],
    )
    times = report.milliseconds
    fastest, masked = times[report.fastest], times["masked"]
    output.line(
        f"whole graph in {fastest:.3g} ms by {report.fastest}, {masked / fastest:.3g} times as "
        f"fast as the masked model on the kept edges ({report.threads} threads)"
    )
    if report.differences is not None:
        output.line(
            f"equal to the masked model: {report.differences.float64:.1g} in float64, "
            f"{report.differences.float32:.1g} in float32, of the largest output"
        )
    if report.native is not None:
        output.line(f"note: without kernels of our own: {formats.text(report.native)}")
    if report.no_graph is not None:
        output.line(f"note: without a CUDA graph: {formats.text(report.no_graph)}")
    if exported.weights != "float":
        output.line(
            f"weights of the file in {exported.weights}, which changes outputs by up to "
            f"{exported.rounding:.2g} of the largest one"
        )
    output.line(
        f"wrote {formats.text(exported.path)} ({exported.kind}, {formats.size(exported.bytes)})"
    )
