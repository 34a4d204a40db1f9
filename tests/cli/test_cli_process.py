"""What the process returns, and what a signal or a closed pipe leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_graph

PROGRAM = [sys.executable, str(Path(tiny_graph.__file__))]


def run(*args, **keywords):
    return subprocess.run(
        [*PROGRAM, *args], check=False, capture_output=True, text=True, **keywords
    )


@pytest.mark.parametrize(
    ("args", "code", "stream", "text"),
    [
        (["--version"], 0, "stdout", "fastglt "),
        (["find", "--dataset=nowhere"], 2, "stderr", "error: unknown dataset 'nowhere'"),
    ],
)
def test_exit_codes(args, code, stream, text, tmp_path):
    result = run(*args, cwd=tmp_path)
    assert result.returncode == code
    assert text in getattr(result, stream)
    assert "Traceback" not in result.stderr


def test_commands_are_listed_and_known(cli):
    listed, unknown = cli(), cli("nonsense")
    assert (listed.code, unknown.code) == (0, 2)
    assert "Commands:" in listed.out
    assert "No such command" in unknown.err


def test_the_module_runs_as_a_program():
    command = [sys.executable, "-m", "fastglt", "show", "absent.st"]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")


def test_a_closed_pipe_ends_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        command = [*PROGRAM, "datasets"]
        result = subprocess.run(command, check=False, stdout=closed, stderr=subprocess.PIPE)
    assert result.returncode == 141
    assert result.stderr == b""


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_an_interrupted_search_leaves_nothing(tmp_path):
    folder, marker = tmp_path / "work", tmp_path / "training"
    folder.mkdir()
    args = ("find", "--dataset=cora", "--dense-epochs=100000000", "--json=r.json", "--threads=1")
    process = subprocess.Popen(
        [*PROGRAM, *args],
        cwd=folder,
        env={**os.environ, tiny_graph.MARKER: str(marker)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        give_up = time.monotonic() + 120
        while not marker.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < give_up, "training did not start"
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (130, "", "interrupted\n")
    assert list(folder.iterdir()) == []
