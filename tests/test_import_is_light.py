"""Importing fastglt or asking for help must not pay for torch, PyG or matplotlib."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    "torch", "torch_geometric", "matplotlib", "ogb", "onnx", "onnxscript", "onnxruntime", "ray",
    "tensorboard", "pymetis",
)  # fmt: skip

# Prints the heavy modules on its last line, also when the program ends with SystemExit.
PROBE = """
import json, runpy, sys
try:
    {statement}
finally:
    print()
    print(json.dumps([name for name in {heavy!r} if name in sys.modules]))
"""


def heavy_modules_after(statement: str) -> tuple[list[str], str]:
    """Run a statement in a fresh interpreter; return the heavy modules it loaded and its output."""
    result = subprocess.run(
        [sys.executable, "-c", PROBE.format(statement=statement, heavy=HEAVY)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    output, _, loaded = result.stdout.rstrip("\n").rpartition("\n")
    return json.loads(loaded), output


def test_import_loads_nothing_heavy() -> None:
    assert heavy_modules_after("import fastglt")[0] == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(["--help"], "find"), (["find", "--help"], "--embedding-dim"), (["datasets"], "ogbn-arxiv")],
)
def test_help_and_lists_load_nothing_heavy(arguments: list[str], text: str) -> None:
    start = f"sys.argv = {['fastglt', *arguments]!r}"
    statement = f"{start}; runpy.run_module('fastglt', run_name='__main__')"
    loaded, output = heavy_modules_after(statement)
    assert text in output
    assert loaded == []


def test_a_name_that_there_is_not_costs_no_heavy_import() -> None:
    statement = """
    import contextlib, io
    import fastglt.cli
    for wrong in (["--dataset=citeser"], ["--dataset=cora", "--model=gcm"], ["--data=x.npz",
                  "--split=1"], ["--dataset=cora", "--heads=2"], []):
        with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
            fastglt.cli.main(["find", *wrong])
"""
    assert heavy_modules_after(statement)[0] == []


@pytest.mark.parametrize("name", HEAVY)
def test_the_probe_notices_a_heavy_import(name: str) -> None:
    assert name in heavy_modules_after(f"import {name}")[0]
