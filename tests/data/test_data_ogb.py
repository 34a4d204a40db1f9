"""OGB's graphs come through OGB's own loaders: safely, quietly, offline, from a read-only root."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ogb_files import N, ring, write_arxiv, write_collab, write_ddi, write_proteins

from fastglt.data import CATALOGUE, load, loading, ogb_loaders, processed, sources
from fastglt.data.catalogue import Catalogue
from fastglt.data.validate import validate
from fastglt.errors import DatasetNotFoundError, GraphError, InputError


def test_arxiv_is_made_undirected_and_takes_the_time_split(tmp_path):
    loaded = load("ogbn-arxiv", root=write_arxiv(tmp_path))
    data = loaded.data
    assert loaded.transforms == ({"name": "ToUndirected"},)
    assert (data.num_nodes, data.num_edges, data.num_features) == (N, 2 * N, 128)
    assert data.is_undirected()
    assert data.y.tolist() == list(range(N))
    assert data.train_mask.nonzero().view(-1).tolist() == list(range(12))
    assert data.test_mask.nonzero().view(-1).tolist() == list(range(18, N))
    assert (validate(data), loaded.num_classes) == (N, 40)


def test_another_feature_width_is_called_a_substitute(tmp_path, monkeypatch):
    entry = replace(CATALOGUE.get("ogbn-arxiv"), num_nodes=N)
    monkeypatch.setattr(loading, "CATALOGUE", Catalogue([entry]))
    assert load("ogbn-arxiv", root=write_arxiv(tmp_path / "true")).title == "ogbn-arxiv"
    other = load("ogbn-arxiv", root=write_arxiv(tmp_path / "other", features=40))
    assert other.title == "ogbn-arxiv (substitute features)"
    assert other.title in other.source


def test_proteins_have_many_labels_and_features_gathered_from_their_edges(tmp_path):
    loaded = load("ogbn-proteins", root=write_proteins(tmp_path))
    data = loaded.data
    assert (loaded.task, loaded.metric) == ("multilabel-node-classification", "roc_auc")
    assert data.num_edge_features == 8
    assert validate(data, loaded.task) == loaded.num_classes == 112
    assert data.num_edges == 2 * N
    assert data.node_species.unique().tolist() == [9606]
    expected = torch.stack([data.edge_attr[data.edge_index[1] == i].sum(dim=0) for i in range(N)])
    assert torch.allclose(data.x, expected)
    raw = load("ogbn-proteins", root=tmp_path, transforms=[])
    assert raw.data.x is None
    assert raw.data.num_nodes == N


def test_proteins_are_read_as_they_lie_in_the_archive_too(tmp_path):
    root = write_proteins(tmp_path, species="species")
    assert load("ogbn-proteins", root=root).data.node_species.shape == (N, 1)
    assert (root / "ogb/ogbn_proteins/raw/species.csv.gz").exists()


def test_ddi_has_training_edges_both_ways_and_neither_features_nor_guesses(tmp_path):
    loaded = load("ogbl-ddi", root=write_ddi(tmp_path))
    data = loaded.data
    assert (loaded.task, loaded.metric, loaded.num_classes) == ("link-prediction", "hits@20", 0)
    assert data.x is None
    assert data.num_nodes == N
    assert data.num_edges == 2 * N
    assert data.is_undirected()
    assert data.train_pos_edge_label_index.t().tolist() == ring().tolist()
    sizes = [data[f"{part}_edge_label_index"].size(1) for part in ("val_neg", "test_neg")]
    assert sizes == [9, 8]
    assert validate(data, loaded.task) == 0


def test_collab_keeps_weights_and_years_and_drops_positives_of_the_evaluation(tmp_path):
    root = write_collab(tmp_path)
    raw = load("ogbl-collab", root=root, transforms=[]).data
    with pytest.raises(GraphError, match=r"test_pos_edge_label_index must not .* \(got \(0, 1\)"):
        validate(raw, "link-prediction")
    loaded = load("ogbl-collab", root=root)
    data = loaded.data
    assert loaded.metric == "hits@50"
    assert data.repeated_links
    assert validate(data, loaded.task) == 0
    # 24 pairs of which 4 are there twice; (0, 1) is a test positive and was there twice.
    assert (raw.num_edges, data.num_edges) == (2 * (N + 4), 2 * (N + 4 - 2))
    assert data.edge_weight.dtype == torch.float32
    kept = dict(zip(map(tuple, data.edge_index.t().tolist()), data.edge_weight, strict=True))
    assert float(kept[5, 6]) == float(kept[6, 5]) == 6
    assert data.edge_year.shape == (data.num_edges, 1)


def test_the_root_may_be_read_only_and_the_second_load_needs_no_ogb(tmp_path, monkeypatch):
    root = write_ddi(tmp_path / "root")
    before = {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}
    first = load("ogbl-ddi", root=root)
    assert {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]} == before

    def fail(*_):
        raise AssertionError("read again")

    monkeypatch.setattr(ogb_loaders, "import_ogb", fail)
    second = load("ogbl-ddi", root=root)
    assert first.data.to_dict().keys() == second.data.to_dict().keys()
    for key, value in first.data.to_dict().items():
        other = second.data[key]
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other
    assert first.source == second.source


def test_what_is_kept_belongs_to_the_content_and_is_mended_when_damaged(tmp_path):
    first = load("ogbn-arxiv", root=write_arxiv(tmp_path / "1", features=5))
    other = load("ogbn-arxiv", root=write_arxiv(tmp_path / "2", features=6))
    assert (first.data.num_features, other.data.num_features) == (5, 6)
    kept = list((sources.cache_dir() / "processed").iterdir())
    assert len(kept) == 2
    for path in kept:
        path.write_bytes(path.read_bytes()[:40])
    assert load("ogbn-arxiv", root=tmp_path / "1").data.num_features == 5


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FASTGLT_CACHE", str(tmp_path / "file"))
    assert load("ogbl-ddi", root=write_ddi(tmp_path)).data.num_nodes == N


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("disguise", ["bare", "object array"])
def test_a_malicious_split_is_refused_before_it_is_unpickled(disguise, tmp_path):
    root, marker = write_ddi(tmp_path), tmp_path / "executed"
    content = Malicious(marker)
    if disguise == "object array":
        content = np.asarray([content], dtype=object)
    path = root / "ogb/ogbl_ddi/split/target/test.pt"
    torch.save({"edge": content}, path)
    with pytest.raises(InputError, match="something other than arrays of numbers"):
        load("ogbl-ddi", root=root)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), "the payload is harmless, so this test shows nothing"


def test_files_that_somebody_processed_before_are_never_read(tmp_path):
    root, marker = write_ddi(tmp_path), tmp_path / "executed"
    for name in ("processed/geometric_data_processed.pt", "split/target/split_dict.pt"):
        path = root / "ogb/ogbl_ddi" / name
        path.parent.mkdir(exist_ok=True)
        torch.save(Malicious(marker), path)
    assert load("ogbl-ddi", root=root).data.num_edges == 2 * N
    assert not marker.exists()


def test_safe_loading_is_as_before_afterwards(tmp_path):
    before = set(torch.serialization.get_safe_globals())
    load("ogbl-ddi", root=write_ddi(tmp_path))
    assert set(torch.serialization.get_safe_globals()) == before


def test_damaged_raw_files_are_an_error_that_names_the_dataset(tmp_path):
    root = write_arxiv(tmp_path)
    (root / "ogb/ogbn_arxiv/raw/node-feat.csv.gz").write_bytes(b"not gzip")
    with pytest.raises(InputError, match="raw files of ogbn-arxiv must be as OGB publishes them"):
        load("ogbn-arxiv", root=root)


def test_a_missing_file_is_named_with_the_archive_and_nothing_is_asked_on_the_terminal(tmp_path):
    root = write_ddi(tmp_path)
    (root / "ogb/ogbl_ddi/RELEASE_v1.txt").unlink()
    with pytest.raises(DatasetNotFoundError) as caught:
        load("ogbl-ddi", root=root)
    assert "lacks ogb/ogbl_ddi/RELEASE_v1.txt" in str(caught.value)
    assert "http://snap.stanford.edu/ogb/data/linkproppred/ddi.zip" in str(caught.value)


PROGRAM = """
import sys, threading, warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
import socket
def refuse(*_, **__):
    print("network", flush=True)
    raise OSError("no network")
socket.getaddrinfo = socket.create_connection = refuse
from fastglt.data import load
data = load("ogbn-arxiv", root=sys.argv[1]).data
assert "outdated" not in sys.modules
# The monitor of tqdm's progress bars is a daemon, which keeps no process from ending.
assert all(thread.daemon for thread in threading.enumerate()[1:]), threading.enumerate()
"""


def test_a_fresh_process_prints_nothing_warns_of_nothing_and_asks_no_network(tmp_path):
    environment = {**os.environ, "FASTGLT_CACHE": str(tmp_path / "cache")}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(write_arxiv(tmp_path))],
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_without_ogb_the_error_says_what_to_install(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "ogb"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ogb", None)
    with pytest.raises(InputError, match=r'pip install "fastglt\[ogb\]"'):
        load("ogbl-ddi", root=write_ddi(tmp_path))


def test_the_kept_file_is_named_after_the_dataset(tmp_path):
    entry = CATALOGUE.get("ogbl-ddi")
    first, other = (processed.cache_path(entry, {"raw/a": digest}) for digest in "12")
    assert first != other
    assert first.name.startswith("ogbl-ddi-")
    assert first == processed.cache_path(entry, {"raw/a": "1"})
