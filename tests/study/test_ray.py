"""A study on a real local cluster of Ray: the same cells, whatever happens to the workers."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import made_up
import pytest
import ray_jobs

from fastglt.errors import BudgetError, FastGLTError, InputError, UnknownNameError
from fastglt.study import ray_cluster, ray_engine
from fastglt.study.cells import CELLS, read_cells
from fastglt.study.jobs import run_jobs
from fastglt.study.processes import Processes
from fastglt.study.ray_cluster import Needs, check_nodes, running_cluster

pytest.importorskip("ray", reason="the extra ray is not installed")


@pytest.fixture(scope="module")
def engine():
    """One cluster for all tests of this module, as starting it takes most of the time."""
    with pytest.MonkeyPatch.context() as patch, ray_engine.RayEngine("auto") as engine:
        patch.delenv("RAY_ADDRESS", raising=False)
        # Workers have the environment of the cluster, not the import path of this process.
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        yield engine


@pytest.fixture
def traces(tmp_path):
    folder = tmp_path / "traces"
    folder.mkdir()
    return folder


def lines(folder):
    """The lines of a study without what differs from process to process, in a fixed order."""
    cells = read_cells(folder)
    return sorted(cell.model_copy(update={"provenance": {}}).model_dump_json() for cell in cells)


def test_cells_are_those_of_the_process_engine(engine, tmp_path):
    jobs = [made_up.job(seed=seed) for seed in range(4)]
    list(run_jobs(tmp_path / "ray", jobs, made_up.run, engine))
    list(run_jobs(tmp_path / "here", jobs, made_up.run, Processes(1, 1)))
    assert len(lines(tmp_path / "ray")) == 4
    assert lines(tmp_path / "ray") == lines(tmp_path / "here")
    threads = {cell.provenance["threads"] for cell in read_cells(tmp_path / "ray")}
    assert threads == {1}
    workers = {cell.provenance["process"] for cell in read_cells(tmp_path / "ray")}
    assert os.getpid() not in workers


@pytest.mark.parametrize("ray_first", [True, False])
def test_either_engine_goes_on_with_what_the_other_began(engine, tmp_path, ray_first):
    engines = [engine, Processes(1, 1)]
    first, second = engines if ray_first else engines[::-1]
    jobs = [made_up.job(seed=seed) for seed in range(4)]
    running = run_jobs(tmp_path, jobs, made_up.run, first)
    before = [next(running) for _ in range(2)]
    running.close()
    after = list(run_jobs(tmp_path, jobs, made_up.run, second))
    old = {done.job.seed for done in after if not done.is_new}
    assert old == {done.job.seed for done in before}
    assert sorted(cell.seed for cell in read_cells(tmp_path)) == [0, 1, 2, 3]


def test_a_job_whose_worker_is_killed_is_begun_again_and_no_cell_is_lost_or_doubled(
    engine, tmp_path, traces, caplog
):
    labels = ["fastglt", ray_jobs.HANGING, "fastglt", "fastglt"]
    jobs = [made_up.job(label, seed=seed, traces=str(traces)) for seed, label in enumerate(labels)]
    killer = threading.Thread(target=kill_first, args=(traces, ray_jobs.HANGING, 1))
    killer.start()
    with caplog.at_level(logging.WARNING, "fastglt"):
        found = list(run_jobs(tmp_path, jobs, ray_jobs.run, engine))
    killer.join()
    assert sorted(done.job.seed for done in found if done.cell) == [0, 1, 2, 3]
    list(run_jobs(tmp_path / "here", jobs, ray_jobs.run, Processes(1, 1)))
    assert lines(tmp_path) == lines(tmp_path / "here")
    assert len(ray_jobs.begun(traces, ray_jobs.HANGING, 1)) == 2 + 1  # and once in this process
    assert "hanging, seed 1: its worker died (WorkerCrashedError); begun again, try 2 of 4" in (
        caplog.text
    )


def kill_first(traces, label, seed):
    for _ in range(1800):
        if found := ray_jobs.begun(traces, label, seed):
            os.kill(found[0], signal.SIGKILL)
            return
        time.sleep(0.1)


def test_a_job_that_always_kills_its_worker_fails_and_the_others_do_not(
    engine, tmp_path, traces, monkeypatch
):
    monkeypatch.setattr(ray_engine, "TRIES", 2)
    labels = [made_up.DYING, "fastglt"]
    jobs = [made_up.job(label, seed=5, traces=str(traces)) for label in labels]
    found = {done.job.label: done for done in run_jobs(tmp_path, jobs, ray_jobs.run, engine)}
    assert found["fastglt"].cell is not None
    assert "its worker died 2 times" in str(found[made_up.DYING].error)
    assert len(ray_jobs.begun(traces, made_up.DYING, 5)) == 2
    assert [cell.label for cell in read_cells(tmp_path)] == ["fastglt"]


@pytest.mark.parametrize(
    ("label", "kind", "message"),
    [
        (made_up.FAILING, FastGLTError, "no luck"),
        (made_up.NOT_FINITE, InputError, "cell['test_ticket'] must be finite"),
    ],
)
def test_a_job_that_fails_by_itself_is_not_begun_again(
    engine, tmp_path, traces, label, kind, message
):
    job = made_up.job(label, traces=str(traces))
    (done,) = run_jobs(tmp_path, [job], ray_jobs.run, engine)
    assert type(done.error) is kind
    assert str(done.error).startswith(message)
    assert len(ray_jobs.begun(traces, label, 0)) == 1
    assert read_cells(tmp_path) == []


def test_a_worker_of_another_version_makes_no_cell(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "_version", lambda: "0.0.1, method 0")
    (done,) = run_jobs(tmp_path, [made_up.job()], made_up.run, engine)
    assert "run by fastglt 0.0.1, method 0 and this worker has" in str(done.error)


def test_a_process_that_has_joined_a_cluster_keeps_it(engine, tmp_path):
    list(run_jobs(tmp_path, [made_up.job()], made_up.run, engine))
    second = ray_engine.RayEngine("auto")
    with second, pytest.raises(InputError, match="has joined a cluster"):
        list(second.ended([made_up.job()], made_up.run))
    assert next(iter(engine.ended([made_up.job()], made_up.run))).cell is not None


@pytest.mark.parametrize("error", [BudgetError("empty"), UnknownNameError("method", "x", ["y"])])
def test_errors_come_back_as_the_class_that_callers_ask_for(error):
    again = ray_engine._error(type(error).__name__, str(error))
    assert str(again) == str(error)
    assert isinstance(error, type(again))
    assert isinstance(again, InputError)
    assert type(ray_engine._error("StudyError", "some")) is FastGLTError
    assert type(ray_engine._error("Iterable", "some")) is FastGLTError


NODES = [
    {"Alive": True, "Resources": {"CPU": 2.0, "memory": 5.0}},
    {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
]


@pytest.mark.parametrize(
    ("needs", "text"), [(Needs(3, 0), "with 3 cores"), (Needs(1, 1), "with 1 core and a GPU")]
)
def test_runs_that_no_node_has_room_for_are_refused(needs, text):
    check_nodes(NODES, Needs(2, 0))
    with pytest.raises(InputError, match=rf"{text}.*got cores and GPUs 2 and 0\)"):
        check_nodes(NODES, needs)


@pytest.mark.parametrize("address", ["", "local", "host", "host:", "http://host:1", "a b:1", "x:y"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(InputError, match="must be auto, host:port or ray://host:port"):
        ray_engine.RayEngine(address)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999"])
def test_where_no_cluster_is_the_error_says_so(address, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(InputError, match=f"no cluster of Ray answers at {address}"):
        list(ray_engine.RayEngine(address).ended([made_up.job()], made_up.run))


def test_auto_joins_what_ray_would_join_unless_it_is_gone(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert running_cluster() is None
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    assert running_cluster() is None
    monkeypatch.setattr(ray_cluster, "_answers", lambda address: True)
    assert running_cluster() == "auto"
    monkeypatch.setenv("RAY_ADDRESS", "ray://other:10001")
    assert running_cluster() == "ray://other:10001"
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with pytest.raises(InputError, match="must be auto"):
        running_cluster()


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r'pip install "fastglt\[ray\]"'):
        ray_engine.RayEngine("auto")


@pytest.fixture
def short_folder():
    """A folder with a path that Ray's sockets fit below, unlike those that pytest makes."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as name:
        yield Path(name)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_a_study_that_is_interrupted_or_killed(tmp_path, short_folder, number):
    program = Path(__file__).with_name("killed_ray_study.py")
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    study = subprocess.Popen(
        [sys.executable, str(program), str(tmp_path)],
        env=env | {"TMPDIR": str(short_folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(1800):
        if (workers := ray_jobs.begun(tmp_path, ray_jobs.HANGING, 0)) or study.poll() is not None:
            break
        time.sleep(0.1)
    study.send_signal(number)
    _, said = study.communicate(timeout=120)
    assert study.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL), said
    deadline = time.monotonic() + 60
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert workers
    assert not any(map(alive, workers))
    assert not (tmp_path / CELLS).exists()
    if number == signal.SIGINT:
        assert said == "interrupted\n"
        assert list(short_folder.glob("glt-*")) == []


def alive(process):
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False
