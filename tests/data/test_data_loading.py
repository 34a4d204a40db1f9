"""Loading goes through PyG's own loaders, on verified files only."""

from __future__ import annotations

import hashlib
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from tiny_dataset import make_entry

from fastglt.data import CATALOGUE, load, loaders, loading, sources
from fastglt.data.catalogue import Catalogue
from fastglt.errors import InputError, UnknownNameError

NUM_NODES, NUM_CLASSES, NUM_FEATURES, NUM_TRAIN, NUM_TEST = 620, 3, 5, 30, 60


def planetoid_files() -> dict[str, bytes]:
    """A graph in Planetoid's format: a cycle whose node ``i`` has class ``i % 3``."""
    onehot = np.eye(NUM_CLASSES, dtype=np.int32)[np.arange(NUM_NODES) % NUM_CLASSES]
    x = scipy.sparse.csr_matrix(
        np.random.default_rng(0).random((NUM_NODES, NUM_FEATURES)).astype(np.float32)
    )
    rest = NUM_NODES - NUM_TEST
    graph = {i: [(i - 1) % NUM_NODES, (i + 1) % NUM_NODES] for i in range(NUM_NODES)}
    parts = {
        "x": x[:NUM_TRAIN],
        "y": onehot[:NUM_TRAIN],
        "allx": x[:rest],
        "ally": onehot[:rest],
        "tx": x[rest:],
        "ty": onehot[rest:],
        "graph": graph,
    }
    files = {f"raw/ind.cora.{name}": pickle.dumps(value) for name, value in parts.items()}
    files["raw/ind.cora.test.index"] = "".join(f"{i}\n" for i in range(rest, NUM_NODES)).encode()
    return files


@pytest.fixture
def planetoid_root(tmp_path, monkeypatch):
    files = planetoid_files()
    for name, value in files.items():
        path = tmp_path / "root/planetoid/Cora" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value)
    entry = make_entry(
        files,
        folder="planetoid/Cora",
        num_classes=NUM_CLASSES,
        loader=partial(loaders.pyg, name="Cora", dataset="Planetoid"),
        num_nodes=NUM_NODES,
        num_features=NUM_FEATURES,
        transforms=CATALOGUE.get("cora").transforms,
    )
    monkeypatch.setattr(loading, "CATALOGUE", Catalogue([entry]))
    return tmp_path / "root"


def test_a_planetoid_graph_is_loaded_quietly_and_the_root_stays_as_it_is(
    planetoid_root, capfd, monkeypatch
):
    before = sorted(planetoid_root.rglob("*"))
    # PyG is quiet by itself only under pytest; be a normal program to it.
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    loaded = load("TINY", root=planetoid_root)
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "again")
    assert capfd.readouterr() == ("", "")
    assert sorted(planetoid_root.rglob("*")) == before
    assert (loaded.name, loaded.num_classes, loaded.source) == (
        "tiny",
        NUM_CLASSES,
        f"root {planetoid_root}",
    )
    data = loaded.data
    assert data.y.tolist() == [i % NUM_CLASSES for i in range(NUM_NODES)]
    assert data.num_edges == 2 * NUM_NODES
    counts = [int(mask.sum()) for mask in (data.train_mask, data.val_mask, data.test_mask)]
    assert counts == [NUM_TRAIN, 500, NUM_TEST]


def test_normalisation_is_recorded_and_can_be_left_out(planetoid_root):
    normal = load("tiny", root=planetoid_root)
    plain = load("tiny", root=planetoid_root, transforms=())
    assert normal.transforms == ({"name": "NormalizeFeatures"},)
    assert plain.transforms == ()
    sums = normal.data.x.sum(dim=1)
    assert torch.all(sums <= 1 + 1e-5)
    assert not torch.equal(plain.data.x, normal.data.x)


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("place", ["root", "cache"])
def test_a_malicious_pickle_is_refused_before_it_is_unpickled(place, tmp_path):
    marker = tmp_path / "executed"
    payload = pickle.dumps(Malicious(marker))
    entry = CATALOGUE.get("cora")
    root = tmp_path / "root" if place == "root" else sources.cached_root(entry)
    for name in entry.files:
        path = root / entry.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload)
    with pytest.raises(InputError, match=r"ind\.cora\.\w+ must have SHA-256"):
        load("cora", root=root if place == "root" else None)
    assert not marker.exists()
    pickle.loads(payload)
    assert marker.exists(), "the payload is harmless, so this test shows nothing"


def test_unknown_dataset():
    with pytest.raises(UnknownNameError, match="did you mean 'pubmed'"):
        load("pubmet")


@pytest.mark.parametrize("seed", [-1, 1.0, "0", True, None])
def test_a_split_seed_that_is_no_seed_is_refused(seed, planetoid_root):
    with pytest.raises(InputError, match="split_seed must be an integer"):
        load("tiny", root=planetoid_root, split_seed=seed)


def amazon_entry(path: Path):
    """A ring of 300 goods in 3 categories, in the format of Amazon Computers."""
    n = 300
    ring = np.arange(n)
    adjacency = scipy.sparse.csr_matrix((np.ones(n), (ring, (ring + 1) % n)), shape=(n, n))
    features = scipy.sparse.csr_matrix(np.eye(n, 7, dtype=np.float32) + 1)
    arrays = {"labels": ring % 3}
    for prefix, matrix in (("adj", adjacency), ("attr", features)):
        for part in ("data", "indices", "indptr", "shape"):
            arrays[f"{prefix}_{part}"] = np.asarray(getattr(matrix, part))
    path.parent.mkdir(parents=True)
    np.savez(path, **arrays)
    return make_entry(
        folder="amazon/Computers",
        files={f"raw/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()},
        loader=CATALOGUE.get("computers").loader,
        split=CATALOGUE.get("computers").split,
        num_classes=3,
    )


def test_a_graph_without_a_split_gets_a_seeded_one(tmp_path, monkeypatch):
    raw = tmp_path / "amazon/Computers/raw/amazon_electronics_computers.npz"
    monkeypatch.setattr(loading, "CATALOGUE", Catalogue([amazon_entry(raw)]))
    first, again = load("tiny", root=tmp_path), load("tiny", root=tmp_path)
    other = load("tiny", root=tmp_path, split_seed=7)
    assert first.data.is_undirected()
    assert int(first.data.train_mask.sum()) == 60
    assert int(first.data.val_mask.sum()) == 90
    assert torch.equal(first.data.test_mask, again.data.test_mask)
    assert not torch.equal(first.data.test_mask, other.data.test_mask)
    assert other.transforms[0] == {
        "name": "RandomSplit",
        "train_per_class": 20,
        "val_per_class": 30,
        "seed": 7,
    }
