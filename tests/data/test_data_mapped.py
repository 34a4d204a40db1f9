"""Graphs in folders of arrays: mapped, not copied; every lie of a file is named, nothing is run."""

from __future__ import annotations

import os
import stat
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastglt.data import csbm, load_mapped, load_npz, random_link_split, save_mapped, save_npz
from fastglt.data._npy_file import map_array, write_array
from fastglt.errors import FastGLTError, GraphError, InputError, OutputPathError, UnknownNameError
from peak_memory import LINUX, peak_bytes

N = 30
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs links and pipes")


def arrays(**changes):
    """The arrays of a ring of labelled nodes; None takes one out."""
    nodes = np.arange(N)
    given = {
        "edge_index": np.stack([nodes, (nodes + 1) % N]),
        "x": np.random.default_rng(0).random((N, 4), dtype=np.float32),
        "y": nodes % 3,
    }
    return {key: value for key, value in {**given, **changes}.items() if value is not None}


def folder(tmp_path, **changes):
    result = tmp_path / "graph"
    result.mkdir()
    for key, array in arrays(**changes).items():
        np.save(result / f"{key}.npy", array)
    return result


def header(text):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin1")


def says(dtype="<f4", fortran="False", shape="(2,)"):
    return header(f"{{'descr': '{dtype}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n")


def is_mapped(tensor, file):
    """Whether a tensor lies where this process has mapped a file."""
    address = tensor.data_ptr()
    with open("/proc/self/maps") as lines:  # noqa: PTH123
        for line in lines:
            low, high = (int(part, 16) for part in line.split()[0].split("-"))
            if low <= address < high:
                return line.rstrip().endswith(str(file))
    return False


def with_links():
    data = random_link_split(csbm(N, average_degree=6), val=0.1, test=0.1)
    data.repeated_links = True
    return data


def with_attributes():
    data = csbm(N, average_degree=4, num_features=3)
    data.edge_weight, data.edge_attr = torch.rand(data.num_edges), torch.rand(data.num_edges, 2)
    data.y = (torch.rand(N, 4) > 0.5).float()
    return data


@pytest.mark.parametrize("make", [with_links, with_attributes, lambda: csbm(N, average_degree=4)])
def test_what_is_saved_is_what_is_mapped_and_what_an_npz_file_would_give(make, tmp_path):
    data = make()
    save_mapped(data, tmp_path / "mine")
    save_npz(data, tmp_path / "mine.npz")
    mapped, read = load_mapped(tmp_path / "mine"), load_npz(tmp_path / "mine.npz")
    assert mapped.data.keys() == read.data.keys()
    for key, value in read.data.to_dict().items():
        found = mapped.data[key]
        assert torch.equal(found, value) if isinstance(value, torch.Tensor) else found == value
    names = ("name", "title", "task", "metric", "num_classes", "transforms")
    assert [getattr(mapped, name) for name in names] == [getattr(read, name) for name in names]
    assert mapped.source == f"folder {tmp_path / 'mine'}"


def test_a_graph_without_masks_gets_a_recorded_split(tmp_path):
    path = folder(tmp_path)
    loaded = load_mapped(path, split_seed=5)
    assert loaded.transforms == ({"name": "RandomSplit", "train": 0.6, "val": 0.2, "seed": 5},)
    again = load_mapped(path, transforms=loaded.transforms)
    assert torch.equal(again.data.train_mask, loaded.data.train_mask)


@LINUX
def test_tensors_are_views_of_the_files_and_writing_does_not_reach_these(tmp_path):
    path = folder(tmp_path)
    data = load_mapped(path).data
    for key in ("x", "edge_index", "y"):
        assert is_mapped(data[key], (path / f"{key}.npy").resolve())
    before = np.load(path / "x.npy")
    data.x += 1
    assert np.array_equal(np.load(path / "x.npy"), before)


