"""``cells.jsonl``: whole lines only, whoever writes, and nothing read that is no cell."""

from __future__ import annotations

import json
import multiprocessing

import made_up
import pytest

from fastglt.errors import InputError, OutputPathError
from fastglt.settings import NEUTRAL, Settings
from fastglt.study.cells import (
    CELLS,
    all_settings,
    append_cell,
    cells_file,
    hash_of,
    read_cells,
    spec_settings,
)

WRITERS, LINES = 4, 50


def line_of(cell):
    return json.dumps(cell.model_dump(mode="json", by_alias=True))


@pytest.fixture
def stored(tmp_path):
    """A study with two cells; returns its file."""
    for seed in range(2):
        append_cell(tmp_path, made_up.cell(seed=seed))
    return tmp_path / CELLS


def test_round_trip(tmp_path):
    cells = [made_up.cell(seed=seed, ticket=0.1 + seed / 3) for seed in range(3)]
    cells.append(
        made_up.cell(seed=9, stage="search", dense=None, ticket=None, title="Ünïcode\n\u2028")
    )
    for cell in cells:
        append_cell(tmp_path / "new" / "study", cell)
    assert read_cells(tmp_path / "new" / "study") == cells
    assert read_cells(tmp_path / "new" / "study" / CELLS) == cells


def test_no_file_is_no_cells_and_a_jsonl_file_is_a_study(tmp_path):
    assert read_cells(tmp_path) == []
    assert cells_file(tmp_path / "a.jsonl") == tmp_path / "a.jsonl"
    append_cell(tmp_path / "a.jsonl", made_up.cell())
    assert read_cells(tmp_path / "a.jsonl") == [made_up.cell()]


def test_search_costs_leave_out_the_retraining():
    cell = made_up.cell(seconds=2.5)
    assert (cell.search_seconds, cell.search_epochs) == (3.5, 15.0)


def _write(folder, writer):
    for number in range(LINES):
        note = f"{writer} {number} " + "x" * (37 * number)
        append_cell(folder, made_up.cell(seed=writer * LINES + number, notes=[note]))


