"""A made-up dataset of two small files, and folders to find it in."""

from __future__ import annotations

import hashlib

from fastglt.data.entry import DatasetEntry, WheelMirror

CONTENT = {"raw/a.bin": b"first file", "raw/b.bin": b"second file"}


def write_files(root, content=CONTENT, folder="family/Tiny"):
    for name, value in content.items():
        path = root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value)
    return root


def make_entry(content=CONTENT, **changes):
    fields = {
        "name": "tiny",
        "title": "Tiny",
        "task": "node-classification",
        "metric": "accuracy",
        "source": "made up",
        "num_nodes": 1,
        "num_edges": 0,
        "num_features": 1,
        "num_classes": 1,
        "folder": "family/Tiny",
        "files": {name: hashlib.sha256(value).hexdigest() for name, value in content.items()},
        "loader": lambda folder: sorted(path.name for path in folder.rglob("*.bin")),
        "url": "https://example.invalid/tiny",
        "wheel": WheelMirror("tiny-wheel==1.0", "tiny/data"),
    }
    return DatasetEntry(**{**fields, **changes})
