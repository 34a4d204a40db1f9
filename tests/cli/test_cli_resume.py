"""Killed and resumed from the command line, and every other way that a search can end too early."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_graph
import torch
from filelock import FileLock

from fastglt import data
from fastglt.checkpoint.places import FILES, LOCK, TICKET
from fastglt.ticket import Ticket
from helpers import states_equal

SEARCH = (
    "find", "--dataset=cora", *tiny_graph.QUICK, "--edge-sparsity=0.2", "--weight-sparsity=0.5",
    "--threads=1",
)  # fmt: skip
RECORDED = ("--checkpoint=run", "--checkpoint-every=0")
WAIT = 600
"""Seconds after which something is not going to happen, on a machine however busy."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX"),
]


class Process:
    """A command line in a process of its own, in a folder; it is over when the context ends."""

    def __init__(self, folder, *args, marker=None):
        self.folder = folder
        self._env = {**os.environ, **({} if marker is None else {tiny_graph.MARKER: str(marker)})}
        self._args = [sys.executable, str(Path(tiny_graph.__file__)), *args]

    def __enter__(self):
        self.process = subprocess.Popen(
            self._args, cwd=self.folder, env=self._env, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def wait_for(self, condition):
        give_up = time.monotonic() + WAIT
        while not condition():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < give_up, "it did not come to pass"
            time.sleep(0.002)

    def end(self, number):
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=WAIT)
        return self.process.returncode, out, err


def assert_same(one, two):
    assert torch.equal(one.edge_keep, two.edge_keep)
    for name in ("weight_masks", "init_state", "trained_state"):
        assert states_equal(getattr(one, name), getattr(two, name))
    first, second = ({**ticket.metrics, "seconds": None} for ticket in (one, two))
    assert (first, one.history, one.settings) == (second, two.history, two.settings)


@pytest.fixture
def expected(cli, tmp_path):
    """The ticket of a run that nothing interrupts."""
    outcome = cli(*SEARCH, "--out=expected.safetensors")
    assert outcome.code == 0, outcome.err
    return Ticket.load(tmp_path / "expected.safetensors")


def test_killed_twice_and_resumed(cli, expected, tmp_path):
    run = tmp_path / "run"
    args = (*SEARCH, *RECORDED, "--resume")
    with Process(tmp_path, *args) as first:
        first.wait_for((run / FILES[1]).exists)
        first.end(signal.SIGKILL)
    before = {name: (run / name).stat().st_mtime_ns for name in FILES}
    with Process(tmp_path, *args) as second:
        second.wait_for(
            lambda: any((run / name).stat().st_mtime_ns != old for name, old in before.items())
        )
        second.end(signal.SIGKILL)
    assert not (tmp_path / "ticket.safetensors").exists()
    outcome = cli(*args, "--json=result.json")
    assert outcome.code == 0, outcome.err
    assert_same(expected, Ticket.load(tmp_path / "ticket.safetensors"))
    assert sorted(path.name for path in run.iterdir()) == sorted([*FILES, LOCK, TICKET])
    seconds = json.loads((tmp_path / "result.json").read_text())["seconds"]
    (tmp_path / "ticket.safetensors").unlink()
    again = cli(*args, "--json=again.json")  # it was over: only what is missing is written
    assert again.code == 0, again.err
    assert again.out == outcome.out.replace("result.json", "again.json")
    assert_same(expected, Ticket.load(tmp_path / "ticket.safetensors"))
    assert json.loads((tmp_path / "again.json").read_text())["seconds"] == seconds


def test_sigterm_saves_and_ends_with_its_own_code(cli, expected, tmp_path):
    marker = tmp_path / "training"
    args = (*SEARCH, "--checkpoint=run", "--checkpoint-every=3600", "--resume")
    with Process(tmp_path, *args, marker=marker) as process:
        process.wait_for(marker.exists)
        code, out, err = process.end(signal.SIGTERM)
    message = "terminated; a checkpoint was written: go on with --resume\n"
    # Between two loops there is nothing to wait for.
    assert (code, out) == (143, "")
    assert err in (message, "terminated; go on with --resume\n")
    assert not (tmp_path / "ticket.safetensors").exists()
    assert cli(*args).code == 0
    assert_same(expected, Ticket.load(tmp_path / "ticket.safetensors"))


def test_sigterm_without_a_checkpoint_leaves_nothing(tmp_path):
    folder, marker = tmp_path / "work", tmp_path / "training"
    folder.mkdir()
    with Process(folder, *SEARCH, "--dense-epochs=100000000", marker=marker) as process:
        process.wait_for(marker.exists)
        assert process.end(signal.SIGTERM) == (143, "", "terminated\n")
    assert list(folder.iterdir()) == []


