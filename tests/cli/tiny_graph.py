"""A synthetic graph under the names of the catalogue, and a command line that finds it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from fastglt import data as datasets
from fastglt.data import CATALOGUE, LoadedDataset, csbm
from fastglt.data.loading import split_record
from fastglt.data.transforms import replay

QUICK = (
    "--hidden=8", "--dense-epochs=6", "--pretrain-epochs=2", "--denoise-steps=25",
    "--retrain-epochs=6",
)  # fmt: skip
LEARNING = (
    "--hidden=16", "--dropout=0", "--lr=0.05", "--dense-epochs=20", "--retrain-epochs=20",
    "--pretrain-epochs=2", "--denoise-steps=25",
)  # fmt: skip
"""Enough of a training for predictions to differ from node to node."""


def load(name, *, root=None, split_seed=0, split=None, transforms=None):
    """What fastglt.data.load does, without files: 'computers' has a seeded split."""
    entry = CATALOGUE.get(name)
    data = csbm(120, num_classes=3, num_features=6, average_degree=6, seed=1)
    records = []
    if split is not None:
        records.append(split_record(split, split_seed))
    elif entry.split:
        counts = {"train_per_class": 5, "val_per_class": 10}
        records.append({"name": "RandomSplit", **counts, "seed": split_seed})
    records.append({"name": "NormalizeFeatures"})
    if transforms is not None:
        records = transforms
    return LoadedDataset(
        entry.name, replay(data, records), 3, entry.task, f"from {root}", tuple(records),
        title=entry.title,
    )  # fmt: skip


def load_with_shuffled_test_labels(*args, **keywords):
    """The same graph, but for the labels of its test nodes."""
    dataset = load(*args, **keywords)
    test = dataset.data.test_mask.nonzero().flatten()
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))
    dataset.data.y[test] = dataset.data.y[test[order]]
    return dataset


MARKER = "TINY_GRAPH_MARKER"
"""Environment variable with the path of a file that is created when training starts."""


def _mark(self, phase, step, val_metric):
    Path(os.environ[MARKER]).touch()


if __name__ == "__main__":
    import signal

    from fastglt.cli import main
    from fastglt.training.callback import Callback

    if MARKER in os.environ:
        Callback.on_step = _mark

    # A parent may have had SIGINT ignored, which is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    datasets.load = load
    main(sys.argv[1:])
