"""``find`` that is ended anywhere and resumed gives, bit by bit, the ticket of one that was not."""

from __future__ import annotations

import os
import signal
import threading

import pytest
import torch

import fastglt
from fastglt.checkpoint.places import FILES, LOCK, TICKET
from fastglt.errors import CheckpointError, InputError, NonFiniteLossError, Terminated
from fastglt.training.callback import Callback
from fastglt.training.tasks import NodeClassification
from helpers import TINY, build, graph, states_equal

ASKED = TINY | {"edge_sparsity": 0.3, "weight_sparsity": 0.8}
GRAPH = graph()


class KilledError(Exception):
    """Stands for a process that is killed."""


class After(Callback):
    """Does something after so many steps."""

    def __init__(self, steps, act):
        self.left, self.act = steps, act

    def on_step(self, phase, step, val_metric):
        self.left -= 1
        if self.left == 0:
            self.act()


def kill():
    raise KilledError


def find(model="gcn", data=GRAPH, **more):
    return fastglt.find(build(model, data), data, **(ASKED | more))


def find_killed(folder, stride, **more):
    """The ticket of a run that is ended after every ``stride`` steps; how often that was."""
    make = more.pop("task", None)
    for runs in range(200):
        if make is not None:
            more["task"] = make()
        try:
            ticket = find(
                checkpoint=folder,
                checkpoint_every=0,
                resume=True,
                callback=After(stride + 1, kill),
                **more,
            )
        except KilledError:
            continue
        return ticket, runs
    raise AssertionError("the run gets no further")


def assert_same(one, two):
    assert torch.equal(one.edge_keep, two.edge_keep)
    for name in ("weight_masks", "init_state", "trained_state"):
        assert states_equal(getattr(one, name), getattr(two, name)), name
    assert (one.edge_weight is None) == (two.edge_weight is None)
    if one.edge_weight is not None:
        assert torch.equal(one.edge_weight, two.edge_weight)
    assert one.history == two.history
    assert one.settings == two.settings
    first, second = ({**ticket.metrics, "seconds": None} for ticket in (one, two))
    assert first == second
    assert one.metrics["seconds"].keys() == two.metrics["seconds"].keys()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"preset": "paper"},
        {"inductive": True},
        {"edge_values": "learned", "patience": 2},
        {"model": "plain", "recalibrate": True},
        {"method": "one-shot"},
        {"method": "ugs", "fixed_epochs": 2},
        {"method": "wd-glt"},
        {"method": "early-bird", "mask_epochs": 9, "mask_distance": 2.0},
        {"method": "teddy"},
        {"method": "dropedge", "weight_sparsity": 0.0},
        {"edge_sparsity": 0.0, "weight_sparsity": 0.0, "max_drop": 50.0, "resolution": 16.0},
        {"edge_sparsity": 0.0, "weight_sparsity": 0.0, "target_macs": 0.5, "resolution": 2.0},
    ],
    ids=lambda more: "-".join(map(str, more.values())) or "default",
)
def test_ended_again_and_again(more, tmp_path):
    stride = 30 if "resolution" in more else 5
    ticket, kills = find_killed(tmp_path / "run", stride, **more)
    assert kills > 0
    assert_same(find(**more), ticket)


def test_ended_after_every_step_of_a_run(tmp_path):
    expected = find()
    ticket, kills = find_killed(tmp_path, 1)
    assert kills > 14
    assert_same(expected, ticket)
    assert ticket.metrics["seconds"]["total"] > 0


def test_batches_go_on_where_they_were(tmp_path):
    class Batches(NodeClassification):
        """Other training nodes in every step, by a position of its own."""

        def __init__(self):
            super().__init__()
            self.position = 0

        def num_batches(self, data):
            return 2

        def batch(self, data, generator):
            self.position += 1
            batch = data.clone()
            chosen = torch.arange(data.num_nodes) % 3 == self.position % 3
            batch.train_mask = data.train_mask & chosen
            return batch

        def state_dict(self):
            return {"position": self.position}

        def load_state_dict(self, state):
            self.position = state["position"]

    expected = find(task=Batches())
    # A process makes its task anew.
    ticket, kills = find_killed(tmp_path, 3, task=Batches)
    assert kills > 2
    assert_same(expected, ticket)


