"""Two files that take turns: what is written is read, and what is damaged is not believed."""

from __future__ import annotations

import errno
import math
import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastglt.checkpoint import files
from fastglt.checkpoint.files import Record, Snapshot
from fastglt.checkpoint.places import FILES
from fastglt.checkpoint.tree import copied, flatten, unflatten
from fastglt.errors import InputError, OutputPathError

STATE = {
    "numbers": [1, 2.5, -0.0, math.inf, -math.inf, None, True],
    "pair": (1, ("a", torch.arange(3))),
    "by number": {0: {"step": torch.tensor(7.0)}, 1: {}},
    "tensors": {
        "bool": torch.tensor([True, False]),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "empty": torch.empty(0, 3),
        "byte": torch.tensor(5, dtype=torch.uint8),
    },
}


def snapshot(generation=1, **more):
    state = {"records": {"dense": Record(3, False, STATE)}, "seconds": {"dense": 1.5}}
    return Snapshot({"seed": 0}, **(state | {"elapsed": 2.0, "generation": generation} | more))


def same(one, two):
    if isinstance(one, torch.Tensor):
        return (
            isinstance(two, torch.Tensor)
            and (one.dtype, one.shape) == (two.dtype, two.shape)
            and torch.equal(one, two)
        )
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(two) and len(one) == len(two) and all(map(same, one, two))
    return type(one) is type(two) and repr(one) == repr(two)


LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=5)
)
VALUES = st.recursive(
    LEAVES | st.lists(st.floats(width=32)).map(torch.tensor),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=8,
)


def _bits(value):
    """NaN is equal to itself here."""
    if isinstance(value, torch.Tensor):
        return value.numpy().tobytes(), value.dtype, value.shape
    if isinstance(value, list | tuple):
        return type(value), [_bits(each) for each in value]
    if isinstance(value, dict):
        return [(type(key), key, _bits(each)) for key, each in value.items()]
    return type(value), repr(value)


@given(VALUES)
def test_a_value_comes_back_from_its_parts(value):
    tensors = []
    form = flatten(value, tensors)
    assert _bits(unflatten(form, tensors)) == _bits(value)
    assert _bits(copied(value)) == _bits(value)


@pytest.mark.parametrize("value", [object(), {1.5: 2}, torch.eye(2).to_sparse(), {"a": {1, 2}}])
def test_what_cannot_be_kept_is_refused(value):
    with pytest.raises(InputError, match="checkpoint"):
        flatten(value, [])


@pytest.mark.parametrize(
    "form",
    [
        {"tensor": 1},
        {"tensor": -1},
        {"tensor": True},
        {"float": "1.0"},
        {"tuple": 3},
        {"dict": [[1]]},
        {"dict": [[[], 1]]},
        {"tensor": 0, "float": "nan"},
        {"path": "/etc/passwd"},
        {},
    ],
)
def test_a_form_that_is_none_is_refused(form):
    with pytest.raises(ValueError, match=r"."):
        unflatten(form, [torch.ones(1)])


def test_what_is_written_is_read(tmp_path):
    files.write(tmp_path, 1, snapshot(generation=4, finished=True))
    found = files.read(tmp_path, 1)
    assert (found.identity, found.seconds, found.elapsed) == ({"seed": 0}, {"dense": 1.5}, 2.0)
    assert (found.finished, found.generation) == (True, 4)
    (record,) = found.records.values()
    assert (record.done, record.ended) == (3, False)
    assert same(record.state, STATE)
    assert files.read(tmp_path, 0) is None
    assert [path.name for path in tmp_path.iterdir()] == [FILES[1]]


def test_tensors_may_share_memory(tmp_path):
    whole = torch.arange(6.0)
    state = {"a": whole, "b": whole, "part": whole[2:4], "across": whole.view(2, 3).t()}
    files.write(tmp_path, 0, Snapshot({}, {"x": Record(0, False, state)}))
    assert same(files.read(tmp_path, 0).records["x"].state, state)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    files.write(folder, 0, snapshot())
    return (folder / FILES[0]).read_bytes()


@given(st.data())
def test_damage_is_noticed(written, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    place = data.draw(st.integers(0, len(written) - 1))
    change = data.draw(st.integers(1, 255))
    kind = data.draw(st.sampled_from(["flip", "cut", "longer"]))
    damaged = {
        "flip": written[:place] + bytes([written[place] ^ change]) + written[place + 1 :],
        "cut": written[:place],
        "longer": written + bytes([change]),
    }[kind]
    (folder / FILES[0]).write_bytes(damaged)
    try:
        found = files.read(folder, 0)
    except ValueError:
        return
    # Another blank at the end of the header.
    assert kind == "flip"
    assert chr(damaged[place]).isspace()
    assert same(found.records["dense"].state, STATE)


def test_a_file_that_is_none_is_refused(tmp_path):
    (tmp_path / FILES[0]).mkdir()
    with pytest.raises(ValueError, match="not a regular file"):
        files.read(tmp_path, 0)


@pytest.mark.parametrize("call", ["fsync", "open"])
def test_a_full_disk_leaves_the_file_as_it_was(call, tmp_path, monkeypatch, written):
    files.write(tmp_path, 0, snapshot())
    before = (tmp_path / FILES[0]).read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OutputPathError, match="No space left on device"):
            files.write(tmp_path, 0, snapshot(generation=2))
    assert [path.name for path in tmp_path.iterdir()] == [FILES[0]]
    assert (tmp_path / FILES[0]).read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="limits as on POSIX")
def test_a_file_that_must_not_be_so_large_leaves_the_other(tmp_path):
    import resource

    large = Snapshot({}, {"x": Record(0, False, {"t": torch.zeros(100_000)})})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OutputPathError, match="File too large; there is none before it"):
            files.write(tmp_path, 0, large)
        files.write(tmp_path, 0, snapshot())
        with pytest.raises(OutputPathError, match="File too large; the last good one"):
            files.write(tmp_path, 1, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == [FILES[0]]
    assert files.read(tmp_path, 0).generation == 1