@LINUX
def test_writing_mapped_arrays_again_takes_no_memory_of_their_size(tmp_path):
    before = f"""
from fastglt.data import csbm, load_mapped, save_mapped
data = csbm(1000, average_degree=4)
data.x = torch.zeros(1000, 1).expand(1000, 12_000)
save_mapped(data, {str(tmp_path / "mine")!r})
mapped = load_mapped({str(tmp_path / "mine")!r}).data
del data
"""
    # The 48 MB of features may be resident as pages of the file, which are not counted here.
    measured = f"""
save_mapped(mapped, {str(tmp_path / "again")!r})
"""
    assert peak_bytes(before, measured) < 32_000_000


def test_other_types_are_converted_only_if_asked(tmp_path):
    narrow = arrays()["edge_index"].astype(np.int32)
    path = folder(tmp_path, edge_index=narrow, x=np.ones((N, 2), dtype=np.float16))
    with pytest.raises(GraphError, match=r"x\.npy must be float32 to be mapped \(got float16\)"):
        load_mapped(path)
    data = load_mapped(path, convert=True).data
    assert data.edge_index.dtype == torch.int64
    assert data.edge_index.tolist() == narrow.tolist()
    assert data.x.dtype == torch.float32


def test_int32_edges_are_refused(tmp_path):
    path = folder(tmp_path, edge_index=arrays()["edge_index"].astype(np.int32))
    with pytest.raises(GraphError, match=r"edge_index\.npy must be int64 .*convert=True"):
        load_mapped(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edge_index": None}, "edge_index is missing"),
        ({"edge_index": np.full((2, 3), N)}, r"must be in \[0, 29\].*got 30 at row 0, column 0"),
        ({"edge_index": np.zeros((3, 4), dtype=int)}, r"must have shape \[2, num_edges\]"),
        ({"x": np.full((N, 2), np.nan, dtype=np.float32)}, "must be finite .*row 0, column 0"),
        ({"y": None}, "must say what is to be predicted"),
        ({"y": np.zeros(N - 1, dtype=int)}, r"data\.y must have shape \[30\]"),
        ({"train_mask": np.ones(N, dtype=bool)}, "all three masks or none"),
        ({"train_mask": np.ones(N, dtype=np.int8)}, "train_mask.npy must be bool to be mapped"),
        ({"edge_weight": np.full(N, np.inf, dtype=np.float32)}, "edge_weight must be finite"),
        ({"x": np.zeros((N, 3), dtype=np.float32, order="F")}, "must be stored row by row"),
        ({"x": np.zeros((N, 3), dtype=complex)}, r"x\.npy must be an array of numbers"),
        ({"x": np.zeros((N, 3), dtype="<U4")}, r"x\.npy must be an array of numbers"),
    ],
)
def test_every_mistake_is_named(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        load_mapped(folder(tmp_path, **changes))


def test_bytes_of_a_mask_that_are_neither_false_nor_true_are_named(tmp_path):
    path = folder(tmp_path, val_mask=np.zeros(N, bool), test_mask=np.zeros(N, bool))
    numbers = np.ones(N, dtype=np.uint8)
    numbers[4] = 7
    (path / "train_mask.npy").write_bytes(says("|b1", shape=f"({N},)") + numbers.tobytes())
    with pytest.raises(GraphError, match=r"train_mask must hold booleans \(got 7 at row 4\)"):
        load_mapped(path)


def test_an_unknown_array_may_be_a_misspelling_but_other_files_are_left_alone(tmp_path):
    path = folder(tmp_path)
    (path / "README.txt").write_text("about")
    load_mapped(path)
    np.save(path / "edge_wieght.npy", np.ones(3))
    with pytest.raises(UnknownNameError, match="did you mean 'edge_weight'"):
        load_mapped(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "format 1.0"),
        (b"\x93NUMPY\x02\x00" + bytes(200), "format 1.0"),
        (b"PK\x03\x04" + bytes(200), "format 1.0"),
        (says() + bytes(7), r"must have \d+ bytes for float32 of shape \[2\]"),
        (says() + bytes(9), r"must have \d+ bytes"),
        (says(shape="(99999999999999999999,)") + bytes(8), "must have 4000000000000000000"),
        (says(shape="(-2,)") + bytes(8), "another header"),
        (says(shape="(2, ) + ((),") + bytes(8), "another header"),
        (says("|O") + bytes(16), "pickled objects, which are never loaded"),
        (says("|O8") + bytes(16), "pickled objects, which are never loaded"),
        (says("<f7") + bytes(14), "array of numbers"),
        (says("<M8") + bytes(16), "array of numbers"),
        (header("__import__('os').abort()") + bytes(8), "another header"),
        (header("[" * 60_000), "another header"),
    ],
)
def test_a_file_that_lies_is_refused_before_anything_is_allocated(content, message, tmp_path):
    path = folder(tmp_path)
    (path / "x.npy").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_mapped(path)


