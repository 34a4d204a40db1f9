"""The commands and what they are called."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Annotated, Any

import typer

import fastglt
from fastglt.cli import bench, compare, compile, datasets, evaluate, find, frontier, report, show
from fastglt.cli.exits import exit_codes
from fastglt.cli.options import (
    CHOSEN_BY_STUDY,
    COMPARE_SPECS,
    FIND_SPECS,
    FRONTIER_SPECS,
    BenchOptions,
    CompileOptions,
    ConfigOptions,
    DataOptions,
    JsonFlag,
    ModelOptions,
    ReportOptions,
    ResultOptions,
    RootOptions,
    Spec,
    TaskOptions,
)
from fastglt.cli.signature import parameters

TicketPath = Annotated[
    str, typer.Argument(metavar="TICKET", help="a ticket file", show_default=False)
]
StudyPath = Annotated[
    str, typer.Argument(metavar="STUDY", help="the folder of a study", show_default=False)
]


def build_command() -> Callable[..., Any]:
    """The command line as a click command; calling it parses the arguments and ends the process."""
    app = typer.Typer(
        help="Graph lottery tickets: find few edges and weights that train as well as all of them.",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # its boxes leave 20 columns for the text of 40 options
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback(invoke_without_command=True)(_callback)
    _add(app, "find", find.run, (*FIND_SPECS, ConfigOptions))
    _add(app, "compare", compare.run, (*COMPARE_SPECS, ConfigOptions), leave_out=CHOSEN_BY_STUDY)
    _add(app, "frontier", frontier.run, (*FRONTIER_SPECS, ConfigOptions), leave_out=("seed",))
    _add(app, "report", report.run, (ReportOptions,), study=StudyPath)
    _add(app, "show", show.run, (JsonFlag,), ticket=TicketPath)
    inputs = (DataOptions, TaskOptions, ModelOptions)
    _add(app, "eval", evaluate.run, (*inputs, ResultOptions, ConfigOptions), ticket=TicketPath)
    _add(app, "compile", compile.run, (*inputs, CompileOptions, ConfigOptions), ticket=TicketPath)
    _add(app, "bench", bench.run, (*inputs, BenchOptions, ConfigOptions), ticket=TicketPath)
    _add(app, "datasets", datasets.run, (RootOptions, JsonFlag))
    return typer.main.get_command(app)


def _callback(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)
    ] = False,
) -> None:
    if version:
        typer.echo(f"fastglt {fastglt.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _add(
    app: typer.Typer,
    name: str,
    run: Callable[..., None],
    specs: tuple[Spec, ...],
    leave_out: Container[str] = (),
    **arguments: Any,
) -> None:
    """Register ``run`` as a command with the options of ``specs`` and positional arguments.

    It is called with the arguments by name and with a dictionary of the options that were given.
    Fields of the specs that are in ``leave_out`` are no options of it.
    """

    def command(**values: Any) -> None:
        positional = {key: values.pop(key) for key in arguments}
        given = {key: value for key, value in values.items() if value is not None}
        with exit_codes():
            run(**positional, given=given)

    signature = parameters(specs, arguments, leave_out)
    command.__annotations__ = {
        entry.name: entry.annotation for entry in signature.parameters.values()
    }
    # What typer reads the parameters from.
    setattr(command, "__signature__", signature)  # noqa: B010
    app.command(name, help=run.__doc__)(command)
