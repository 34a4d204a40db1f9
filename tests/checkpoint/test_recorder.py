"""A run in plain Python, ended anywhere and run again, gives what it gives in one go."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fastglt.checkpoint.files import Snapshot
from fastglt.checkpoint.recorder import Recorder
from fastglt.checkpoint.tree import copied
from fastglt.errors import CheckpointError, Terminated
from fastglt.training.progress import NO_CHECKPOINT, Progress
from fastglt.training.seeding import seeded
from fastglt.training.states import Fields


class EndedError(Exception):
    """Stands for a process that is killed."""


class Total(Fields):
    def __init__(self):
        self.value = 0


class Run:
    """Loops of all kinds; every number that is drawn ends up in ``trace``."""

    def __init__(self, progress: Progress, steps_left=None):
        self.progress, self.steps_left = progress, steps_left
        self.generator = torch.Generator().manual_seed(0)
        self.computed = 0

    def tick(self):
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left < 0:
                raise EndedError

    def draw(self):
        return int(torch.randint(100, (1,), generator=self.generator))

    def __call__(self):
        total, other = Total(), Total()
        with seeded(3):
            steps = self.progress.loop("first", 9, {"total": total, "g": self.generator})
            for step in steps:
                total.value = 3 * total.value + self.draw() + int(torch.randint(9, (1,)))
                self.tick()
                if step == 5:
                    steps.finish()
                    break
        score = self.progress.once("score", self.compute, parts={"g": self.generator})
        rounds = self.progress.loop("rounds", 3, {"o": other, "g": self.generator}, nests=True)
        for number in rounds:
            inner = Total()
            with seeded(number):
                parts = {"inner": inner, "g": self.generator}
                for _ in self.progress.loop("inner", 4, parts):
                    inner.value = 7 * inner.value + self.draw() + int(torch.randint(9, (1,)))
                    self.tick()
            other.value = 11 * other.value + inner.value
        with self.progress.scope("last"):
            more = self.progress.once("score", self.compute, parts={"g": self.generator})
        return [total.value, steps.done, float(score), other.value, more, self.draw()]

    def compute(self):
        self.tick()
        self.computed += 1
        return torch.rand(1, generator=self.generator) + self.draw()


EXPECTED = Run(NO_CHECKPOINT)()


class Disk:
    """Keeps the last snapshot, as one that shares nothing with the run."""

    def __init__(self):
        self.last, self.writes = None, 0

    def __call__(self, snapshot):
        self.writes += 1
        records = {
            name: type(each)(each.done, each.ended, copied(each.state))
            for name, each in snapshot.records.items()
        }
        self.last = Snapshot(snapshot.identity, records, snapshot.seconds, snapshot.elapsed)


@pytest.mark.parametrize("stride", range(2, 22))
def test_a_run_that_is_ended_again_and_again_gives_the_same(stride):
    disk, runs = Disk(), 0
    while True:
        runs += 1
        run = Run(Recorder({}, disk, 0.0, disk.last), stride)
        try:
            found = run()
        except EndedError:
            continue
        break
    assert found == EXPECTED
    assert (runs == 1) == (stride >= 19)


def test_recording_changes_nothing_and_saves_when_it_is_time():
    disk = Disk()
    assert Run(Recorder({}, disk, 0.0))() == EXPECTED
    assert disk.writes > 15
    rarely = Disk()
    assert Run(Recorder({}, rarely, 3600.0))() == EXPECTED
    assert rarely.writes == 0


def test_what_has_ended_is_neither_run_nor_kept_in_parts():
    disk = Disk()
    Run(Recorder({}, disk, 0.0))()
    assert set(disk.last.records) == {"first", "score", "rounds", "last/score"}
    again = Run(Recorder({}, disk, 0.0, disk.last), steps_left=0)
    assert again() == EXPECTED
    assert again.computed == 0


def test_a_request_to_end_waits_for_the_end_of_the_step():
    disk = Disk()
    recorder, total = Recorder({}, disk, 3600.0), Total()
    with pytest.raises(Terminated, match="a checkpoint was written"):  # noqa: PT012
        for step in recorder.loop("steps", 9, {"total": total}):
            if step == 4:
                recorder.end_soon()
            total.value = step
    record = disk.last.records["steps"]
    assert (record.done, record.state["total"]["value"]) == (4, 4)


def test_a_second_request_and_one_outside_of_steps_end_at_once():
    disk = Disk()
    recorder = Recorder({}, disk, 3600.0)
    recorder.once("score", lambda: 1)
    with pytest.raises(Terminated, match="--resume"):
        recorder.end_soon()
    recorder.save_ended()
    assert set(disk.last.records) == {"score"}
    with pytest.raises(Terminated):  # noqa: PT012
        for _ in recorder.loop("steps", 9, {}):
            recorder.end_soon()
            recorder.end_soon()
    recorder.save_ended()
    assert disk.writes == 1  # in the middle of a step there is nothing sound to be saved


def test_seconds_add_up():
    disk = Disk()
    first = Recorder({}, disk, 0.0)
    with first.timed("dense"):
        first.once("score", lambda: 1)
    assert 0 < disk.last.seconds["dense"] <= disk.last.elapsed
    earlier = Snapshot({}, {}, {"dense": 100.0}, 200.0)
    second = Recorder({}, disk, 0.0, earlier)
    assert second.earlier_seconds == 200.0
    with second.timed("dense") as stopwatch:
        pass
    assert 100 < stopwatch.seconds < 110
    second.save()
    assert disk.last.seconds["dense"] == stopwatch.seconds
    assert 200 < disk.last.elapsed < 210


def test_names_are_used_once_and_loops_say_that_they_nest():
    recorder = Recorder({}, Disk(), 0.0)
    recorder.once("a", lambda: 1)
    with pytest.raises(RuntimeError, match="two loops of a run are called 'a'"):
        recorder.once("a", lambda: 1)
    with pytest.raises(RuntimeError, match="give nests=True"):  # noqa: PT012
        for _ in recorder.loop("b", 2, {}):
            recorder.once("c", lambda: 1)


def _kept(parts):
    """A snapshot in the middle of a loop with these parts."""
    disk = Disk()
    for step in Recorder({}, disk, 0.0).loop("steps", 5, parts):
        if step == 3:
            break
    return disk.last


def _adam(model):
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, model.in_features)).sum().backward()
    optimizer.step()
    return optimizer


@pytest.mark.parametrize(
    ("kept", "taken", "message"),
    [
        (nn.Linear(2, 3), nn.Linear(2, 4), r"'weight' must be torch.float32 of shape \[4, 2\]"),
        (nn.Linear(2, 3), nn.Linear(2, 3).double(), "'weight' must be torch.float64"),
        (nn.Linear(2, 3), nn.Linear(2, 3, bias=False), "differ in 'bias'"),
        (torch.ones(2), torch.ones(3), r"shape \[3\]"),
        (_adam(nn.Linear(2, 3)), _adam(nn.Linear(2, 4)), "exp_avg of parameter 0"),
        (_adam(nn.Linear(2, 3)), _adam(nn.Linear(2, 3, bias=False)), "no parameter 1"),
        (torch.Generator(), nn.Linear(1, 1), "cannot be taken back"),
        (Total(), nn.Linear(1, 1), "cannot be taken back"),
    ],
)
def test_the_state_of_something_else_is_refused(kept, taken, message):
    recorder = Recorder({}, Disk(), 0.0, _kept({"part": kept}))
    with pytest.raises(CheckpointError, match=f"part of steps.*{message}"):
        recorder.loop("steps", 5, {"part": taken})


def test_missing_parts_and_too_many_steps_are_refused():
    last = _kept({"part": torch.ones(2)})
    with pytest.raises(CheckpointError, match="steps has no 'other' in it"):
        Recorder({}, Disk(), 0.0, last).loop("steps", 5, {"other": torch.ones(2)})
    with pytest.raises(CheckpointError, match="has 2 steps in it"):
        Recorder({}, Disk(), 0.0, last).loop("steps", 1, {"part": torch.ones(2)})
    with pytest.raises(TypeError, match="no state can be kept of a int"):
        list(Recorder({}, Disk(), 0.0).loop("steps", 5, {"part": 3}))


def test_modules_and_optimizers_are_taken_back_bit_by_bit():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).eval()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    model(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    last = _kept({"model": model, "optimizer": optimizer})
    other = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    its = torch.optim.Adam(other.parameters(), fused=True)
    Recorder({}, Disk(), 0.0, last).loop("steps", 5, {"model": other, "optimizer": its})
    assert not other.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    for mine, theirs in zip(
        optimizer.state_dict()["state"].values(), its.state_dict()["state"].values(), strict=True
    ):
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
