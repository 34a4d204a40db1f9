"""The graph and the model that options or a ticket's records name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastglt.cli.exits import immediate_interrupts
from fastglt.cli.options import METHODS, MODELS, DataOptions, ModelOptions, ResultOptions
from fastglt.cli.progress import working
from fastglt.cli.records import DatasetRecord, ModelRecord
from fastglt.errors import InputError, TicketFileError, UnknownNameError
from fastglt.models import is_own_model, resolve_config

if TYPE_CHECKING:
    from torch import nn

    from fastglt.data import LoadedDataset

LINK_OUTPUTS = 64
"""Width of the node embeddings that a model of one's own is asked for in link prediction."""


def check_names(*, model: str, method: str | None = None) -> None:
    """Refuse unknown names at once, before anything is loaded.

    Raises:
        UnknownNameError: If there is no such model or method.
    """
    if not is_own_model(model) and model.lower() not in MODELS:
        raise UnknownNameError("model", model, MODELS)
    if method is not None and method not in METHODS:
        raise UnknownNameError("method", method, METHODS)


def load_dataset(options: DataOptions, record: DatasetRecord | None = None) -> LoadedDataset:
    """Load the graph of the options; a record of it has its transforms replayed.

    Args:
        options: Name and place.
        record: What a ticket says about the same graph.

    Raises:
        InputError: If no graph is named, or two are.
        DatasetNotFoundError: If no place has it.
        TicketFileError: If the record cannot be replayed.
    """
    from fastglt import data as datasets

    with working("loading torch"), immediate_interrupts():
        import torch_geometric.data
        import torch_geometric.nn  # noqa: F401

    if options.data is not None and options.dataset is not None:
        raise InputError("--dataset and --data are two graphs; leave one of them out")
    transforms = None if record is None else record.transforms
    split = _split(options.split)
    try:
        if options.data is not None:
            with working(f"loading {options.data.name}"):
                return datasets.load_npz(
                    options.data,
                    split_seed=options.split_seed,
                    split=split,
                    transforms=transforms,
                )
        if options.dataset is None:
            names = ", ".join(entry.name for entry in datasets.CATALOGUE)
            raise InputError(
                f"--dataset is missing; choose one of {names}, or give a graph of your own "
                "with --data"
            )
        with working(f"loading {options.dataset}"):
            return datasets.load(
                options.dataset,
                root=options.root,
                split_seed=options.split_seed,
                split=split,
                transforms=transforms,
            )
    except TypeError as error:  # wrong or missing arguments, in a file of somebody else
        if transforms is None:
            raise
        raise TicketFileError(f"the ticket's transforms cannot be replayed: {error}") from error


def model_record(options: ModelOptions, dataset: LoadedDataset) -> ModelRecord:
    """What a ticket remembers of a model: all sizes, or the name of a file without its folder."""
    if is_own_model(options.model):
        sizes = options.model_dump(exclude={"model"})
        return ModelRecord(name=Path(options.model).name, **sizes)
    featureless = dataset.data.num_features == 0
    config = resolve_config(options.model, options, featureless=featureless)
    return ModelRecord(name=options.model.lower(), **config.model_dump())


def build_model(options: ModelOptions, dataset: LoadedDataset, seed: int) -> nn.Module:
    """The model of the options, made for a graph, with weights that follow from the seed.

    A model for link prediction returns node embeddings, as wide as its hidden layers.
    """
    from fastglt.models import build_model as build
    from fastglt.models import load_model
    from fastglt.training.seeding import seeded

    data = dataset.data
    with seeded(seed):
        if is_own_model(options.model):
            outputs = dataset.num_classes or options.hidden or LINK_OUTPUTS
            return load_model(options.model, data.num_features, outputs)
        config = resolve_config(options.model, options, featureless=data.num_features == 0)
        return build(
            options.model,
            data.num_features,
            dataset.num_classes or config.hidden or LINK_OUTPUTS,
            config,
            num_edge_features=dataset.num_edge_features,
            num_nodes=data.num_nodes,
        )


def use_threads(options: ResultOptions) -> None:
    """Let torch compute with the number of threads that was asked for, if any was."""
    if options.threads is not None:
        import torch

        torch.set_num_threads(options.threads)


def _split(text: str | None) -> dict[str, float] | None:
    """``"20,30"`` counts nodes of each class, ``"0.6,0.2"`` shares of all."""
    if text is None:
        return None
    message = f"split must be TRAIN,VAL, such as 20,30 or 0.6,0.2 (got {text!r})"
    parts = text.split(",")
    try:
        if len(parts) == 2 and all(part.strip().isdecimal() for part in parts):
            train, val = (int(part) for part in parts)
            return {"train_per_class": train, "val_per_class": val}
        train_share, val_share = (float(part) for part in parts)
    except ValueError:
        raise InputError(message) from None
    return {"train": train_share, "val": val_share}
