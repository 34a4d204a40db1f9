"""Writers of one study that are killed while they write: what was acknowledged stays, whole."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import random
import signal
import sys
import time

import made_up
import pytest

from fastglt.checkpoint.folder import _locked
from fastglt.errors import OutputPathError
from fastglt.study.cells import CELLS, append_cell, read_cells

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
WRITERS, LINES, KILLS = 4, 500, 12
LARGEST = 2**20


def note(writer, number):
    """Text of 1 byte to 1 MiB that tells which line it belongs to, and whether all is there."""
    length = int(LARGEST ** random.Random(f"{writer} {number}").random() ** 3)
    return (f"{writer}:{number};" * (length // 3 + 1))[:length]


def write(folder, writer, first, acknowledged):
    for number in range(first, LINES):
        cell = made_up.cell(seed=writer * LINES + number, notes=[note(writer, number)])
        append_cell(folder, cell)
        acknowledged.send(number)


class Writer:
    """A process that appends its lines, and is begun again where it was when it is killed."""

    def __init__(self, context, folder, index):
        self._context, self._folder, self.index = context, folder, index
        self.acknowledged = []
        self.start()

    def start(self):
        self._pipe, other = self._context.Pipe(duplex=False)
        first = max(self.acknowledged, default=-1) + 1
        arguments = (self._folder, self.index, first, other)
        self._process = self._context.Process(target=write, args=arguments)
        self._process.start()
        other.close()

    def kill(self):
        self._process.kill()
        self.listen()

    def listen(self):
        """Hear what the process says until it ends; whether it ended by itself."""
        while True:
            try:
                self.acknowledged.append(self._pipe.recv())
            except (EOFError, OSError):
                break
        self._process.join()
        return self._process.exitcode == 0

    def poll(self):
        """Hear what there is to hear, without waiting."""
        while self._pipe.poll():
            try:
                self.acknowledged.append(self._pipe.recv())
            except (EOFError, OSError):
                return


@pytest.mark.slow
def test_no_acknowledged_line_is_lost_mixed_or_cut_when_writers_are_killed(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fastglt.api", "made_up"])
    writers = [Writer(context, tmp_path, index) for index in range(WRITERS)]
    chance = random.Random(0)
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.05, 0.6))
        for writer in writers:
            writer.poll()
        victim = chance.choice(writers)
        victim.kill()
        victim.start()
    assert [writer.listen() for writer in writers] == [True] * WRITERS
    found = {}
    for cell in read_cells(tmp_path):
        found.setdefault(cell.seed, []).append(cell)
    for writer in writers:
        assert writer.acknowledged == sorted(set(writer.acknowledged))
    for seed in range(WRITERS * LINES):
        # Twice if its writer was killed after it was on the disk and before it had said so.
        assert 1 <= len(found[seed]) <= 2, seed
        assert {cell.notes[0] for cell in found[seed]} == {note(*divmod(seed, LINES))}
    assert sum(map(len, found.values())) <= WRITERS * LINES + KILLS


def be_cut_off(folder, limit):
    """Append a line that the system cuts off at a size of the file, by killing this process."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    append_cell(folder, made_up.cell(seed=1, notes=["x" * LARGEST]))


@pytest.mark.parametrize("extra", [1, 4096, 300_000])
def test_a_writer_that_is_killed_within_its_line_leaves_no_trace_and_no_lock(
    tmp_path, extra, caplog
):
    append_cell(tmp_path, made_up.cell(seed=0))
    whole = (tmp_path / CELLS).read_bytes()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fastglt.api", "made_up"])
    writer = context.Process(target=be_cut_off, args=(tmp_path, len(whole) + extra))
    writer.start()
    writer.join()
    assert writer.exitcode == -signal.SIGXFSZ
    torn = (tmp_path / CELLS).read_bytes()
    assert torn.startswith(whole)
    assert len(torn) == len(whole) + extra
    with caplog.at_level(logging.WARNING, "fastglt"):
        assert [cell.seed for cell in read_cells(tmp_path)] == [0]
        assert "the last line has no end and is left out" in caplog.text
        append_cell(tmp_path, made_up.cell(seed=2))
    assert f"removed a last line without its end, {extra} bytes" in caplog.text
    assert [cell.seed for cell in read_cells(tmp_path)] == [0, 2]
    assert (tmp_path / CELLS).read_bytes().count(os.linesep.encode()) == 2


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "no flock")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OutputPathError, match="its file system has no locks"):
        append_cell(tmp_path, made_up.cell())
    assert not (tmp_path / CELLS).exists()
    with (
        pytest.raises(OutputPathError, match="its file system has no locks"),
        _locked(tmp_path),
    ):
        pytest.fail("locked")