def test_a_run_that_is_over_succeeds_at_once(tmp_path):
    first = find(checkpoint=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([FILES[0], LOCK, TICKET])
    second = find(checkpoint=tmp_path, resume=True, callback=After(1, kill))
    assert_same(first, second)
    assert first.metrics["seconds"] == second.metrics["seconds"]


def begun(folder, steps=9, **more):
    """A folder with a run that was ended; both files are there."""
    with pytest.raises(KilledError):
        find(checkpoint=folder, checkpoint_every=0, callback=After(steps, kill), **more)
    assert all((folder / name).exists() for name in FILES)
    return folder


def test_another_run_is_refused_and_the_difference_named(tmp_path):
    begun(tmp_path)
    for more, message in (
        ({"seed": 1}, r"differs in settings.seed \(0 there, 1 here\)"),
        ({"model": "sage"}, "differs in model.modules"),
        ({"data": graph(seed=2)}, "graph.edge_index"),
        ({"metric": "roc_auc"}, "metric"),
        ({"init": build("gcn", GRAPH, seed=4).state_dict()}, "init"),
        ({"teacher": torch.zeros(90, 3)}, "settings.teacher"),
    ):
        with pytest.raises(CheckpointError, match=f"of another run.*{message}"):
            find(checkpoint=tmp_path, resume=True, **more)
    other = build("gcn", GRAPH, seed=5)
    with pytest.raises(CheckpointError, match="differs in the initial weights; give the same"):
        fastglt.find(other, GRAPH, checkpoint=tmp_path, resume=True, **ASKED)
    with pytest.raises(CheckpointError, match="already holds a checkpoint; add --resume"):
        find(checkpoint=tmp_path)


def newest(folder):
    return max((folder / name for name in FILES), key=lambda path: path.stat().st_mtime_ns)


@pytest.mark.parametrize("steps", [5, 13])
def test_the_older_checkpoint_is_used_where_the_newest_is_damaged(steps, tmp_path):
    begun(tmp_path, steps)
    damaged = newest(tmp_path)
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    leftover = tmp_path / f".{FILES[0][:12]}.0123456789abcdef.tmp.safetensors"
    leftover.write_bytes(b"half of a checkp")
    with pytest.warns(UserWarning, match=f"{damaged.name}: it was damaged.*going on from"):
        ticket = find(checkpoint=tmp_path, resume=True)
    assert_same(find(), ticket)
    assert not leftover.exists()


def test_two_damaged_checkpoints_are_an_error(tmp_path):
    begun(tmp_path)
    for name in FILES:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be used"):
        find(checkpoint=tmp_path, resume=True)


def test_a_lost_ticket_of_a_run_that_was_over_is_found_again(tmp_path):
    first = find(checkpoint=tmp_path, checkpoint_every=0)
    (tmp_path / TICKET).unlink()
    with pytest.warns(UserWarning, match="no such file"):
        second = find(checkpoint=tmp_path, resume=True)
    assert_same(first, second)
    assert (tmp_path / TICKET).exists()


def test_one_process_at_a_time(tmp_path):
    def second():
        with pytest.raises(CheckpointError, match="another process is running into"):
            find(checkpoint=tmp_path, resume=True)
        kill()

    with pytest.raises(KilledError):
        find(checkpoint=tmp_path, callback=After(2, second))
    find(checkpoint=tmp_path, resume=True)


def test_sigterm_saves_at_the_end_of_the_step(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    end = After(6, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Terminated, match="a checkpoint was written") as ended:
        find(checkpoint=tmp_path, checkpoint_every=3600, callback=end)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before
    assert (tmp_path / FILES[0]).exists()
    # Of the 16 steps 6 have been made.
    with pytest.raises(KilledError):
        find(checkpoint=tmp_path, resume=True, callback=After(10, kill))
    ticket = find(checkpoint=tmp_path, resume=True, callback=After(11, kill))
    assert_same(find(), ticket)


def test_another_thread_than_the_main_one_leaves_signals_alone(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(find(checkpoint=tmp_path)))
    thread.start()
    thread.join()
    assert_same(find(), found[0])


def test_a_loss_that_is_not_finite_leaves_the_last_checkpoint(tmp_path):
    class Breaks(NodeClassification):
        def __init__(self, steps):
            super().__init__()
            self.left = steps

        def loss(self, out, data, split="train"):
            self.left -= split == "train"
            loss = super().loss(out, data, split)
            return loss * float("nan") if self.left == 0 else loss

    with pytest.raises(NonFiniteLossError):
        find(task=Breaks(6), checkpoint=tmp_path, checkpoint_every=0)
    resumed = find(task=Breaks(-1), checkpoint=tmp_path, resume=True)
    assert_same(find(task=Breaks(-1)), resumed)


def test_arguments_that_make_no_sense(tmp_path):
    with pytest.raises(InputError, match="resume=True needs the folder"):
        find(resume=True)
    with pytest.raises(InputError, match=r"checkpoint_every must be at least 0 \(got nan\)"):
        find(checkpoint=tmp_path, checkpoint_every=float("nan"))
    with pytest.raises(InputError, match="checkpoint cannot be given to find_seeds"):
        fastglt.find_seeds(lambda: None, GRAPH, [0], checkpoint=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be made"):
        find(checkpoint=tmp_path / "file")


def test_a_recorded_run_leaves_the_global_random_state(tmp_path):
    torch.manual_seed(5)
    begun(tmp_path, method="ugs")
    before = torch.get_rng_state()
    find(checkpoint=tmp_path, resume=True, method="ugs")
    assert torch.equal(before, torch.get_rng_state())
