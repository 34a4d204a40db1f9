"""``fastglt find``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fastglt._atomic import check_writable
from fastglt.checkpoint.places import FILES, LOCK, check_folder
from fastglt.cli import formats, summary
from fastglt.cli.config_file import with_config
from fastglt.cli.exits import immediate_interrupts, terminations
from fastglt.cli.inputs import (
    build_model,
    check_method,
    check_model,
    check_source,
    choose_task,
    load_dataset,
    model_record,
    narrow_model,
    read_predictions,
    use_threads,
)
from fastglt.cli.options import (
    DENOISING_METHODS,
    CheckpointOptions,
    DataOptions,
    FindOptions,
    GoalOptions,
    LinkOptions,
    ModelOptions,
    TaskOptions,
    TeacherOptions,
    for_sampler,
    link_options,
    validated,
)
from fastglt.cli.output import STDOUT, Output, warnings_as_lines, write_json
from fastglt.cli.progress import progress_bars
from fastglt.cli.records import DatasetRecord
from fastglt.errors import InputError
from fastglt.report.denoising_plot import check_plot_path, save_denoising_plot
from fastglt.search.presets import resolve_settings
from fastglt.settings import GIVEN, Settings
from fastglt.training.callback import Callback, Callbacks
from fastglt.training.json_lines_log import JsonLinesLog
from fastglt.training.tensorboard_log import TensorBoardLog

if TYPE_CHECKING:
    from fastglt.ticket import Ticket


def run(given: Mapping[str, Any]) -> None:
    """Search, rewind, retrain, save the ticket, show what was won."""
    values = with_config(given)
    outputs = validated(FindOptions, values)
    checkpoint = validated(CheckpointOptions, values)
    inputs = _Inputs(
        validated(DataOptions, values),
        validated(TaskOptions, values),
        link_options(values),
        validated(ModelOptions, values),
        validated(GoalOptions, values),
        validated(TeacherOptions, values).teacher_file,
    )
    settings = _settings(values, inputs.teacher)
    check_source(inputs.data)
    check_model(inputs.model)
    check_method(settings.method)
    _check_recovery(settings)
    _check_checkpoint(checkpoint)
    _check_outputs(outputs, settings, _held(inputs, checkpoint))
    with terminations(), _ranks(inputs.data.device) as rank:
        with warnings_as_lines():
            ticket = _search(inputs, settings, outputs, checkpoint, is_quiet=rank > 0)
        if rank == 0:
            _write(ticket, outputs)


@contextmanager
def _ranks(device: str) -> Iterator[int]:
    """Join the processes that torchrun started, if it did; which of them this is."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0
        return
    with immediate_interrupts():
        from fastglt.training.ranks import joined_ranks

    with joined_ranks(device) as ranks:
        yield ranks.rank


class _Inputs(NamedTuple):
    """What is searched, graph, task and model, by what goal and under whose guidance."""

    data: DataOptions
    task: TaskOptions
    links: LinkOptions
    model: ModelOptions
    goal: GoalOptions
    teacher: Path | None


def _settings(values: Mapping[str, Any], teacher: Path | None) -> Settings:
    values = for_sampler(values)
    given = {name: values[name] for name in Settings.model_fields if name in values}
    if given.get("sampler") == GIVEN:
        raise InputError("--sampler given needs a loader, so it is for Python: fastglt.find()")
    if teacher is not None:
        if given.get("teacher", GIVEN) != GIVEN:
            raise InputError(
                f"--teacher-file is a teacher of your own, so leave out --teacher "
                f"(got {given['teacher']!r})"
            )
        given["teacher"] = GIVEN
    elif given.get("teacher") == GIVEN:
        raise InputError("--teacher given needs its predictions: add --teacher-file")
    return resolve_settings(given)