def test_pickled_objects_are_never_loaded(tmp_path):
    path = folder(tmp_path)
    np.save(path / "y.npy", np.asarray([{"a": 1}, None], dtype=object))
    with pytest.raises(InputError, match=r"another header|pickled objects"):
        load_mapped(path)


@POSIX
def test_links_out_of_the_folder_and_pipes_are_not_followed(tmp_path):
    path = folder(tmp_path)
    secret = tmp_path / "secret.npy"
    (path / "y.npy").rename(secret)
    (path / "y.npy").symlink_to(secret)
    with pytest.raises(InputError, match=r"y\.npy must be a file itself \(got a link\)"):
        load_mapped(path)
    (path / "y.npy").unlink()
    os.mkfifo(path / "y.npy")
    with pytest.raises(InputError, match="must be a regular file"):
        load_mapped(path)


def test_what_is_no_such_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="must be a folder of"):
        load_mapped(tmp_path)
    with pytest.raises(InputError, match="must be a readable folder"):
        load_mapped(tmp_path / "nowhere")


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_a_damaged_file_gives_a_clear_error_or_an_array_of_its_size(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    write_array(path, np.arange(6).reshape(2, 3), np.dtype(np.int64))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))]
    path.write_bytes(content)
    try:
        found = map_array(path)
    except FastGLTError:
        return
    assert found.nbytes <= len(content)
    assert found.dtype.kind in "biuf"


@given(
    dtype=st.sampled_from(["<i8", "<f4", "|b1"]),
    shape=st.lists(st.integers(0, 4), max_size=3),
)
@settings(deadline=None)
def test_every_array_that_is_written_is_mapped_and_read_by_numpy(dtype, shape, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "array.npy"
    array = np.random.default_rng(0).integers(0, 2, shape)
    array = np.asarray(array.T if len(shape) > 1 else array)
    write_array(path, array, np.dtype(dtype))
    for found in (map_array(path), np.load(path, allow_pickle=False)):
        assert found.dtype == dtype
        assert found.shape == array.shape
        assert np.array_equal(found, array.astype(dtype))


def test_the_folder_appears_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    data = csbm(N, average_degree=4)
    data.note = "a word"
    with pytest.raises(GraphError, match=r"data\.note has no place"):
        save_mapped(data, tmp_path / "mine")
    del data["note"]

    def full(path, array, dtype):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastglt.data.mapped.write_array", full)
    with pytest.raises(OutputPathError, match="No space left"):
        save_mapped(data, tmp_path / "mine")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    path = folder(tmp_path)
    with pytest.raises(OutputPathError, match="it exists; give the name of a new folder"):
        save_mapped(csbm(N, average_degree=4), path)
    assert sorted(file.stem for file in path.iterdir()) == ["edge_index", "x", "y"]
    (tmp_path / "empty").mkdir()
    save_mapped(csbm(N, average_degree=4), tmp_path / "empty")
    load_mapped(tmp_path / "empty")
    if os.name == "posix":
        mode = stat.S_IMODE((tmp_path / "empty" / "x.npy").stat().st_mode)
        (tmp_path / "other").touch()
        assert mode == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_sparse_features_are_refused(tmp_path):
    data = csbm(N, average_degree=4)
    data.x = data.x.to_sparse_csr()
    with pytest.raises(GraphError, match=r"data\.x must be dense to be mapped"):
        save_mapped(data, tmp_path / "mine")
