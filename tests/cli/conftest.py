"""The command line on a synthetic graph: no test here reads a file or a network."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import tiny_graph

from fastglt import data as datasets
from fastglt.cli import main
from fastglt.ticket import Ticket


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _tiny_datasets(monkeypatch):
    monkeypatch.setattr(datasets, "load", tiny_graph.load)


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    """Run a command line in an empty folder; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return Outcome(end.value.code or 0, captured.out, captured.err)

    return run


@pytest.fixture
def find(cli):
    """Run a quick ``find`` that must succeed; returns its outcome."""

    def run(*args):
        outcome = cli("find", "--dataset=cora", *tiny_graph.QUICK, *args)
        assert outcome.code == 0, outcome.err
        return outcome

    return run


@pytest.fixture
def ticket(find, tmp_path):
    """The ticket of a quick ``find``, which lies in ``ticket.safetensors``."""
    find("--edge-sparsity=0.2", "--weight-sparsity=0.5")
    return Ticket.load(tmp_path / "ticket.safetensors")


@pytest.fixture
def no_search(monkeypatch):
    """Fail if anything slow is started."""

    def started(*args, **kwargs):
        raise AssertionError("the search was started")

    monkeypatch.setattr("fastglt.api.find", started)
    monkeypatch.setattr(datasets, "load", started)
