"""SHA-256 checksums of the raw files of the catalogue, and the copy that enforces them.

Planetoid files are pickles: reading one runs whatever it says. So none is handed to a loader
unless it is, byte for byte, the published file. Files of formats that cannot run anything may
come without a published checksum; they are taken as they are.
"""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from fastglt.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_CHUNK: Final = 1 << 20


def _raw(prefix: str, checksums: dict[str, str]) -> Mapping[str, str]:
    return MappingProxyType({f"raw/{prefix}{name}": value for name, value in checksums.items()})


CORA: Final = _raw(
    "ind.cora.",
    {
        "allx": "9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543",
        "ally": "2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71",
        "graph": "58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d",
        "test.index": "297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875",
        "tx": "b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a",
        "ty": "41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad",
        "x": "23cfa55d91c6f624233f5eb7b6e3f141f1bd2b2ae39608a63cf5d084bb27baab",
        "y": "94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1",
    },
)

CITESEER: Final = _raw(
    "ind.citeseer.",
    {
        "allx": "2ac30345d95c9ec933a817ee0bdd6a5f077f8c184a20e696910192d534414668",
        "ally": "f704b2d986dde6c2669934de1f3ae5696a6cf9455c0f6b2646a2d135ea0a1c95",
        "graph": "d79a4ef9d3e7169aee8946145f6b7306e35bc79bffad26346cfb94e10e9912a7",
        "test.index": "2af990671580b6b2df5d158d1038f8292e30c9cd821b5453f399659b25b723d4",
        "tx": "539a8906a2da97628d212f2fdd668c109a8b3f0d36574b59e5d3fd5b5303da21",
        "ty": "55e5bd1ba1e733a04598753ad1a8d57957f4b8f89e74519f41f4f4938767e4ce",
        "x": "d20de19150741e555de0ed037195630fc194114ebc7fd72ced62810148aa22f6",
        "y": "8ba87e515d8e3ee3cf52f6d2c5b86aa73f11ecad825a808455209ec26cd54924",
    },
)

PUBMED: Final = _raw(
    "ind.pubmed.",
    {
        "allx": "508e538e2abdccdd54c4d3e9f49d638b4af7107d85845f66ddea5a5152658b7e",
        "ally": "0c37bbe3b5014ec365e9d393cf4791925e5ed94fb194305d74f064a8d7b50f0e",
        "graph": "5b89f0036ca22909471f1e6558eb42fa06e0c730a577bde5b058b40638f81dc9",
        "test.index": "b101d421688bbaecbd82e8a18f1e282378d6830f3a37666f28ebc47f844341b5",
        "tx": "4eb5f5d0f30f26497eb0ac6ac9719d09c67e284f1ed0385c93f3ef27a671da3d",
        "ty": "ee2e0d4819d9fbcc403689c3bf2e49face401b605932f093bc58ab6461130fdd",
        "x": "fbe9cb5c47200d1b7769a26e579be3b7130b556831f9d850e77c4c74f2599b33",
        "y": "e6c807633307a07ed659249006536a147c7999c797f11a2560752990181b41b3",
    },
)

COMPUTERS: Final = _raw(
    "amazon_electronics_computers.",
    {
        "npz": "be58a1ec75405bfb2f9917b85cc34eb29c606df5a988da355468dda97d19b753",
    },
)


def digest(checksums: Mapping[str, str | None]) -> str:
    """Name one exact content: a short hash of all relative paths and their checksums.

    Args:
        checksums: Relative path of a raw file -> SHA-256 in hexadecimal, or None if any will do.

    Returns:
        16 hexadecimal digits.
    """
    lines = "".join(f"{path} {checksum}\n" for path, checksum in sorted(checksums.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def copy_verified(
    source: Path, target: Path, files: Mapping[str, str | None], *, advice: str = ""
) -> dict[str, str]:
    """Copy raw files from one folder to another, accepting the published content only.

    The bytes that are hashed are the bytes that are written, so a file that changes after the
    check cannot slip through.

    Args:
        source: The folder to read; it is never written to.
        target: The folder to fill; missing parents are made.
        files: Relative path of a raw file -> SHA-256 in hexadecimal, or None if any will do.
        advice: What to do if a file is not the published one, appended to the message.

    Returns:
        Relative path -> SHA-256 of what was copied.

    Raises:
        InputError: If a file cannot be read or has another content; the message names it.
    """
    found: dict[str, str] = {}
    for name, expected in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        found[name] = _copy_hashed(source / name, target / name)
        if expected is not None and found[name] != expected:
            (target / name).unlink()
            raise InputError(
                f"{source / name} must have SHA-256 {expected} (got {found[name]}): it is not the "
                f"published file, or it is damaged, and was not opened{advice}"
            )
    return found


def _copy_hashed(source: Path, target: Path) -> str:
    hasher = hashlib.sha256()
    try:
        reader = source.open("rb")
    except OSError as error:
        raise InputError(f"{source} must be a readable file (got {error.strerror})") from error
    with reader, target.open("wb") as writer:
        while chunk := reader.read(_CHUNK):
            hasher.update(chunk)
            writer.write(chunk)
    return hasher.hexdigest()
