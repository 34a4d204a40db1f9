"""``fastglt compare --ray``: what it asks of the engine, and what it refuses. See test_ray.py."""

from __future__ import annotations

import sys
from pathlib import Path

import made_up_study
import own_inputs
import pytest
import tiny_graph

from fastglt import data as datasets
from fastglt.cli import cells as cell_module
from fastglt.errors import InputError
from fastglt.study.cells import read_cells
from fastglt.study.jobs import tried
from fastglt.study.methods import choices


@pytest.fixture(autouse=True)
def _fresh():
    """No graph of another test is kept."""
    cell_module._loaded.cache_clear()


@pytest.fixture
def compare(cli):
    return lambda *args: cli("compare", "--dataset=cora", "--out=s", "--weight-sparsity=0.1", *args)


@pytest.fixture
def made_up(monkeypatch):
    """Replace every run by made-up figures."""

    def replace(loss):
        runs = made_up_study.Runs(loss)
        monkeypatch.setattr("fastglt.cli.study.run_job", runs)
        return runs

    return replace


def test_workers_are_for_processes_and_not_for_ray(compare, made_up):
    runs = made_up(lambda *_: 0.0)
    outcome = compare("--methods=random", "--seeds=1", "--ray=auto", "--workers=2")
    assert outcome.code == 2
    assert "workers is for processes of this machine (got 2 with ray=auto)" in outcome.err
    assert runs.jobs == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--ray=here",), "ray must be auto, host:port or ray://host:port (got 'here')"),
        (("--ray=auto", "--device=cuda:1"), "with ray, device must be cpu or cuda"),
        (("--ray=auto", "--device=tpu"), "with ray, device must be cpu or cuda"),
        (("--ray=127.0.0.1:1",), "no cluster of Ray answers at 127.0.0.1:1"),
    ],
)
def test_what_ray_cannot_be_told(compare, args, message):
    pytest.importorskip("ray", reason="the extra ray is not installed")
    outcome = compare("--methods=random", "--seeds=1", *tiny_graph.QUICK, *args)
    assert outcome.code == 2
    assert message in outcome.err


def test_without_the_extra_ray_says_what_to_install(compare, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = compare("--methods=random", "--seeds=1", "--ray=auto")
    assert outcome.code == 2
    assert 'run: pip install "fastglt[ray]"' in outcome.err


class Engine:
    """Stands for the engine of Ray: runs jobs here, and notes how it was made."""

    made = None

    def __init__(self, address, **needs):
        type(self).made = (address, needs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ended(self, jobs, run):
        sys.stdout.write("news of Ray\n")
        return (tried(run, job) for job in jobs)


@pytest.mark.parametrize(
    ("args", "needs"),
    [
        ((), {"threads": 1, "gpus": 0}),
        (("--threads=3", "--device=cuda"), {"threads": 3, "gpus": 1}),
    ],
)
def test_a_run_on_ray_asks_for_its_threads_and_its_gpu(
    compare, made_up, monkeypatch, tmp_path, args, needs
):
    made_up(lambda *_: 0.0)
    monkeypatch.setattr("fastglt.study.ray_engine.RayEngine", Engine)
    (tmp_path / "c.toml").write_text('ray = "ray://there:10001"\n')
    # This machine need not have the device that the nodes have.
    outcome = compare("--methods=random", "--seeds=2", "--config=c.toml", *args)
    assert outcome.code == 0, outcome.err
    assert "news of Ray" in outcome.err
    assert "news of Ray" not in outcome.out
    assert Engine.made == ("ray://there:10001", needs)
    assert len(read_cells(tmp_path / "s")) == 4


def test_a_run_refuses_a_graph_that_is_not_the_one_of_its_study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = own_inputs.nodes(Path("graph.npz"))
    values = {"data": Path("graph.npz"), "method": "dense", "dense_epochs": 1, "hidden": 4}
    inputs = cell_module.StudyInputs.of(values)
    (choice,) = choices(["dense"], inputs.settings)
    (job,) = inputs.jobs("compare", [choice], [0])
    monkeypatch.chdir("/")  # as a worker elsewhere may be
    data.x += 1
    datasets.save_npz(data, tmp_path / "graph.npz")
    with pytest.raises(InputError, match="is not the file that the study was begun with"):
        cell_module.run_job(job)
