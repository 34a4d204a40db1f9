"""``plan.json``: what was declared before the first run."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import ValidationError

from fastglt.errors import InputError, OutputPathError
from fastglt.study.plan import PLAN, Plan


def test_round_trip(tmp_path):
    plan = Plan(margin=0.25, looks=(10, 20, 30))
    plan.save(tmp_path / "new")
    assert Plan.load(tmp_path / "new") == plan
    assert Plan.load(tmp_path / "new" / "cells.jsonl") == plan
    assert [path.name for path in (tmp_path / "new").iterdir()] == [PLAN]


def test_what_was_declared_before_counts_too(tmp_path):
    assert Plan(looks=(10,)).declared(tmp_path) == Plan(looks=(10,))
    again = Plan(looks=(10, 20, 30)).declared(tmp_path)
    assert again == Plan.load(tmp_path) == Plan(looks=(10, 20, 30))
    assert Plan(looks=(5,)).declared(tmp_path).looks == (5, 10, 20, 30)


def test_declarations_at_one_time_all_count(tmp_path, monkeypatch):
    load = Plan.load

    def slow(folder):
        found = load(folder)
        time.sleep(0.02)
        return found

    monkeypatch.setattr(Plan, "load", slow)
    looks = range(2, 10)
    with ThreadPoolExecutor(len(looks)) as pool:
        list(pool.map(lambda look: Plan(looks=(look,)).declared(tmp_path), looks))
    assert load(tmp_path).looks == tuple(looks)


def test_a_plan_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputPathError, match=r"plan.json' cannot be written"):
        Plan().declared(tmp_path / "file" / "study")


def test_a_margin_is_not_chosen_afterwards(tmp_path):
    Plan(margin=0.5).declared(tmp_path)
    with pytest.raises(InputError, match=r"margin must be 0.5, as declared in .* \(got 1\)"):
        Plan(margin=1).declared(tmp_path)
    assert Plan.load(tmp_path) == Plan(margin=0.5)


def test_no_plan(tmp_path):
    assert Plan.load(tmp_path) is None
    assert Plan.load(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"margin":-1}', "margin"),
        ('{"margin":NaN}', "cannot be read"),
        ('{"margin":1e999}', "cannot be read"),
        ('{"looks":[]}', "looks"),
        ('{"looks":[10,"many"]}', "looks"),
        ('{"looks":[20,10]}', "looks"),
        ('{"looks":[10,10]}', "looks"),
        ('{"looks":[0,10]}', "looks"),
        ("[]", "dictionary"),
        ("{", "cannot be read"),
        ("[" * 9000, "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_a_damaged_plan_is_named(text, message, tmp_path):
    (tmp_path / PLAN).write_text(text)
    with pytest.raises(InputError, match=message) as error:
        Plan.load(tmp_path)
    assert str(tmp_path / PLAN) in str(error.value)


def test_foreign_fields_are_ignored(tmp_path):
    (tmp_path / PLAN).write_text(json.dumps({"margin": 1, "author": "?"}))
    assert Plan.load(tmp_path) == Plan(margin=1)


@pytest.mark.parametrize("looks", [(), (0,), (10, 10), (20, 10)])
def test_looks_that_are_none(looks):
    with pytest.raises(ValidationError):
        Plan(looks=looks)
