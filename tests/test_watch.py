"""A run of ``find`` as its callbacks see it."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch_geometric.nn import GCN

import fastglt
from fastglt import _strict_json
from fastglt.errors import InputError, OutputPathError
from fastglt.search import METHODS
from helpers import TINY, build, graph

EVENT = fastglt.SwapEvent(5, 0.3, 4, 3, 0.5, 0.9, 1.0, 0.75, None)


class Recorder(fastglt.Callback):
    """Keeps every call, by the name of its method."""

    def __init__(self):
        self.calls = []

    def on_run_start(self, settings):
        self.calls.append(("run_start", dict(settings)))

    def on_phase_start(self, phase, total):
        self.calls.append(("phase_start", phase, total))

    def on_step(self, phase, step, val_metric):
        self.calls.append(("step", phase, step, val_metric))

    def on_event(self, event):
        self.calls.append(("swap", event))

    def on_phase_end(self, phase):
        self.calls.append(("phase_end", phase))

    def on_run_end(self, metrics):
        self.calls.append(("run_end", dict(metrics)))

    def on_error(self, error):
        self.calls.append(("error", error))

    def of(self, name):
        return [call[1:] for call in self.calls if call[0] == name]


def find(callback, method="fastglt", **settings):
    data = graph()
    given = {"edge_sparsity": 0.3}
    if METHODS[method].prunes_weights:
        given["weight_sparsity"] = 0.5
    if method == "small-dense":
        given["narrow"] = lambda width: GCN(data.num_features, width, 2, 3)
    given = TINY | given | settings
    return fastglt.find(build("gcn", data), data, method=method, callback=callback, **given)


def lines_of(path):
    text = Path(path).read_text()
    assert text.endswith("\n")
    return [_strict_json.loads(line) for line in text.splitlines()]


def assert_in_order(calls):
    """A run, phases one after the other, steps that rise from 1, swaps before their step."""
    assert calls[0][0] == "run_start"
    assert calls[-1][0] == "run_end"
    phase, total, last, swapped = None, 0, 0, None
    for name, *values in calls[1:-1]:
        if name == "phase_start":
            assert phase is None
            (phase, total), last = values, 0
        elif name == "phase_end":
            assert values == [phase]
            assert swapped is None
            phase = None
        elif name == "swap":
            assert phase == "denoise"
            swapped = values[0].step
        else:
            assert name == "step"
            assert values[0] == phase
            assert last < values[1] <= total
            last = values[1]
            assert swapped in (None, last)
            swapped = None
    assert phase is None


@pytest.mark.parametrize("method", METHODS)
def test_every_method_tells_all_in_order_and_as_the_ticket_has_it(method):
    recorder = Recorder()
    ticket = find(recorder, method)
    assert_in_order(recorder.calls)
    phases = [phase for phase, _ in recorder.of("phase_start")]
    assert phases[0] == "dense"
    assert phases[-1] == "retrain"
    ((settings,),) = recorder.of("run_start")
    assert settings["method"] == method
    assert settings.items() <= ticket.settings.items()
    assert recorder.of("run_end") == [(ticket.metrics,)]
    assert [asdict(event) for (event,) in recorder.of("swap")] == ticket.history
    assert (len(ticket.history) > 0) == METHODS[method].denoises
    assert not recorder.of("error")


def test_a_goal_has_one_run_of_several_searches():
    recorder = Recorder()
    ticket = find(recorder, edge_sparsity=0.0, weight_sparsity=0.0, target_macs=0.6)
    assert_in_order(recorder.calls)
    phases = [phase for phase, _ in recorder.of("phase_start")]
    assert phases.count("dense") == 1
    assert phases.count("denoise") == len(ticket.metrics["goal"]["trials"])
    assert recorder.of("run_start")[0][0]["goal"]["value"] == 0.6


def test_a_callback_of_ones_own_takes_five_lines():
    class Best(fastglt.Callback):
        best = 0.0

        def on_step(self, phase, step, val_metric):
            self.best = max(self.best, val_metric or 0.0)

    callback = Best()
    ticket = find(callback)
    assert callback.best >= ticket.metrics["val_ticket"] > 0


def test_callbacks_tell_all_in_the_order_given():
    order = []

    class Named(Recorder):
        def on_step(self, phase, step, val_metric):
            super().on_step(phase, step, val_metric)
            order.append(self)

    first, second = Named(), Named()
    find(fastglt.Callbacks([first, second]))
    assert first.calls == second.calls
    assert order[:4] == [first, second, first, second]
    assert {name for name, *_ in first.calls} == {
        "run_start", "phase_start", "step", "swap", "phase_end", "run_end",
    }  # fmt: skip


def test_callbacks_pass_on_every_method_that_there_is():
    methods = {name for name in vars(fastglt.Callback) if name.startswith("on_")}
    assert methods == {name for name in vars(fastglt.Callbacks) if name.startswith("on_")}
    recorder = Recorder()
    fastglt.Callbacks([recorder]).on_error(KeyError("x"))
    assert [name for name, *_ in recorder.calls] == ["error"]


@pytest.mark.parametrize(
    "method",
    ["on_run_start", "on_phase_start", "on_step", "on_event", "on_phase_end", "on_run_end"],
)
def test_what_a_callback_raises_ends_the_run_and_is_told(method, tmp_path):
    class OwnError(Exception):
        pass

    def fail(*_):
        raise OwnError(method)

    callback, log = fastglt.Callback(), fastglt.JsonLinesLog(tmp_path / "log")
    setattr(callback, method, fail)
    with pytest.raises(OwnError, match=method):
        find(fastglt.Callbacks([log, callback]))
    last = lines_of(log.path)[-1]
    if method == "on_run_end":
        assert last["event"] == "run_end"
    else:
        assert (last["event"], last["type"], last["message"]) == ("error", "OwnError", method)


def test_bad_input_and_interrupts_are_told():
    for error in (InputError, KeyboardInterrupt):
        recorder = Recorder()
        if error is KeyboardInterrupt:
            recorder.on_step = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        with pytest.raises(error):
            find(recorder, **({"include": ["nothing"]} if error is InputError else {}))
        assert isinstance(recorder.of("error")[0][0], error)
        assert not recorder.of("run_end")


def test_watching_changes_nothing(tmp_path):
    alone = find(None)
    logs = [fastglt.JsonLinesLog(tmp_path / "log"), fastglt.TensorBoardLog(tmp_path / "board")]
    watched = find(fastglt.Callbacks(logs))
    assert torch.equal(alone.edge_keep, watched.edge_keep)
    for name, value in alone.trained_state.items():
        assert torch.equal(value, watched.trained_state[name])


def test_the_json_lines_are_the_calls(tmp_path):
    recorder, log = Recorder(), fastglt.JsonLinesLog(tmp_path / "run.jsonl")
    find(fastglt.Callbacks([recorder, log]))
    lines = lines_of(log.path)
    assert [line["event"] for line in lines] == [name for name, *_ in recorder.calls]
    elapsed = [line["elapsed"] for line in lines]
    assert elapsed == sorted(elapsed)
    assert lines[0]["time"].endswith("+00:00")
    steps = [line for line in lines if line["event"] == "step"]
    assert [(s["phase"], s["step"], s["val_metric"]) for s in steps] == recorder.of("step")
    swap = next(line for line in lines if line["event"] == "swap")
    assert asdict(recorder.of("swap")[0][0]).items() <= swap.items()
    assert lines[-1]["metrics"] == recorder.of("run_end")[0][0]


def test_a_log_is_appended_to_and_a_torn_line_goes(tmp_path):
    log = fastglt.JsonLinesLog(tmp_path / "run.jsonl")
    log.path.write_text('{"event":"mine"}\n{"event":"st')
    log.on_run_start({})
    log.on_phase_end("dense")
    assert [line["event"] for line in lines_of(log.path)] == ["mine", "run_start", "phase_end"]


@pytest.mark.parametrize("content", [b"my notes", b'{"event":"mine"}\nno line of a log', b"PK\x03"])
def test_a_log_leaves_a_file_that_is_none(content, tmp_path):
    log = fastglt.JsonLinesLog(tmp_path / "notes.txt")
    log.path.write_bytes(content)
    with pytest.raises(OutputPathError, match="in the middle of a line that no log has"):
        log.on_run_start({})
    assert log.path.read_bytes() == content


def test_a_log_refuses_what_is_not_strict_json_and_takes_any_error(tmp_path):
    log = fastglt.JsonLinesLog(tmp_path / "run.jsonl")
    with pytest.raises(InputError, match="finite"):
        log.on_step("dense", 1, float("nan"))
    log.on_error(ValueError("lone \ud800 surrogate"))
    assert lines_of(log.path)[0]["message"] == "lone \\ud800 surrogate"


def test_a_log_that_cannot_be_written_is_a_clear_error(tmp_path):
    with pytest.raises(OutputPathError, match="cannot be written"):
        find(fastglt.JsonLinesLog(tmp_path / "missing" / "run.jsonl"))
    if Path("/dev/full").exists():
        with pytest.raises(OutputPathError, match="No space left"):
            fastglt.JsonLinesLog("/dev/full").on_phase_end("dense")


KILLED = """
import os, signal, sys
import fastglt
log = fastglt.JsonLinesLog(sys.argv[1])
log.on_run_start({})
for step in range(1, 51):
    log.on_step("dense", step, 0.5)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_told_is_in_the_file_of_a_killed_process(tmp_path):
    path = tmp_path / "run.jsonl"
    result = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)], env=dict(os.environ), check=False
    )
    assert result.returncode == -signal.SIGKILL
    assert [line.get("step") for line in lines_of(path)] == [None, *range(1, 51)]


