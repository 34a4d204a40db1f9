"""Graphs that are slow to read, kept in the user cache under the digest of their raw files.

The format is safetensors, which can hold nothing but tensors and text.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from fastglt._atomic import atomic_write
from fastglt.data import checksums, sources
from fastglt.errors import OutputPathError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch_geometric.data import Data

    from fastglt.data.entry import DatasetEntry

# To be raised whenever a loader that is kept makes another graph of the same files.
_VERSION: Final = 1


def load(entry: DatasetEntry, folder: Path, found: Mapping[str, str]) -> Data:
    """Load a graph from the cache, or else with its loader, keeping the result.

    Args:
        entry: The dataset.
        folder: The raw files, laid out as a data root is.
        found: Relative path of a raw file -> SHA-256 of its content.

    Returns:
        The graph as the loader makes it.
    """
    path = cache_path(entry, found)
    kept = _read(path) if path.is_file() else None
    if kept is not None:
        return kept
    data = entry.load(folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, data)
    except (OSError, OutputPathError):
        # Without a cache that can be written, the next load only takes longer.
        return data
    return data


def cache_path(entry: DatasetEntry, found: Mapping[str, str]) -> Path:
    """Where the graph of one exact content of one dataset is kept."""
    text = f"{_VERSION} {entry.name} {checksums.digest(found)}"
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    return sources.cache_dir() / "processed" / f"{entry.name}-{name}.safetensors"


def _read(path: Path) -> Data | None:
    from safetensors import SafetensorError, safe_open
    from torch_geometric.data import Data

    try:
        with safe_open(path, framework="pt") as file:
            plain = json.loads((file.metadata() or {})["plain"])
            values = {
                key: file.get_tensor(key) if value is None else value
                for key, value in plain.items()
            }
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError):
        return None  # damaged: it is made anew from the raw files
    return Data.from_dict(values)


def _write(path: Path, data: Data) -> None:
    import torch
    from safetensors.torch import save_file

    values = data.to_dict()
    tensors = {
        key: value.contiguous() for key, value in values.items() if isinstance(value, torch.Tensor)
    }
    plain = {key: None if key in tensors else value for key, value in values.items()}
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata={"plain": json.dumps(plain)})