def _search(
    inputs: _Inputs,
    settings: Settings,
    outputs: FindOptions,
    checkpoint: CheckpointOptions,
    is_quiet: bool = False,
) -> Ticket:
    dataset = load_dataset(inputs.data)
    with immediate_interrupts():
        from fastglt.api import find

    use_threads(outputs)
    task = choose_task(inputs.task, dataset, inputs.links)
    model = build_model(inputs.model, dataset, task, settings.seed)
    chosen = settings.model_dump()
    if inputs.teacher is not None:
        chosen["teacher"] = read_predictions(inputs.teacher)
    watching = [] if is_quiet else _logs(outputs)
    with nullcontext() if is_quiet else progress_bars() as bars:
        ticket = find(
            model,
            dataset.data,
            task=task,
            callback=Callbacks([*([] if bars is None else [bars]), *watching]),
            narrow=narrow_model(inputs.model, dataset, task),
            **inputs.goal.model_dump(),
            **checkpoint.model_dump(),
            **chosen,
        )
    is_own = inputs.data.data is not None
    ticket.settings["dataset"] = DatasetRecord.of(dataset, own=is_own).model_dump()
    ticket.settings["model"] = model_record(
        inputs.model, dataset, ticket.metrics.get("width")
    ).model_dump()
    return ticket


def _logs(outputs: FindOptions) -> list[Callback]:
    """What watches the search beside the progress bars."""
    logs: list[Callback] = []
    if outputs.log is not None:
        logs.append(JsonLinesLog(outputs.log))
    if outputs.tensorboard is not None:
        logs.append(TensorBoardLog(outputs.tensorboard))
    return logs


def _write(ticket: Ticket, outputs: FindOptions) -> None:
    """Save everything, the ticket first, then print."""
    ticket.save(outputs.out)
    written = [path for path in (outputs.out, outputs.log) if path is not None]
    if outputs.plot is not None:
        save_denoising_plot(outputs.plot, ticket.history, ticket.metrics)
        written.append(outputs.plot)
    to_stdout = outputs.json_file == STDOUT
    if outputs.json_file is not None:
        write_json(summary.result(ticket), outputs.json_file)
        if not to_stdout:
            written.append(outputs.json_file)
    output = Output(sys.stderr if to_stdout else None)
    output.line(summary.subject(ticket.settings))
    output.table(summary.HEADER, summary.rows(ticket.metrics))
    output.line(summary.removed(ticket))
    if "goal" in ticket.metrics:
        output.line(summary.tried(ticket.metrics["goal"]))
    for note in ticket.metrics["notes"]:
        output.line(f"note: {note}")
    for path in written:
        if not path.exists():  # a log of a run that was over already
            continue
        output.line(f"wrote {path} ({formats.size(path.stat().st_size)})")


def _check_recovery(settings: Settings) -> None:
    if settings.recover != "rewind":
        raise InputError(
            f"recover must be 'rewind' on the command line (got {settings.recover!r}): fine-tuning "
            "starts from a trained model, and a named backbone is new; use fastglt.find() for it"
        )


def _held(inputs: _Inputs, checkpoint: CheckpointOptions) -> dict[Path, str]:
    """Files that nothing may be written to, and by which option each came."""
    held = {}
    for name, path in (("data", inputs.data.data), ("teacher-file", inputs.teacher)):
        if path is not None:
            held[path.resolve()] = name
    if checkpoint.checkpoint is not None:
        folder = checkpoint.checkpoint.resolve()
        held |= {folder / name: "checkpoint" for name in (*FILES, LOCK)}
    return held


def _check_outputs(outputs: FindOptions, settings: Settings, held: Mapping[Path, str]) -> None:
    """Refuse now what could not be written after the search, or would overwrite what it needs."""
    if outputs.plot is not None:
        check_plot_path(outputs.plot)
        _check_history(settings)
    seen = dict(held)
    for name, path in (
        ("out", outputs.out),
        ("json", outputs.json_file),
        ("plot", outputs.plot),
        ("log", outputs.log),
    ):
        if path is None or (name == "json" and path == STDOUT):
            continue
        check_writable(path)
        other = seen.setdefault(path.resolve(), name)
        if other != name:
            raise InputError(f"--{other} and --{name} must be different files (got {path} twice)")


def _check_checkpoint(options: CheckpointOptions) -> None:
    if options.checkpoint is not None:
        check_folder(options.checkpoint, resume=options.resume)
    elif options.resume:
        raise InputError("--resume needs the folder of the checkpoint: add --checkpoint")


def _check_history(settings: Settings) -> None:
    if settings.method not in DENOISING_METHODS:
        raise InputError(
            f"--plot shows the denoising run, which method {settings.method!r} does not have; "
            "leave --plot out"
        )
    if settings.denoise_steps <= settings.interval:
        raise InputError(
            "--plot shows the swaps of the denoising run, and there are none: denoise_steps must "
            f"be above interval (got {settings.denoise_steps} and {settings.interval})"
        )