def test_resume_starts_afresh_where_there_is_nothing(cli, expected, tmp_path):
    outcome = cli(*SEARCH, *RECORDED, "--resume")
    assert outcome.code == 0, outcome.err
    assert_same(expected, Ticket.load(tmp_path / "ticket.safetensors"))
    (tmp_path / "run" / FILES[0]).write_bytes(b"damaged")
    (tmp_path / "run" / FILES[1]).write_bytes(b"damaged")
    outcome = cli(*SEARCH, *RECORDED, "--resume")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "error: no checkpoint in 'run' can be used" in outcome.err


@pytest.mark.filterwarnings("default")
def test_one_line_says_that_a_checkpoint_was_damaged(cli, tmp_path):
    cli(*SEARCH, *RECORDED)
    (tmp_path / "run" / FILES[0]).write_bytes(b"damaged")
    outcome = cli(*SEARCH, *RECORDED, "--resume")
    assert outcome.code == 0
    assert outcome.err.startswith("warning: a checkpoint in 'run' cannot be used (checkpoint-0.")
    assert outcome.err.count("\n") == 1


@pytest.mark.usefixtures("no_search")
def test_what_can_be_refused_is_refused_before_the_search(cli, tmp_path):
    assert "--resume needs the folder" in cli(*SEARCH, "--resume").err
    (tmp_path / "file").touch()
    for place in ("file", "file/folder", "/proc/folder"):
        outcome = cli(*SEARCH, f"--checkpoint={place}")
        assert outcome.code == 2
        assert outcome.err.startswith(f"error: checkpoint folder {place!r} cannot be made: ")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / FILES[1]).touch()
    outcome = cli(*SEARCH, *RECORDED)
    assert outcome.code == 2
    assert "'run' already holds a checkpoint; add --resume" in outcome.err


def test_two_runs_into_one_folder(cli, tmp_path):
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / LOCK):
        outcome = cli(*SEARCH, *RECORDED)
    assert outcome.code == 2
    assert outcome.err.startswith("error: another process is running into 'run'")
    assert outcome.err.count("\n") == 1
    assert cli(*SEARCH, *RECORDED).code == 0


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (MemoryError(), 1, "error: out of memory: MemoryError\n"),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
                "memory: you tried to allocate 9 bytes. Error code 12"
            ),
            1,
            "error: out of memory: DefaultCPUAllocator: can't allocate memory: you tried to",
        ),
        (
            RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9"),
            1,
            ": De",
        ),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried"), 1, "out of memory: CUDA out of"),
        (OSError(errno.ENOSPC, "No space left on device", "x.npy"), 2, "on device (x.npy)\n"),
    ],
)
def test_what_a_search_may_run_out_of(error, code, text, cli, tmp_path, monkeypatch):
    steps = []

    def run_out(self, phase, step, val_metric):
        steps.append(step)
        if len(steps) == 9:
            raise error

    with monkeypatch.context() as patch:
        patch.setattr("fastglt.training.callback.Callback.on_step", run_out)
        outcome = cli(*SEARCH, *RECORDED)
    assert outcome.code == code
    assert text in outcome.err
    assert outcome.err.count("\n") == 1
    assert cli(*SEARCH, *RECORDED, "--resume").code == 0


def test_another_error_of_torch_is_not_taken_for_that(cli, monkeypatch):
    def broken(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr("fastglt.training.callback.Callback.on_step", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        cli(*SEARCH)


def test_a_full_disk_leaves_the_last_checkpoint(cli, expected, tmp_path, monkeypatch):
    synced = []

    def full(descriptor):
        synced.append(descriptor)
        if len(synced) > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        outcome = cli(*SEARCH, *RECORDED)
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert "No space left on device" in outcome.err
    assert outcome.err.count("\n") == 1
    assert not list((tmp_path / "run").glob(".*.tmp.*"))
    assert cli(*SEARCH, *RECORDED, "--resume").code == 0
    assert_same(expected, Ticket.load(tmp_path / "ticket.safetensors"))


def test_a_data_file_that_vanished(cli, tmp_path, monkeypatch):
    graph = data.csbm(120, num_classes=3, num_features=6, average_degree=6, seed=1)
    data.save_npz(graph, tmp_path / "graph.npz")
    args = ("find", "--data=graph.npz", *tiny_graph.QUICK, *RECORDED, "--weight-sparsity=0.5")
    ended = []

    def interrupt(self, phase, step, val_metric):
        ended.append(step)
        if len(ended) == 9:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fastglt.training.callback.Callback.on_step", interrupt)
        assert cli(*args).code == 130
    (tmp_path / "graph.npz").rename(tmp_path / "moved.npz")
    outcome = cli(*args, "--resume")
    assert outcome.code == 2
    assert "graph.npz" in outcome.err
    assert outcome.err.count("\n") == 1
    (tmp_path / "moved.npz").rename(tmp_path / "graph.npz")
    assert cli(*args, "--resume").code == 0
