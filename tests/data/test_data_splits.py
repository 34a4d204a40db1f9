"""Seeded splits and the replay of recorded transforms."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Data

from fastglt.data.splits import fraction_split, random_split
from fastglt.data.transforms import replay
from fastglt.errors import InputError, UnknownNameError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(
    sizes=st.lists(st.integers(5, 20), min_size=1, max_size=5),
    unlabelled=st.integers(0, 5),
    train=st.integers(1, 2),
    val=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_counts_are_exact_and_every_labelled_node_is_in_one_mask(
    sizes, unlabelled, train, val, seed
):
    labels = [c for c, size in enumerate(sizes) for _ in range(size)] + [-1] * unlabelled
    y = torch.tensor(labels)[torch.randperm(len(labels), generator=generator(seed))]
    masks = random_split(y, train_per_class=train, val_per_class=val, generator=generator(seed))
    total = torch.stack(masks).sum(dim=0)
    assert torch.equal(total, (y >= 0).long())
    for c, size in enumerate(sizes):
        assert [int(mask[y == c].sum()) for mask in masks] == [train, val, size - train - val]


def test_the_split_depends_on_the_generator_only():
    y = torch.arange(60) % 3

    def draw(seed):
        return random_split(y, train_per_class=5, val_per_class=5, generator=generator(seed))[0]

    torch.manual_seed(1)
    first = draw(0)
    torch.manual_seed(2)
    assert torch.equal(first, draw(0))
    assert not torch.equal(first, draw(1))


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        (0, 1, r"train_per_class must be at least 1 \(got 0\)"),
        (1, 0, r"val_per_class must be at least 1 \(got 0\)"),
        (3, 2, r"at least 5 nodes .* \(got 4 of class 1\)"),
    ],
)
def test_impossible_splits_are_refused(train, val, message):
    y = torch.tensor([0] * 6 + [1] * 4)
    with pytest.raises(InputError, match=message):
        random_split(y, train_per_class=train, val_per_class=val, generator=generator())


def test_records_replay_after_a_round_trip_through_json_and_leave_the_graph_alone():
    data = Data(x=torch.ones(30, 4), y=torch.arange(30) % 3)
    records = (
        {"name": "RandomSplit", "train_per_class": 2, "val_per_class": 3, "seed": 5},
        {"name": "NormalizeFeatures"},
    )
    once, twice = replay(data, records), replay(data, json.loads(json.dumps(records)))
    assert torch.equal(once.train_mask, twice.train_mask)
    assert torch.equal(data.x, torch.ones(30, 4))
    assert "train_mask" not in data


def test_an_unknown_record_is_refused():
    with pytest.raises(UnknownNameError, match="unknown transform 'Shuffle'"):
        replay(Data(x=torch.ones(2, 2)), [{"name": "Shuffle"}])


@given(
    count=st.integers(20, 60),
    train=st.sampled_from([0.1, 0.29, 0.5, 0.6, 0.7]),
    val=st.sampled_from([0.1, 0.2, 0.3]),
    several=st.booleans(),
)
def test_shares_are_of_the_labelled_nodes_and_exact(count, train, val, several):
    labelled = torch.arange(count) % 4 > 0
    y = torch.where(labelled, 1, -1)
    if several:
        y = torch.where(labelled, 1.0, torch.nan).repeat(2, 1).t()
    masks = fraction_split(y, train=train, val=val, generator=generator())
    assert torch.equal(torch.stack(masks).sum(dim=0).bool(), labelled)
    total = int(labelled.sum())
    # In hundredths, so that the expectation is computed without rounding.
    sizes = [round(100 * share) * total // 100 for share in (train, val)]
    assert [int(mask.sum()) for mask in masks] == [*sizes, total - sum(sizes)]
    assert int(torch.stack(masks).sum()) == total


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        (0, 0.2, r"train must be a share in \(0, 1\) \(got 0\)"),
        (0.5, 1.0, r"val must be a share in \(0, 1\) \(got 1.0\)"),
        (True, 0.2, r"train must be a share"),
        ("0.5", 0.2, r"train must be a share"),
        (0.8, 0.3, r"train \+ val must be at most 1 \(got 0.8 \+ 0.3\)"),
        (0.6, 0.01, r"val must leave at least one node .* \(got 0.01 of 30 labelled nodes\)"),
    ],
)
def test_impossible_shares_are_refused(train, val, message):
    with pytest.raises(InputError, match=message):
        fraction_split(torch.zeros(30).long(), train=train, val=val, generator=generator())


def test_shares_are_recorded_and_replayed():
    data = Data(x=torch.ones(30, 4), y=torch.arange(30) % 3)
    record = {"name": "RandomSplit", "train": 0.6, "val": 0.2, "seed": 1}
    once, twice = replay(data, [record]), replay(data, json.loads(json.dumps([record])))
    assert torch.equal(once.val_mask, twice.val_mask)
    assert int(once.train_mask.sum()) == 18


def test_counts_per_class_are_for_one_label_a_node():
    with pytest.raises(InputError, match=r"one label a node.*got \[6, 2\].*shares"):
        random_split(
            torch.zeros(6, 2), train_per_class=1, val_per_class=1, generator=torch.Generator()
        )
