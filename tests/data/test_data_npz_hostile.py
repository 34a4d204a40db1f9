"""Archives that lie, overflow or unpack to more than there is: a clear error, and at once."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from fastglt import _memory
from fastglt import data as datasets
from fastglt.errors import GraphError, InputError

GIB = 2**30


def _member(description, shape, content=b"", extra="", version=(1, 0)):
    text = f"{{'descr': {description}, 'fortran_order': False, 'shape': {shape}, {extra}}}".encode()
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + content


def _file_of(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def _array(values, kind="<i8"):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.array(values, dtype=kind))
    return file.getvalue()


EDGES = _array([[0, 1], [1, 0]])
HOSTILE = {
    "a shape that is not there": (_member("'<f4'", "(2**40,)"), "whole .npz archive"),
    "more than the file holds": (_member("'<f4'", "(1099511627776,)"), "declares 1099511627776"),
    "a shape that overflows": (_member("'<f4'", "(4294967296, 4294967296)"), "declares"),
    "nothing, at length": (_member("'<f4'", "(0, 99999999999999999999)"), "too large"),
    "a shape below nothing": (_member("'<f4'", "(-8, -8)", bytes(256)), "has the shape"),
    "a size that is no number": (_member("'<f4'", "(True, 2.5)", bytes(4)), "whole .npz archive"),
    "many dimensions": (_member("'<f4'", f"({'1, ' * 64})", bytes(4)), "has the shape"),
    "items of a gigabyte": (_member("'|S1000000000'", "(2,)"), "declares 2 numbers"),
    "keys that are no text": (_member("'<f4'", "(1,)", bytes(4), "3: 1"), "whole .npz archive"),
    "brackets that stay open": (_member("'<f4'", "(" * 40), "whole .npz archive"),
    "deep brackets": (_member("'<f4'", "(" * 300 + ")" * 300), "whole .npz archive"),
    "a call": (_member("'<f4'", "__import__('os').getpid()"), "whole .npz archive"),
    "a version of the future": (_member("'<f4'", "(1,)", bytes(4), version=(9, 9)), "version"),
    "objects in a field": (_member("[('a', '|O')]", "(1,)", bytes(8)), "pickled objects"),
    "no array": (b"\x80\x04.", "whole .npz archive"),
    "an empty member": (b"", "whole .npz archive"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_an_array_is_refused_by_its_header_before_it_is_allocated(case, tmp_path):
    member, message = HOSTILE[case]
    path = _file_of(tmp_path / "g.npz", {"edge_index.npy": EDGES, "x.npy": member})
    load = datasets.load_npz  # imports much, the first time
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=message) as raised:
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_pack_without_bound_are_refused(method, tmp_path):
    path = _file_of(tmp_path / "g.npz", {"edge_index.npy": EDGES}, method)
    with pytest.raises(InputError, match=f"packed by method {method}"):
        datasets.load_npz(path)


def _patched(path, mark, offset, value):
    content = bytearray(path.read_bytes())
    start = content.index(mark) + offset
    content[start : start + len(value)] = value
    path.write_bytes(content)
    return path


def test_a_directory_that_lies_is_refused(tmp_path):
    path = _file_of(tmp_path / "g.npz", {"edge_index.npy": EDGES})
    encrypted = _patched(path, b"PK\x01\x02", 8, b"\x01\x00")
    with pytest.raises(InputError, match="is encrypted"):
        datasets.load_npz(encrypted)
    path = _file_of(tmp_path / "h.npz", {"edge_index.npy": EDGES})
    larger = _patched(path, b"PK\x01\x02", 24, struct.pack("<I", 2**32 - 2))
    with pytest.raises(InputError, match="more than its size can hold"):
        datasets.load_npz(larger)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_there_twice_or_is_no_array_is_refused(tmp_path):
    path = _file_of(tmp_path / "g.npz", {"edge_index.npy": EDGES})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("edge_index.npy", EDGES)
    with pytest.raises(InputError, match="'edge_index' twice"):
        datasets.load_npz(path)
    path = _file_of(tmp_path / "h.npz", {"edge_index.npy": EDGES, "../../x": b"1"})
    with pytest.raises(InputError, match="is no array"):
        datasets.load_npz(path)


def test_an_archive_that_unpacks_to_more_than_the_free_memory_is_not_unpacked(
    tmp_path, monkeypatch
):
    size = 2**24
    member = _member("'|u1'", f"({size // 8}, 8)", bytes(size))
    path = _file_of(tmp_path / "g.npz", {"edge_index.npy": EDGES, "x.npy": member})
    assert path.stat().st_size < size / 500
    monkeypatch.setattr(_memory, "available_bytes", lambda: size)
    with pytest.raises(InputError, match="GiB available"):
        datasets.load_npz(path)


@pytest.mark.parametrize(
    ("members", "what"),
    [
        ({"num_nodes.npy": _array(2**62)}, "a graph of 4611686018427387904 nodes"),
        (
            {
                "x_indptr.npy": _array([0, 1, 1]),
                "x_indices.npy": _array([0]),
                "x_data.npy": _array([1.0], "<f4"),
                "x_shape.npy": _array([2, 2**60]),
            },
            "the dense form of x",
        ),
    ],
)
def test_a_small_file_cannot_ask_for_a_huge_graph(members, what, tmp_path, monkeypatch):
    monkeypatch.setattr(_memory, "available_bytes", lambda: 64 * GIB)
    path = _file_of(
        tmp_path / "g.npz", {"edge_index.npy": EDGES, "y.npy": _array([0, 1])} | members
    )
    with pytest.raises(InputError, match=f"{what} needs about .* GiB"):
        datasets.load_npz(path)


def test_graph_errors_are_not_hidden(tmp_path):
    path = _file_of(tmp_path / "g.npz", {"edge_index.npy": EDGES, "num_nodes.npy": _array([1, 2])})
    with pytest.raises(GraphError, match="num_nodes must be one integer"):
        datasets.load_npz(path)


@pytest.mark.parametrize("shape", [[[2, 3], [4, 5]], 2, [2, 0], [1, 2, 3], [2, -1]])
def test_a_shape_is_two_numbers(shape, tmp_path):
    sparse = {
        "x_indptr.npy": _array([0, 1, 1]),
        "x_indices.npy": _array([0]),
        "x_data.npy": _array([1.0], "<f4"),
        "x_shape.npy": _array(shape),
    }
    path = _file_of(tmp_path / "g.npz", {"edge_index.npy": EDGES, **sparse})
    with pytest.raises(GraphError, match="x_shape must be"):
        datasets.load_npz(path)
