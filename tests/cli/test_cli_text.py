"""Numbers, tables and progress bars."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress

from fastglt.cli import formats, summary
from fastglt.cli.output import Output
from fastglt.cli.progress import Bars, progress_bars, working
from fastglt.training.callback import Callback


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (formats.percent(0.95), "95.00 %"),
        (formats.count(12345), "12,345"),
        (formats.large(2_012_345_678), "2.0 G"),
        (formats.large(999_999), "1.0 M"),
        (formats.large(0), "0"),
        (formats.size(512), "512 bytes"),
        (formats.size(8_023_456), "8.0 MB"),
        (formats.seconds(83.42), "83.4 s"),
        (formats.cell(None, formats.percent), "-"),
        (formats.cell(True, formats.percent), "true"),
        (formats.text("a\x1bb"), '"a\\u001bb"'),
        (formats.text({"a": [1]}), '{"a": [1]}'),
        (formats.text(1 / 3), "0.333333"),
    ],
)
def test_formats(shown, expected):
    assert shown == expected


@given(st.integers(min_value=0, max_value=10**15))
def test_large_numbers_keep_their_magnitude(value):
    number, _, unit = formats.large(value).partition(" ")
    factor = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[unit]
    assert abs(float(number) * factor - value) <= 0.05 * factor * 1.001
    assert unit == "T" or float(number) < 1000


@given(st.text())
def test_no_text_can_leave_its_line(value):
    shown = formats.text(value)
    assert shown.isascii()
    assert shown.isprintable()


def test_a_terminal_gets_a_table_with_the_same_cells():
    plain, terminal = io.StringIO(), Terminal()
    for stream in (plain, terminal):
        Output(stream).table(("", "dense"), [("edges", "12"), ("[bold]", "3")])
    assert plain.getvalue().splitlines() == ["        dense", "edges      12", "[bold]      3"]
    for cell in ("dense", "edges", "12", "[bold]", "3"):
        assert cell in terminal.getvalue()


def test_rows_of_a_table_need_no_metric():
    assert summary.rows({}) == []
    partial = {"metric": "auc", "val_dense": 0.5, "seconds": {"dense": "soon"}}
    assert summary.rows(partial) == [("validation auc", "50.00 %", "-")]


def test_bars_show_phase_metric_and_progress():
    stream = io.StringIO()
    progress = Progress(console=Console(file=stream, force_terminal=True))
    bars = Bars(progress)
    bars.on_phase_start("denoise", 10)
    bars.on_step("denoise", 1, 0.714)
    bars.on_step("denoise", 2, None)
    (task,) = progress.tasks
    assert (task.description, task.completed, task.total) == ("denoise", 2, 10)
    assert task.fields["metric"] == "validation 71.40 %"
    bars.on_phase_end("denoise")
    assert progress.finished


def test_a_terminal_gets_bars(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bars() as callback:
        callback.on_phase_start("retrain", 3)
        callback.on_step("retrain", 3, 0.5)
        callback.on_phase_end("retrain")
    for part in ("retrain", "3/3", "validation 50.00 %", "ETA"):
        assert part in terminal.getvalue()


def test_nothing_is_drawn_where_stderr_is_no_terminal(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with working("loading"), progress_bars() as callback:
        assert type(callback) is Callback
    assert stream.getvalue() == ""
