"""Jobs of a study are run once, each on its own, however many processes there are."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import made_up
import pytest

from fastglt.errors import FastGLTError, InputError, OutputPathError
from fastglt.study import jobs as module
from fastglt.study import processes
from fastglt.study.cells import append_cell, read_cells
from fastglt.study.jobs import run_jobs
from fastglt.study.processes import Processes


@pytest.fixture(autouse=True)
def _memory_as_it_is(monkeypatch):
    monkeypatch.setattr(processes, "keep_memory", lambda: None)


def ended(folder, jobs, run=made_up.run, workers=1, threads=1):
    return list(run_jobs(folder, jobs, run, Processes(workers, threads)))


@pytest.fixture
def spy():
    """A way to run jobs that notes which."""

    def run(job):
        run.seen.append((job.label, job.seed))
        return made_up.run(job)

    run.seen = []
    return run


def test_what_is_finished_is_not_run_again(tmp_path, spy):
    first = ended(tmp_path, [made_up.job(seed=seed) for seed in (0, 1)], spy)
    assert all(done.is_new for done in first)
    again = ended(tmp_path, [made_up.job(seed=seed) for seed in (2, 1, 0)], spy)
    assert spy.seen == [("fastglt", seed) for seed in (0, 1, 2)]
    assert [(done.job.seed, done.is_new) for done in again] == [(1, False), (0, False), (2, True)]
    assert [done.cell for done in again if not done.is_new] == [first[1].cell, first[0].cell]
    assert [cell.seed for cell in read_cells(tmp_path)] == [0, 1, 2]
    assert ended(tmp_path, [], spy) == []


def test_stage_spec_seed_and_split_each_make_another_job(tmp_path, spy):
    job = made_up.job()
    others = [
        module.Job("confirm", job.label, job.spec, 0, 0),
        module.Job("compare", job.label, {**job.spec, "lr": 1}, 0, 0),
        module.Job("compare", job.label, job.spec, 1, 0),
        module.Job("compare", job.label, job.spec, 0, 1),
    ]
    assert len({each.key for each in [job, *others]}) == 5
    same = module.Job("compare", "other label", dict(reversed(job.spec.items())), 0, 0, {"a": 1})
    assert same.key == job.key
    append_cell(tmp_path, made_up.run(job))
    assert [done.is_new for done in ended(tmp_path, [same, others[2]], spy)] == [False, True]


@pytest.mark.parametrize("label", [made_up.FAILING, made_up.NOT_FINITE])
def test_a_job_that_fails_does_not_stop_the_others_and_is_tried_again(tmp_path, label, spy):
    jobs = [made_up.job(seed=0), made_up.job(label, seed=1), made_up.job(seed=2)]
    found = ended(tmp_path, jobs, spy)
    assert [done.cell is None for done in found] == [False, True, False]
    assert isinstance(found[1].error, FastGLTError)
    assert [cell.seed for cell in read_cells(tmp_path)] == [0, 2]
    ended(tmp_path, jobs, spy)
    assert spy.seen[3:] == [(label, 1)]


def test_what_was_yielded_is_stored(tmp_path):
    jobs = [made_up.job(seed=seed) for seed in range(3)]
    running = run_jobs(tmp_path, jobs, made_up.run, Processes(1, 1))
    for count in (1, 2):
        next(running)
        assert len(read_cells(tmp_path)) == count
    running.close()
    assert len(read_cells(tmp_path)) == 2


def test_a_study_that_cannot_be_written_ends_the_run(tmp_path):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file.d"
    folder.symlink_to(tmp_path / "file" / "study")
    with pytest.raises((OutputPathError, InputError)):
        ended(folder, [made_up.job()])


def test_whatever_a_model_raises_is_a_failure_with_its_traceback(tmp_path):
    def run(job):
        if job.seed == 0:
            raise KeyError("bug")
        return made_up.run(job)

    first, second = ended(tmp_path, [made_up.job(seed=0), made_up.job(seed=1)], run)
    assert first.cell is None
    assert str(first.error).startswith("KeyError: 'bug'\nTraceback")
    assert second.cell is not None


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_no_worker_outlives_a_killed_study(tmp_path):
    program = Path(__file__).with_name("killed_study.py")
    study = subprocess.Popen(
        [sys.executable, str(program), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    workers = [int(study.stdout.readline()) for _ in range(2)]
    study.kill()
    study.wait()
    study.stdout.close()
    deadline = time.monotonic() + 30
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def figures(found):
    return sorted((done.job.seed, done.cell.test_ticket) for done in found if done.cell)


def test_results_do_not_depend_on_the_number_of_workers_or_the_order(tmp_path):
    jobs = [made_up.job(seed=seed) for seed in range(4)]
    jobs.insert(1, made_up.job(made_up.FAILING, seed=9))
    alone = ended(tmp_path / "1", jobs, workers=1, threads=1)
    together = ended(tmp_path / "2", jobs[::-1], workers=2, threads=2)
    assert figures(alone) == figures(together)
    assert len(figures(alone)) == 4
    assert {done.cell.provenance["threads"] for done in together if done.cell} == {1}
    assert {done.cell.provenance["process"] for done in together if done.cell}.isdisjoint(
        done.cell.provenance["process"] for done in alone if done.cell
    )
    assert [str(done.error) for done in together if done.cell is None] == ["no luck"]
    assert len(read_cells(tmp_path / "2")) == 4


def test_a_worker_that_dies_gives_an_error_and_finished_cells_stay(tmp_path):
    jobs = [made_up.job(seed=seed) for seed in range(3)]
    append_cell(tmp_path, made_up.run(jobs[0]))
    dying = [made_up.job(made_up.DYING, seed=9), made_up.job(made_up.DYING, seed=10)]
    yielded = []
    with pytest.raises(InputError, match=r"ended without an answer.*finished cells are kept"):
        yielded += run_jobs(tmp_path, [*jobs, *dying], made_up.run, Processes(2, 2))
    assert read_cells(tmp_path)[0] == made_up.cell(
        seed=0, ticket=read_cells(tmp_path)[0].test_ticket,
        spec=dict(jobs[0].spec), settings_hash=jobs[0].key[1],
        provenance=read_cells(tmp_path)[0].provenance,
    )  # fmt: skip
    found = ended(tmp_path, jobs)
    assert [done.cell.seed for done in found if not done.is_new].count(0) == 1
    assert {done.cell.seed for done in found} == {0, 1, 2}