def test_lines_of_several_processes_are_never_lost_or_mixed(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fastglt.api"])
    writers = [context.Process(target=_write, args=(tmp_path, each)) for each in range(WRITERS)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    assert [process.exitcode for process in writers] == [0] * WRITERS
    cells = read_cells(tmp_path)
    assert sorted(cell.seed for cell in cells) == list(range(WRITERS * LINES))
    for cell in cells:
        writer, number = divmod(cell.seed, LINES)
        assert cell.notes == [f"{writer} {number} " + "x" * (37 * number)]


@pytest.mark.parametrize("length", [1, 200, 70_000, 200_000])
def test_a_torn_last_line_is_not_read_and_is_removed_when_the_next_is_appended(stored, length):
    whole = stored.read_bytes()
    torn = line_of(made_up.cell(notes=["y" * length])).encode()[:length]
    stored.write_bytes(whole + torn)
    assert [cell.seed for cell in read_cells(stored)] == [0, 1]
    append_cell(stored, made_up.cell(seed=2))
    assert [cell.seed for cell in read_cells(stored)] == [0, 1, 2]
    assert stored.read_bytes().startswith(whole)
    assert stored.read_bytes().count(b"\n") == 3


def test_a_file_with_nothing_but_a_torn_line(tmp_path):
    (tmp_path / CELLS).write_bytes(b'{"schema":1,')
    assert read_cells(tmp_path) == []
    append_cell(tmp_path, made_up.cell())
    assert read_cells(tmp_path) == [made_up.cell()]


GOOD = line_of(made_up.cell())
DAMAGED = {
    "cut": (GOOD[:100], "not a cell"),
    "no object": ("[1, 2]", "valid dictionary"),
    "missing field": (GOOD.replace('"label"', '"labels"'), "label"),
    "wrong type": (GOOD.replace('"seed": 0', '"seed": "0"'), "seed"),
    "later schema": (GOOD.replace('"schema": 1', '"schema": 2'), "schema"),
    "unknown stage": (GOOD.replace('"compare"', '"final"'), "stage"),
    "NaN": (GOOD.replace('"val_dense": 0.7', '"val_dense": NaN'), "NaN"),
    "infinite": (GOOD.replace('"val_dense": 0.7', '"val_dense": -Infinity'), "Infinity"),
    "overflow": (GOOD.replace('"val_dense": 0.7', '"val_dense": 1e999'), "finite"),
    "huge": (GOOD.replace('"seed": 0', '"seed": ' + "9" * 5000), "not a cell"),
    "nested": (GOOD.replace('"notes": []', '"notes": ' + "[" * 9000 + "]" * 9000), "nested"),
    "no text": (b"\xff\xfe" + GOOD.encode(), "utf-8"),
    "twice": (GOOD.replace('"seed": 0', '"seed": 0, "seed": 1'), "twice"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_line_is_named_by_file_and_number(case, stored):
    line, message = DAMAGED[case]
    good = stored.read_bytes()
    stored.write_bytes(good + (line if isinstance(line, bytes) else line.encode()) + b"\n" + good)
    with pytest.raises(InputError) as error:
        read_cells(stored)
    assert f"{stored}, line 3: " in str(error.value)
    assert message in str(error.value)
    assert len(str(error.value)) < 1000 + len(str(stored))


def test_blank_lines_and_foreign_fields_are_ignored(tmp_path):
    foreign = json.dumps(json.loads(GOOD) | {"colour": "red"})
    (tmp_path / CELLS).write_text(f"\n{foreign}\n\n")
    assert read_cells(tmp_path) == [made_up.cell()]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_that_is_not_finite_is_not_written(value, stored):
    before = stored.read_bytes()
    with pytest.raises(InputError, match=r"cell\['analysis'\]\['x'\]\[0\] must be finite"):
        append_cell(stored, made_up.cell(analysis={"x": [value]}))
    assert stored.read_bytes() == before


def test_what_cannot_be_read_or_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputPathError, match="cannot be written"):
        append_cell(tmp_path / "file", made_up.cell())
    (tmp_path / CELLS).mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read_cells(tmp_path)


def test_hashes_tell_specs_apart_and_not_the_order_of_their_keys():
    spec = made_up.spec()
    assert hash_of(dict(reversed(spec.items()))) == hash_of(spec)
    assert hash_of(json.loads(json.dumps(spec))) == hash_of(spec)
    assert len(hash_of(spec)) == 12
    others = [made_up.spec(edge_sparsity=0.1 + step * 1e-9) for step in range(200)]
    others += [made_up.spec("ugs"), made_up.spec(lr=0.02), spec, spec | {"method_version": 4}]
    assert len({hash_of(each) for each in others}) == len(others)


def test_settings_that_were_not_always_there_leave_hashes_and_old_cells_as_they_were():
    old = {k: v for k, v in Settings(**NEUTRAL).model_dump(mode="json").items() if k not in NEUTRAL}
    del old["seed"]
    assert spec_settings(Settings(**NEUTRAL, seed=7)) == old
    assert all_settings({"settings": old}) == Settings(**NEUTRAL).model_dump(
        mode="json", exclude={"seed"}
    )
    for name, value in Settings().model_dump(mode="json", exclude={"seed"}).items():
        assert (name in spec_settings(Settings())) == (NEUTRAL.get(name, object()) != value)


def test_a_cell_that_is_older_than_a_setting_reads_as_if_it_had_its_neutral_value():
    spec = made_up.spec()
    for name in NEUTRAL:
        spec["settings"].pop(name, None)
    cell = made_up.cell(spec=spec)
    assert {name: cell.settings[name] for name in NEUTRAL} == NEUTRAL
