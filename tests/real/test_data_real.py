"""The real datasets are the published ones, and the folder they are read from stays as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from fastglt.data import CATALOGUE, load
from fastglt.data.transforms import replay
from fastglt.data.validate import validate

pytestmark = pytest.mark.real

# Nodes, columns of edge_index, features, classes; training, validation, test nodes.
PUBLISHED = {
    "cora": ((2708, 10_556, 1433, 7), (140, 500, 1000)),
    "citeseer": ((3327, 9104, 3703, 6), (120, 500, 1000)),
    "pubmed": ((19_717, 88_648, 500, 3), (60, 500, 1000)),
    "computers": ((13_752, 491_722, 767, 10), (200, 300, 13_252)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_and_split_are_the_published_ones(name, real_dataset):
    loaded = real_dataset(name)
    data, entry = loaded.data, CATALOGUE.get(name)
    sizes, split = PUBLISHED[name]
    found = (data.num_nodes, data.num_edges, data.num_features, validate(data))
    assert found == sizes
    stated = (entry.num_nodes, entry.num_edges, entry.num_features, entry.num_classes)
    assert stated == sizes
    assert loaded.num_classes == sizes[3]
    masks = (data.train_mask, data.val_mask, data.test_mask)
    assert tuple(int(mask.sum()) for mask in masks) == split
    assert data.is_undirected()
    assert not data.has_self_loops()
    per_class = torch.bincount(data.y[data.train_mask], minlength=sizes[3])
    assert per_class.tolist() == [20] * sizes[3]


def test_public_split_is_the_first_nodes(real_dataset):
    data = real_dataset("citeseer").data
    assert data.train_mask[:120].all()
    assert data.val_mask[120:620].all()
    assert int(data.test_mask.nonzero().min()) >= 2312


def test_rows_are_normalised_and_the_record_replays(real_dataset):
    plain, normal = real_dataset("cora", transforms=()), real_dataset("cora")
    sums = normal.data.x.sum(dim=1)
    assert torch.allclose(sums, torch.ones_like(sums))
    assert plain.transforms == ()
    assert torch.equal(replay(plain.data, normal.transforms).x, normal.data.x)


def test_split_seed_decides_the_seeded_split(real_dataset):
    first, again = real_dataset("computers"), real_dataset("computers", split_seed=0)
    other = real_dataset("computers", split_seed=1)
    assert torch.equal(first.data.train_mask, again.data.train_mask)
    assert not torch.equal(first.data.train_mask, other.data.train_mask)
    assert other.transforms[0]["seed"] == 1


def test_tolokers_is_the_published_graph_with_ten_splits(real_dataset):
    loaded, other = real_dataset("tolokers"), real_dataset("tolokers", split_seed=9)
    data = loaded.data
    assert (data.num_nodes, data.num_edges, data.num_features) == (11_758, 1_038_000, 10)
    assert (validate(data), loaded.metric, loaded.title) == (2, "roc_auc", "Tolokers")
    masks = (data.train_mask, data.val_mask, data.test_mask)
    assert [round(float(mask.float().mean()), 2) for mask in masks] == [0.5, 0.25, 0.25]
    assert torch.stack(masks).sum(dim=0).eq(1).all()
    assert not torch.equal(data.train_mask, other.data.train_mask)


def test_arxiv_has_the_published_graph_labels_and_split(real_dataset):
    loaded = real_dataset("ogbn-arxiv")
    data = loaded.data
    assert (data.num_nodes, data.num_edges) == (169_343, 2_315_598)
    assert data.is_undirected()
    assert validate(data) == loaded.num_classes == 40
    masks = (data.train_mask, data.val_mask, data.test_mask)
    assert tuple(int(mask.sum()) for mask in masks) == (90_941, 29_799, 48_603)
    substitute = "" if data.num_features == 128 else " (substitute features)"
    assert loaded.title == f"ogbn-arxiv{substitute}"
    assert substitute in loaded.source


def test_ddi_has_the_published_graph_and_split(real_dataset):
    loaded = real_dataset("ogbl-ddi")
    data = loaded.data
    assert (data.num_nodes, data.num_edges, data.x) == (4267, 2_135_822, None)
    assert data.is_undirected()
    assert validate(data, loaded.task) == 0
    found = [
        data[f"{part}_edge_label_index"].size(1)
        for part in ("train_pos", "val_pos", "val_neg", "test_pos", "test_neg")
    ]
    assert found == [1_067_911, 133_489, 101_882, 133_489, 95_599]


def _snapshot(root: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(root)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in root.rglob("*")
    }


def test_the_root_is_left_untouched():
    value = os.environ.get("FASTGLT_DATA")
    if not value:
        pytest.skip("needs FASTGLT_DATA")
    before = _snapshot(Path(value))
    for name in (*PUBLISHED, "tolokers", "ogbn-arxiv", "ogbl-ddi"):
        assert load(name, root=value).source.startswith(f"root {value}")
    assert _snapshot(Path(value)) == before
