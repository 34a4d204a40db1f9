"""The graph and the model that options or a ticket's records name."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from fastglt.cli.exits import immediate_interrupts
from fastglt.cli.options import METHODS, MODELS, DataOptions, ResultOptions
from fastglt.cli.progress import working
from fastglt.cli.records import DatasetRecord, ModelRecord
from fastglt.errors import InputError, TicketFileError, UnknownNameError

if TYPE_CHECKING:
    from torch import nn

    from fastglt.data import LoadedDataset


def check_names(*, model: str, method: str | None = None) -> None:
    """Refuse unknown names at once, before anything is loaded.

    Raises:
        UnknownNameError: If there is no such model or method.
    """
    if model.lower() not in MODELS:
        raise UnknownNameError("model", model, MODELS)
    if method is not None and method not in METHODS:
        raise UnknownNameError("method", method, METHODS)


def load_dataset(options: DataOptions, record: DatasetRecord | None = None) -> LoadedDataset:
    """Load the dataset of the options; a record of it has its transforms replayed.

    Args:
        options: Name and place.
        record: What a ticket says about the same dataset.

    Raises:
        InputError: If no dataset is named.
        DatasetNotFoundError: If no place has it.
        TicketFileError: If the record cannot be replayed.
    """
    from fastglt import data as datasets

    with working("loading torch"), immediate_interrupts():
        import torch_geometric.data
        import torch_geometric.nn  # noqa: F401

    if options.dataset is None:
        names = ", ".join(entry.name for entry in datasets.CATALOGUE)
        raise InputError(f"--dataset is missing; choose one of {names}")
    with working(f"loading {options.dataset}"):
        if record is None:
            return datasets.load(options.dataset, root=options.root, split_seed=options.split_seed)
        raw = datasets.load(options.dataset, root=options.root, normalize_features=False)
        return _replayed(raw, record)


def build_model(record: ModelRecord, dataset: LoadedDataset, seed: int) -> nn.Module:
    """A named backbone that fits the dataset, with weights that follow from the seed."""
    from fastglt.models import build_model as build
    from fastglt.training.seeding import seeded

    with seeded(seed):
        return build(record.name, dataset.data.num_features, dataset.num_classes, record.config)


def use_threads(options: ResultOptions) -> None:
    """Let torch compute with the number of threads that was asked for, if any was."""
    if options.threads is not None:
        import torch

        torch.set_num_threads(options.threads)


def _replayed(dataset: LoadedDataset, record: DatasetRecord) -> LoadedDataset:
    from fastglt.data.transforms import replay

    try:
        data = replay(dataset.data, record.transforms)
    except TypeError as error:  # wrong or missing arguments, in a file of somebody else
        raise TicketFileError(f"the ticket's transforms cannot be replayed: {error}") from error
    return dataclasses.replace(dataset, data=data, transforms=tuple(record.transforms))
