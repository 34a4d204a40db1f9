"""The catalogue: names, uniqueness, and the facts every entry must have."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from tiny_dataset import make_entry

from fastglt.data import CATALOGUE, listing
from fastglt.data.catalogue import Catalogue
from fastglt.data.entry import TASKS
from fastglt.errors import InputError, UnknownNameError


@pytest.mark.parametrize("name", ["citeseer", "CiteSeer", "CITESEER"])
def test_names_are_looked_up_without_regard_to_case(name):
    assert CATALOGUE.get(name).title == "CiteSeer"


def test_unknown_name_lists_what_there_is_and_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'citeseer'") as caught:
        CATALOGUE.get("citeser")
    assert caught.value.kind == "dataset"
    assert set(caught.value.available) == {entry.name for entry in CATALOGUE}


@pytest.mark.parametrize("name", [None, 3, b"cora"])
def test_a_name_that_is_no_string_is_refused(name):
    with pytest.raises(InputError, match="must be a string"):
        CATALOGUE.get(name)


def test_duplicate_names_are_refused_whatever_their_case():
    with pytest.raises(ValueError, match="'TINY' twice"):
        Catalogue([make_entry(), make_entry(name="TINY")])


@pytest.mark.parametrize("entry", list(CATALOGUE), ids=lambda entry: entry.name)
def test_every_entry_has_lower_case_name_and_files_below_its_folder(entry):
    assert entry.name == entry.name.lower()
    assert entry.task in TASKS
    assert entry.metric in ("accuracy", "roc_auc", "hits@20", "hits@50")
    assert entry.files
    for path, checksum in entry.files.items():
        assert re.fullmatch(r"((raw|split/\w+)/)?[\w.-]+", path)
        assert checksum is None or re.fullmatch("[0-9a-f]{64}", checksum)


def test_pickles_are_never_read_without_a_published_checksum():
    unverified = [entry for entry in CATALOGUE if not entry.is_verified]
    assert unverified
    for entry in unverified:
        # Arrays without objects, text, and torch files read with an allow-list.
        assert all(name.endswith((".npz", ".csv.gz", ".pt", ".txt")) for name in entry.files)


def test_listing_says_where_each_dataset_is(tmp_path, monkeypatch):
    entry = CATALOGUE.get("cora")
    raw = tmp_path / entry.folder / "raw"
    raw.mkdir(parents=True)
    where = lambda root: {row.name: row.where for row in listing(root)}["cora"]  # noqa: E731
    assert where(tmp_path) == "downloadable"
    monkeypatch.setenv("FASTGLT_OFFLINE", "1")
    assert where(tmp_path) == "not here (offline)"
    for name in entry.files:
        (tmp_path / entry.folder / name).touch()
    assert where(tmp_path) == "under root"
    assert where(None) == "not here (offline)"


def test_listing_needs_neither_torch_nor_pyg():
    program = (
        "import sys; from fastglt.data import listing; assert listing(); "
        "sys.exit(bool({'torch', 'torch_geometric', 'numpy'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
