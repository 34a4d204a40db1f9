"""The user's own graph: every documented array is understood, every mistake named, nothing run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

from fastglt.data import csbm, load_npz, random_link_split, save_npz
from fastglt.errors import GraphError, InputError, OutputPathError, UnknownNameError

N = 30
MASKS = ("train_mask", "val_mask", "test_mask")


def arrays(**changes):
    """The arrays of a ring of labelled nodes; None takes one out."""
    nodes = np.arange(N)
    given = {
        "edge_index": np.stack([nodes, (nodes + 1) % N]),
        "x": np.random.default_rng(0).random((N, 4)),
        "y": nodes % 3,
    }
    return {key: value for key, value in {**given, **changes}.items() if value is not None}


def written(tmp_path, **changes):
    path = tmp_path / "graph.npz"
    np.savez(path, **arrays(**changes))
    return path


def parts_of(matrix, prefix, names=("data", "indices", "indptr", "shape")):
    return {f"{prefix}_{name}": np.asarray(getattr(matrix, name)) for name in names}


def test_a_plain_graph_gets_a_recorded_split(tmp_path):
    path = written(tmp_path)
    loaded = load_npz(path, split_seed=5)
    data = loaded.data
    assert (loaded.name, loaded.title, loaded.source) == ("graph", "graph", f"file {path}")
    assert (loaded.task, loaded.metric) == ("node-classification", "accuracy")
    assert loaded.num_classes == 3
    assert loaded.transforms == ({"name": "RandomSplit", "train": 0.6, "val": 0.2, "seed": 5},)
    assert [int(data[key].sum()) for key in MASKS] == [18, 6, 6]
    assert data.x.dtype == torch.float32
    assert data.edge_index.tolist() == arrays()["edge_index"].tolist()
    again = load_npz(path, transforms=loaded.transforms)
    assert torch.equal(again.data.train_mask, data.train_mask)
    assert not torch.equal(load_npz(path, split_seed=6).data.train_mask, data.train_mask)
    counts = load_npz(path, split={"train_per_class": 2, "val_per_class": 3})
    assert int(counts.data.train_mask.sum()) == 6


def test_unlabelled_nodes_are_put_in_no_mask(tmp_path):
    y = np.arange(N) % 3
    y[:10] = -1
    data = load_npz(written(tmp_path, y=y)).data
    assert not torch.stack([data[key][:10] for key in MASKS]).any()


@pytest.mark.parametrize("names", [("x", "y"), ("attr", "labels")])
@pytest.mark.parametrize("weighted", [False, True])
def test_sparse_parts_mean_what_the_dense_arrays_mean(names, weighted, tmp_path):
    prefix, label = names
    rng = np.random.default_rng(1)
    x = scipy.sparse.random_array((N, 6), density=0.3, rng=rng, format="csr")
    adjacency = scipy.sparse.random_array((N, N), density=0.1, rng=rng, format="csr")
    if not weighted:
        adjacency.data[:] = 1
    path = tmp_path / "sparse.npz"
    np.savez(
        path,
        **parts_of(adjacency, "adj"),
        **parts_of(x, prefix),
        **{label: np.arange(N) % 3},
        node_names=np.asarray(["an object", None], dtype=object),
    )
    data = load_npz(path).data
    assert np.allclose(data.x.numpy(), x.toarray())
    rows, columns = adjacency.nonzero()
    assert data.edge_index.tolist() == [rows.tolist(), columns.tolist()]
    assert ("edge_weight" in data) == weighted
    if weighted:
        assert np.allclose(data.edge_weight.numpy(), adjacency.data)


def test_several_labels_are_a_task_of_their_own(tmp_path):
    y = np.random.default_rng(0).integers(0, 2, (N, 5)).astype(float)
    y[4, 1] = np.nan
    loaded = load_npz(written(tmp_path, y=y))
    assert (loaded.task, loaded.metric) == ("multilabel-node-classification", "roc_auc")
    assert loaded.num_classes == 5


def test_label_edges_make_it_link_prediction_without_features(tmp_path):
    data = random_link_split(csbm(N, average_degree=6), val=0.1, test=0.1)
    del data.x
    save_npz(data, tmp_path / "links.npz")
    loaded = load_npz(tmp_path / "links.npz")
    assert (loaded.task, loaded.num_classes) == ("link-prediction", 0)
    assert loaded.data.x is None
    assert loaded.data.num_nodes == N


def test_links_that_are_repeated_are_so_in_the_file_too(tmp_path):
    data = random_link_split(csbm(N, average_degree=6), val=0.1, test=0.1)
    data.train_pos_edge_label_index = torch.cat(
        [data.train_pos_edge_label_index, data.val_pos_edge_label_index], dim=1
    )
    save_npz(data, tmp_path / "leaky.npz")
    with pytest.raises(GraphError, match=r"set data\.repeated_links = True"):
        load_npz(tmp_path / "leaky.npz")
    data.repeated_links = True
    save_npz(data, tmp_path / "repeated.npz")
    assert load_npz(tmp_path / "repeated.npz").data.repeated_links is True


@st.composite
def graphs(draw):
    data = csbm(N, average_degree=4, num_features=3, seed=draw(st.integers(0, 50)))
    if draw(st.booleans()):
        data.edge_weight = torch.rand(data.num_edges)
    if draw(st.booleans()):
        data.edge_attr = torch.rand(data.num_edges, 2)
    if draw(st.booleans()):
        data.y = (torch.rand(N, 4) > 0.5).float()
    if draw(st.booleans()):
        data.num_nodes = N
    return data


@settings(deadline=None, max_examples=20)
@given(data=graphs())
def test_what_is_saved_is_what_is_loaded(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("npz") / "graph.npz"
    save_npz(data, path)
    loaded = load_npz(path)
    assert loaded.transforms == ()
    for key, value in data.to_dict().items():
        other = loaded.data[key]
        assert torch.equal(other, value) if isinstance(value, torch.Tensor) else other == value
        if isinstance(value, torch.Tensor):
            assert other.dtype == value.dtype


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_sparse_features_and_a_sparse_adjacency_are_saved_too(tmp_path):
    data = csbm(N, average_degree=4)
    sparse = data.clone()
    sparse.x = data.x.to_sparse_csr()
    sources, targets = data.edge_index
    adj_t = torch.zeros(N, N).index_put((targets, sources), torch.tensor(1.0))
    sparse.adj_t = adj_t.to_sparse_csr()
    del sparse.edge_index
    save_npz(sparse, tmp_path / "graph.npz")
    loaded = load_npz(tmp_path / "graph.npz").data
    assert torch.equal(loaded.x, data.x)
    order = (targets * N + sources).argsort()
    assert torch.equal(loaded.edge_index, data.edge_index[:, order])


def test_what_has_no_place_in_the_file_is_refused_not_dropped(tmp_path):
    data = csbm(N, average_degree=4)
    data.year = torch.ones(N)
    with pytest.raises(GraphError, match=r"data\.year has no place in the file .*; delete it"):
        save_npz(data, tmp_path / "graph.npz")
    with pytest.raises(InputError, match=r"must end in \.npz"):
        save_npz(data, tmp_path / "graph.zip")
    del data.year
    with pytest.raises(OutputPathError):
        save_npz(data, tmp_path / "missing" / "graph.npz")
    assert list(tmp_path.iterdir()) == []


def replaced(key, index, value):
    array = arrays()[key].copy()
    array[index] = value
    return {key: array}


CSR = parts_of(scipy.sparse.eye_array(N, format="csr"), "adj")
MASK = np.zeros(N, dtype=bool)

MISTAKES = [
    ({"edge_index": None}, "edge_index is missing from the file; or give adj_indptr"),
    ({"edge_index": np.zeros((2, 3))}, r"edge_index must hold integers \(got float64\)"),
    ({"edge_index": np.zeros((3, 2), int)}, r"edge_index must have shape \[2, num_edges\]"),
    (replaced("edge_index", (1, 5), 30), r"got 30 at row 1, column 5"),
    (replaced("edge_index", (0, 2), -1), r"got -1 at row 0, column 2"),
    (replaced("x", (3, 2), np.nan), "x must be finite .got nan at row 3, column 2"),
    (replaced("x", (3, 1), 1e300), "x must be finite .got inf at row 3, column 1"),
    ({"x": np.asarray([["a"] * 4] * N)}, r"x must hold numbers \(got <U1\)"),
    ({"x": None}, "num_nodes is missing from the file"),
    ({"num_nodes": 31}, r"must have num_nodes = 31 rows \(got 30\)"),
    ({"num_nodes": np.arange(2)}, r"num_nodes must be one integer \(got shape \[2\]\)"),
    ({"y": None}, r"must say what is to be predicted: .* \(got neither\)"),
    ({"y": np.arange(N - 1)}, r"data.y must have shape \[30\] \(got \[29\]\)"),
    ({"y": np.linspace(0, 1, N)}, r"y must hold integers \(got float64\)"),
    ({"y": np.full((N, 2), 0.5)}, r"0, 1 or NaN for unlabelled \(got 0.5 at node 0, label 0\)"),
    ({"labels": np.arange(N)}, "only one of y and labels must be in the file"),
    ({"train_mask": MASK}, r"all three masks or none \(got train_mask\)"),
    (dict.fromkeys(MASKS, MASK), r"train_mask must hold at least one node"),
    (dict.fromkeys(MASKS, np.arange(N)), r"train_mask must hold booleans \(got 2 at row 2\)"),
    ({"edge_weight": np.ones(29)}, r"edge_weight must have shape \[30\] \(got \[29\]\)"),
    ({"edge_attr": np.ones(30)}, r"edge_attr must have shape \[30, num_edge_features\]"),
    (CSR, "only one of edge_index and adj_indptr"),
    ({**CSR, "edge_index": None, "adj_shape": [9, 9]}, r"adj_shape must be \[30, 30\]"),
    (
        {**CSR, "edge_index": None, "adj_indptr": np.arange(N)},
        r"adj_indptr must have shape \[31\] \(got \[30\]\)",
    ),
    (
        {**CSR, "edge_index": None, "adj_indptr": np.r_[0, 5, 3, np.arange(3, N + 1)]},
        r"adj_indptr must not fall \(got 5 and then 3 at row 1\)",
    ),
    (
        {**CSR, "edge_index": None, "adj_indices": np.r_[np.arange(N - 1), 99]},
        r"adj_indices must be in \[0, 29\] \(got 99 at row 29, entry 29\)",
    ),
    (
        {**CSR, "edge_index": None, "adj_indices": np.arange(3)},
        r"must go from 0 to the length of adj_indices, 3 \(got 0 to 30\)",
    ),
    (
        {**CSR, "edge_index": None, "adj_data": np.ones(5)},
        r"adj_data must have shape \[30\] \(got \[5\]\)",
    ),
    ({"repeated_links": np.ones(1)}, r"must be one boolean \(got float64 of shape \[1\]\)"),
    ({"val_pos_edge_label_index": np.zeros((2, 3), int)}, "train_pos_edge_label_index is missing"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES)
def test_every_mistake_is_named(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        load_npz(written(tmp_path, **changes))


def test_an_unknown_array_may_be_a_misspelling(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'edge_weight'"):
        load_npz(written(tmp_path, edge_weights=np.ones(N)))


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("inside", [True, False])
def test_pickled_objects_are_never_loaded(inside, tmp_path):
    marker = tmp_path / "executed"
    content = np.asarray([Malicious(marker)], dtype=object)
    if inside:
        path = written(tmp_path, x=content)
    else:
        path = tmp_path / "graph.npz"
        path.write_bytes(content.dumps())
    message = "pickled objects, which are never loaded" if inside else r"must be a \.npz archive"
    with pytest.raises(InputError, match=message):
        load_npz(path)
    assert not marker.exists()


def test_files_that_are_no_archives_are_refused(tmp_path):
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"must be a whole \.npz archive"):
        load_npz(path)
    with path.open("wb") as file:
        np.save(file, np.arange(3))
    with pytest.raises(InputError, match=r"must be a \.npz archive, as numpy"):
        load_npz(path)
    path.write_text("0 1\n1 2\n")
    with pytest.raises(InputError, match=r"must be a \.npz archive, as numpy"):
        load_npz(path)
    np.savez(path)
    with pytest.raises(InputError, match=r"must be a \.npz archive of named arrays"):
        load_npz(path)
    with pytest.raises(InputError, match="must be a readable"):
        load_npz(tmp_path / "missing.npz")
    with pytest.raises(InputError, match="must be a readable"):
        load_npz(tmp_path)


def test_a_wrong_edge_is_named_before_a_split_is_drawn(tmp_path):
    path = written(tmp_path, edge_index=np.asarray([[0, 1], [1, 10**6]]))
    with pytest.raises(GraphError, match=r"edge_index.*1000000"):
        load_npz(path, split={"train_per_class": 10**6, "val_per_class": 1})


def test_a_file_of_label_edges_takes_no_split(tmp_path):
    data = random_link_split(csbm(N, average_degree=6), val=0.1, test=0.1)
    save_npz(data, tmp_path / "links.npz")
    with pytest.raises(InputError, match="split is for nodes"):
        load_npz(tmp_path / "links.npz", split={"train": 0.5, "val": 0.2})


def test_a_graph_of_the_user_needs_no_masks_to_be_saved(tmp_path):
    nodes = torch.arange(N)
    data = Data(x=torch.ones(N, 2), y=nodes % 2, edge_index=torch.stack([nodes, nodes.flip(0)]))
    save_npz(data, tmp_path / "graph.npz")
    assert load_npz(tmp_path / "graph.npz").num_classes == 2
