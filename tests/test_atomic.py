from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from fastglt import _atomic
from fastglt._atomic import atomic_write, check_writable
from fastglt.errors import OutputPathError


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_new_content_replaces_old_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_write(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".txt"
    assert target.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt, SystemExit, OSError])
def test_interruption_keeps_the_old_file_and_no_temporary(
    tmp_path: Path, stop: type[BaseException]
) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def interrupted() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("half")
            raise stop

    with pytest.raises(stop):
        interrupted()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_failed_rename_keeps_the_old_file_and_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def refuse(self: Path, other: Path) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OutputPathError, match="Permission denied"), atomic_write(target) as file:
        file.write_text("new")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_data_reaches_the_disk_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, at_sync = tmp_path / "a.txt", []
    monkeypatch.setattr(os, "fsync", lambda handle: at_sync.append(target.exists()))
    with atomic_write(target) as temporary:
        temporary.write_text("new")
    assert at_sync[0] is False


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
def test_mode_follows_the_umask_like_that_of_any_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with atomic_write(tmp_path / "atomic") as temporary:
        temporary.write_text("x")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "atomic")}
    assert len(modes) == 1


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "real"
    folder.mkdir()
    (folder / "file").write_text("old")
    link = tmp_path / "link"
    link.symlink_to(folder / "file")
    with atomic_write(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert (folder / "file").read_text() == "new"


def test_the_longest_file_name_still_works(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 240 + ".safetensors")
    check_writable(target)
    with atomic_write(target) as temporary:
        temporary.write_text("x")
    assert target.read_text() == "x"


def test_check_writable_leaves_nothing_behind(tmp_path: Path) -> None:
    check_writable(tmp_path / "new.txt")
    assert names(tmp_path) == []
    (tmp_path / "old.txt").write_text("old")
    check_writable(str(tmp_path / "old.txt"))
    assert names(tmp_path) == ["old.txt"]
    assert (tmp_path / "old.txt").read_text() == "old"


@pytest.mark.parametrize("use", [check_writable, lambda path: atomic_write(path).__enter__()])
def test_unwritable_paths_are_refused_with_the_reason(tmp_path: Path, use) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path, reason in [
        (tmp_path / "missing" / "a", "does not exist"),
        (tmp_path / "file" / "a", "is not a folder"),
        (tmp_path / "file" / "deeper" / "a", "does not exist"),
        (tmp_path / "folder", "it is a folder"),
        (Path(os.devnull), "device"),
        (tmp_path / ("n" * 300), "too long"),
        ("a\0b", "null"),
        ("", "it is a folder"),
    ]:
        with pytest.raises(OutputPathError, match=reason) as caught:
            use(path)
        assert repr(os.fspath(path)) in str(caught.value)
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_folder_is_really_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*args: object, **named: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(_atomic.os, "open", refuse)
    # Linux refuses that too on a disk that is mounted read-only, whether or not there is a file.
    monkeypatch.setattr(_atomic.Path, "unlink", refuse)
    with pytest.raises(OutputPathError, match=os.strerror(code)):
        check_writable(tmp_path / "a")
    with pytest.raises(OutputPathError, match=os.strerror(code)), atomic_write(tmp_path / "a"):
        pytest.fail("the body must not run")
