"""Runs the blocks of a page in a folder of its own, each page in processes of its own.

The processes are forked from one that has imported torch and PyG, because that import would take
most of the time, and compute with one thread. Searches are shortened: :data:`SHORT` takes the place
of the presets' own defaults; what a page states itself still counts.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import runpy
import shlex
import subprocess
import sys
import traceback
import types
from importlib.metadata import entry_points
from pathlib import Path

SHORT = {"dense_epochs": 3, "pretrain_epochs": 1, "denoise_steps": 12, "retrain_epochs": 12}
TIMEOUT = 120
PRELOADED = ["torch", "torch_geometric.nn", "fastglt.api", "fastglt.cli.app"]
_SHELL = re.compile(r"[|&;<>$`*?]")


class PageError(AssertionError):
    """A block did something else than the page says."""


class Page:
    """A page in the middle of being run.

    Args:
        folder: Where its files and commands go.
        linked: Files and folders that are there as they are in the repository.
        env: Environment variables beyond those of this process.
    """

    def __init__(self, folder, linked=(), env=()):
        self.folder, self.env = folder, {**os.environ, **dict(env)}
        for path in linked:
            (folder / path.name).symlink_to(path)
        self.log = folder / ".log"
        self.printed = ""
        self._jobs = self._process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process is not None:
            self._process.kill()
            self._process.join()

    def run(self, block):
        """Do what a block asks for.

        Raises:
            PageError: If it did not end as the page says.
        """
        if block.is_output:
            if block.directive == "output":
                self._check_output(block)
        elif block.title is not None:
            (self.folder / block.title).write_text(block.code, encoding="utf-8")
        elif block.included is None and not block.skipped:
            self.log.write_text("")
            if block.language == "python":
                self._run_python(block)
            else:
                self._run_commands(block)
            self.printed = self.log.read_text()
            if "Warning:" in self.printed:
                raise PageError(f"{block.where} warned:\n{self.printed}")

    def _check_output(self, block):
        shown, printed = (" ".join(text.split()) for text in (block.code, self.printed))
        if shown not in printed:
            raise PageError(f"{block.where}: this was not printed, but:\n{self.printed}")

    def _run_python(self, block):
        if self._process is None:
            self._jobs, other = multiprocessing.Pipe()
            self._process = _start(_serve_python, other, *self._place)
        source = "\n" * (block.line - 1) + block.code
        self._jobs.send((source, str(block.page)))
        if not self._jobs.poll(TIMEOUT):
            raise PageError(f"{block.where} took more than {TIMEOUT} s")
        raised, trace = self._jobs.recv()
        expected = block.argument("raises")
        if raised != expected:
            raise PageError(
                f"{block.where} raised {raised} instead of {expected}:\n"
                f"{self.log.read_text()}{trace}"
            )
        with self.log.open("a") as log:
            log.write(trace)

    def _run_commands(self, block):
        expected_codes = [0] * len(block.commands)
        expected_codes[-1] = int(block.argument("exit") or 0)
        for command, expected in zip(block.commands, expected_codes, strict=True):
            code = self._run_command(command)
            if code != expected:
                raise PageError(
                    f"{block.where}: exit code {code} instead of {expected} of {command!r}:\n"
                    f"{self.log.read_text()}"
                )

    def _run_command(self, command):
        arguments = shlex.split(command, comments=True)
        if arguments[0] not in ("fastglt", "python") or _SHELL.search(" ".join(arguments)):
            return self._run_in_shell(command)
        process = _start(_serve_command, arguments, *self._place)
        process.join(TIMEOUT)
        if process.exitcode is None:
            process.kill()
        return process.exitcode

    def _run_in_shell(self, command):
        beside = str(Path(sys.executable).parent)
        env = self.env | {"PATH": f"{beside}{os.pathsep}{os.environ['PATH']}"}
        with self.log.open("a") as log:
            return subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command],
                cwd=self.folder,
                env=env,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT,
                check=False,
            ).returncode

    @property
    def _place(self):
        return str(self.folder), self.env, str(self.log)


def _start(target, *arguments):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch", "torch_geometric.nn", "fastglt.api", "fastglt.cli.app"]
    )
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def _enter(folder, env, log):
    """Make a forked process what a fresh one in that folder would be."""
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)

    import torch

    from fastglt.search.presets import PRESETS

    torch.set_num_threads(1)
    for preset in PRESETS.values():
        preset.update(SHORT)


def _serve_command(arguments, *place):
    _enter(*place)
    if arguments[0] == "fastglt":
        sys.argv = arguments
        (command,) = entry_points(group="console_scripts", name="fastglt")
        command.load()()
    elif arguments[1] == "-m":
        sys.argv = arguments[2:]
        runpy.run_module(arguments[2], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments[1:]
        sys.path.insert(0, str(Path(arguments[1]).resolve().parent))
        runpy.run_path(arguments[1], run_name="__main__")


def _serve_python(jobs, *place):
    _enter(*place)
    sys.path.insert(0, "")
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    with contextlib.suppress(EOFError):
        while True:
            source, page = jobs.recv()
            # A search that is this short may lose any number of points, by the machine's rounding.
            source = re.sub(r"max_drop=[\d.]+", "max_drop=100.0", source)
            answer = (None, "")
            try:
                exec(compile(source, page, "exec"), vars(main))
            except BaseException as error:  # noqa: BLE001  (a page may raise anything)
                answer = (type(error).__name__, traceback.format_exc())
            sys.stdout.flush()
            sys.stderr.flush()
            jobs.send(answer)
