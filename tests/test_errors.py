from __future__ import annotations

import inspect
import pickle

import pytest

from fastglt import errors
from fastglt.errors import FastGLTError, InputError, UnknownNameError


def _exceptions():
    return [
        item
        for _, item in inspect.getmembers(errors, inspect.isclass)
        if issubclass(item, Exception)
    ]


@pytest.mark.parametrize("kind", _exceptions(), ids=lambda kind: kind.__name__)
def test_every_exception_is_ours_and_documented(kind):
    assert issubclass(kind, FastGLTError)
    assert kind.__doc__


def test_bad_input_is_a_value_error_and_the_rest_is_not():
    inputs = {kind.__name__ for kind in _exceptions() if issubclass(kind, InputError)}
    assert {"BudgetError", "GraphError", "ModelError", "UnknownNameError"} <= inputs
    assert issubclass(InputError, ValueError)
    for name in ("NonFiniteLossError", "DatasetNotFoundError", "FastGLTError"):
        assert not issubclass(getattr(errors, name), ValueError)


def test_an_unknown_name_lists_what_there_is_and_suggests_the_nearest():
    error = UnknownNameError("method", "Fast-GLT", ["random", "fastglt", "one-shot"])
    message = str(error)
    assert message == (
        "unknown method 'Fast-GLT'; did you mean 'fastglt'? (available: fastglt, one-shot, random)"
    )
    assert error.available == ("fastglt", "one-shot", "random")


def test_a_far_off_name_is_given_no_hint():
    assert "did you mean" not in str(UnknownNameError("model", "zzz", ["gcn"]))


def test_a_name_with_no_alternatives_still_gives_an_error():
    assert "unknown model 'x'" in str(UnknownNameError("model", "x", []))


def test_errors_can_be_sent_to_another_process():
    error = pickle.loads(pickle.dumps(UnknownNameError("method", "a", ["b"])))
    assert str(error) == str(UnknownNameError("method", "a", ["b"]))


def test_what_a_message_shows_of_a_file_is_cut_short():
    assert errors.shown("short") == "'short'"
    assert len(errors.shown("x" * 10**6)) == errors.MOST_SHOWN + 1
    assert errors.cut("abc", 2) == "ab…"
    error = UnknownNameError("array", "x" * 10**6, ["edge_index"])
    assert len(str(error)) < 300
    assert len(error.name) == 10**6
