"""Datasets that are not at hand are read from tiny files in their true layout, by PyG's loaders."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch

from fastglt.data import load
from fastglt.data.validate import validate
from fastglt.errors import InputError

N = 180

GNN_BENCHMARK = {
    "photo": "amazon/Photo/raw/amazon_electronics_photo.npz",
    "coauthor-cs": "coauthor/CS/raw/ms_academic_cs.npz",
    "coauthor-physics": "coauthor/Physics/raw/ms_academic_phy.npz",
    "dblp": "citationfull/dblp/raw/dblp.npz",
    "cora-ml": "citationfull/cora_ml/raw/cora_ml.npz",
}
HETEROPHILOUS = {
    "tolokers": "roc_auc",
    "minesweeper": "roc_auc",
    "roman-empire": "accuracy",
    "amazon-ratings": "accuracy",
    "questions": "roc_auc",
}


def write_gnn_benchmark(path):
    """A ring with a few self-loops and words that are counted, three classes."""
    ring = np.arange(N)
    rows = np.concatenate([ring, ring[:5]])
    columns = np.concatenate([(ring + 1) % N, ring[:5]])
    adjacency = scipy.sparse.csr_matrix((np.ones(N + 5), (rows, columns)), shape=(N, N))
    words = np.random.default_rng(0).integers(0, 3, (N, 9)).astype(np.float32)
    words[:, 0] = 1
    arrays = {"labels": ring % 3}
    for prefix, matrix in (("adj", adjacency), ("attr", scipy.sparse.csr_matrix(words))):
        for part in ("data", "indices", "indptr", "shape"):
            arrays[f"{prefix}_{part}"] = np.asarray(getattr(matrix, part))
    path.parent.mkdir(parents=True)
    np.savez(path, **arrays)


def write_heterophilous(root, name):
    """A ring with ten splits, in the k-th of which node k is the only one for training."""
    spelled = name.replace("-", "_")
    path = root / f"heterophilous/{spelled}/raw/{spelled}.npz"
    ring = np.arange(N)
    train = np.eye(10, N, dtype=bool)
    val = np.roll(train, 50, axis=1)
    path.parent.mkdir(parents=True)
    np.savez(
        path,
        node_features=np.random.default_rng(0).random((N, 7)).astype(np.float32),
        node_labels=ring % 2,
        edges=np.stack([ring, (ring + 1) % N], axis=1),
        train_masks=train,
        val_masks=val,
        test_masks=~(train | val),
    )
    return root


@pytest.mark.parametrize(("name", "path"), GNN_BENCHMARK.items())
def test_bags_of_words_are_read_split_and_normalised_but_those_of_amazon(name, path, tmp_path):
    write_gnn_benchmark(tmp_path / path)
    loaded = load(name, root=tmp_path, split_seed=3)
    data = loaded.data
    assert (loaded.task, loaded.metric) == ("node-classification", "accuracy")
    is_raw = path.startswith("amazon")
    assert [record["name"] for record in loaded.transforms] == (
        ["RandomSplit"] if is_raw else ["RandomSplit", "NormalizeFeatures"]
    )
    assert loaded.transforms[0]["seed"] == 3
    assert validate(data) == 3
    assert data.num_edges == 2 * N
    assert data.is_undirected()
    assert not data.has_self_loops()
    assert torch.allclose(data.x.sum(dim=1), torch.ones(N)) != is_raw
    assert int(data.train_mask.sum()) == 60


@pytest.mark.parametrize(("name", "metric"), HETEROPHILOUS.items())
def test_the_split_seed_chooses_one_of_ten_official_splits(name, metric, tmp_path):
    root = write_heterophilous(tmp_path, name)
    for seed in (0, 9):
        loaded = load(name, root=root, split_seed=seed)
        assert loaded.metric == metric
        assert loaded.transforms == ({"name": "OfficialSplit", "column": seed},)
        assert loaded.data.train_mask.nonzero().tolist() == [[seed]]
        assert loaded.data.val_mask.nonzero().tolist() == [[seed + 50]]
        assert validate(loaded.data) == 2
    with pytest.raises(InputError, match=r"split_seed must be below 10, .* \(got 10\)"):
        load(name, root=root, split_seed=10)


def test_a_split_can_be_drawn_instead_of_the_official_one(tmp_path):
    root = write_heterophilous(tmp_path, "minesweeper")
    shares = load("minesweeper", root=root, split={"train": 0.6, "val": 0.2}, split_seed=11)
    masks = (shares.data.train_mask, shares.data.val_mask, shares.data.test_mask)
    assert [int(mask.sum()) for mask in masks] == [108, 36, 36]
    assert shares.transforms == ({"name": "RandomSplit", "train": 0.6, "val": 0.2, "seed": 11},)
    counts = load("minesweeper", root=root, split={"train_per_class": 4, "val_per_class": 5})
    assert int(counts.data.train_mask.sum()) == 8
    with pytest.raises(InputError, match=r"split must have the keys .* \(got train\)"):
        load("minesweeper", root=root, split={"train": 0.5})


def test_records_of_a_ticket_replace_all_that_is_customary(tmp_path):
    root = write_heterophilous(tmp_path, "minesweeper")
    recorded = load("minesweeper", root=root, split_seed=7)
    again = load("minesweeper", root=root, transforms=recorded.transforms)
    assert torch.equal(again.data.train_mask, recorded.data.train_mask)
    assert again.transforms == recorded.transforms
    with pytest.raises(InputError, match=r"column must be one of the splits .* \(got 12"):
        load("minesweeper", root=root, transforms=[{"name": "OfficialSplit", "column": 12}])


def test_files_without_a_published_checksum_and_other_content_say_so(tmp_path):
    loaded = load("minesweeper", root=write_heterophilous(tmp_path, "minesweeper"))
    assert loaded.title == f"Minesweeper (not the published graph: {N} nodes)"
    assert "taken as it is: no published checksum" in loaded.source
    assert loaded.title in loaded.source