def _read_back(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    scalars = {
        tag: {event.step: event.value for event in events.Scalars(tag)} for tag in tags["scalars"]
    }
    texts = {
        tag.partition("/")[0]: events.Tensors(tag)[0].tensor_proto.string_val[0].decode()
        for tag in tags["tensors"]
    }
    return scalars, texts


def test_tensorboard_reads_what_was_told(tmp_path):
    recorder, board = Recorder(), fastglt.TensorBoardLog(tmp_path / "new" / "board")
    find(fastglt.Callbacks([recorder, board]))
    scalars, texts = _read_back(board.folder)
    for phase in {phase for phase, _ in recorder.of("phase_start")}:
        told = {s: m for p, s, m in recorder.of("step") if p == phase and m is not None}
        assert scalars.get(f"val_metric/{phase}", {}) == pytest.approx(told)
    swaps = [event for (event,) in recorder.of("swap")]
    for name in ("share", "edges_swapped", "weight_overlap"):
        expected = {event.step: getattr(event, name) for event in swaps}
        assert scalars[f"swap/{name}"] == pytest.approx(expected)
    ((metrics,),) = recorder.of("run_end")
    assert scalars["final/val_ticket"] == pytest.approx({0: metrics["val_ticket"]})
    settings = "\n".join(line[4:] for line in texts["settings"].splitlines())
    assert json.loads(settings) == recorder.of("run_start")[0][0]


def test_tensorboard_shows_the_error_of_a_run_that_failed(tmp_path):
    board = fastglt.TensorBoardLog(tmp_path)
    board.on_run_start({})
    board.on_event(EVENT)
    board.on_error(InputError("no <b>such</b> thing"))
    scalars, texts = _read_back(tmp_path)
    assert scalars["swap/edge_sparsity"] == {5: 0.5}
    assert "swap/metric" not in scalars
    assert texts["error"] == "    InputError: no <b>such</b> thing\n"


def test_tensorboard_on_a_full_disk_is_a_clear_error(tmp_path, monkeypatch):
    log = fastglt.TensorBoardLog(tmp_path)
    log.on_run_start({})

    def refuse(*args, **named):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for method in ("add_scalar", "add_text", "flush", "close"):
        monkeypatch.setattr(log._writer, method, refuse)
    with pytest.raises(OutputPathError, match="for TensorBoard cannot be written: No space"):
        log.on_step("dense", 1, 0.5)
    with pytest.raises(OutputPathError, match="for TensorBoard cannot be written: No space"):
        log.on_phase_end("dense")
    log.on_error(ValueError("what happened first"))  # and is what is raised
    log.on_step("dense", 2, 0.5)  # the files are closed


def test_tensorboard_that_is_missing_or_cannot_write_is_a_clear_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(OutputPathError, match="cannot be written"):
        find(fastglt.TensorBoardLog(tmp_path / "file"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"pip install 'fastglt\[tensorboard\]'"):
        fastglt.TensorBoardLog(tmp_path)
