"""The graph, the task and the model that options or a ticket's records name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fastglt.cli.exits import immediate_interrupts
from fastglt.cli.options import (
    METHODS,
    MODELS,
    DataOptions,
    LinkOptions,
    ModelOptions,
    ResultOptions,
    TaskOptions,
)
from fastglt.cli.progress import working
from fastglt.cli.records import DatasetRecord, ModelRecord, recorded_name
from fastglt.data.entry import LINK_PREDICTION
from fastglt.errors import InputError, TicketFileError, UnknownNameError, cut
from fastglt.models import is_own_model, model_file, resolve_config

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from fastglt.data import LoadedDataset
    from fastglt.training.task import Task

LINK_OUTPUTS = 64
"""Width of the node embeddings that a model of one's own is asked for in link prediction."""


def check_source(options: DataOptions) -> None:
    """Refuse at once what names no graph, or two.

    Raises:
        InputError: If neither or both of ``--dataset`` and ``--data`` are given, or if
            ``--split`` cannot be read.
        UnknownNameError: If there is no dataset of that name.
    """
    from fastglt.data import CATALOGUE

    _split(options.split)
    if options.data is not None and options.dataset is not None:
        raise InputError("--dataset and --data are two graphs; leave one of them out")
    if options.dataset is not None:
        CATALOGUE.get(options.dataset)
    elif options.data is None:
        names = ", ".join(entry.name for entry in CATALOGUE)
        raise InputError(
            f"--dataset is missing; choose one of {names}, or give a graph of your own with --data"
        )


def check_model(options: ModelOptions) -> None:
    """Refuse at once a model that there is not, or a size that it does not have.

    Raises:
        InputError: If an option is not one of that model.
        ModelError: If a model of one's own has no file.
        UnknownNameError: If there is no such named backbone.
    """
    if not is_own_model(options.model):
        resolve_config(options.model, options)
        return
    model_file(options.model)
    sizes = options.model_dump(exclude={"model", "hidden"}, exclude_none=True)
    if sizes:
        name, value = next(iter(sizes.items()))
        raise InputError(
            f"{name} is for the named backbones {', '.join(MODELS)} (got {name}={value}); a model "
            "of your own has a size of its own"
        )


def check_method(name: str) -> None:
    """Refuse at once a search method that there is not.

    Raises:
        UnknownNameError: If there is no such method.
    """
    if name not in METHODS:
        raise UnknownNameError("method", name, METHODS)


def load_dataset(options: DataOptions, record: DatasetRecord | None = None) -> LoadedDataset:
    """Load the graph of the options to their device; a record has its transforms replayed.

    Args:
        options: Name and place, as :func:`check_source` lets them through.
        record: What a ticket says about the same graph.

    Raises:
        InputError: If the file, the split or the device cannot be used.
        DatasetNotFoundError: If no place has it.
        TicketFileError: If the record cannot be replayed.
    """
    with working("loading torch"), immediate_interrupts():
        import torch_geometric.data
        import torch_geometric.nn  # noqa: F401  (the slow part, under the notice)

    device = _device(options.device)
    try:
        dataset = _load(options, None if record is None else record.transforms)
    except TypeError as error:  # wrong or missing arguments, in a file of somebody else
        if record is None:
            raise
        raise TicketFileError(f"the ticket's transforms cannot be replayed: {error}") from error
    return replace(dataset, data=dataset.data.to(device))


def choose_task(
    options: TaskOptions, dataset: LoadedDataset, links: LinkOptions | None = None
) -> Task:
    """The task that is asked for, else that of the dataset, with the metric that goes with it.

    Raises:
        UnknownNameError: If there is no such task or metric.
        InputError: If options of link prediction are given for another task, or the graph has no
            pairs to tell apart.
    """
    from fastglt.data.links import LINK_KEYS
    from fastglt.training.tasks import make_task

    name = options.task or dataset.task
    given = {} if links is None else links.options
    if given and name != LINK_PREDICTION:
        raise InputError(
            f"{next(iter(given))} is for link prediction (got task {name!r}); leave it out, or add "
            "--sampler neighbor to train in mini-batches"
        )
    if name == LINK_PREDICTION and not any(key in dataset.data for key in LINK_KEYS):
        raise InputError(
            f"task {name!r} needs pairs to tell apart, which {dataset.name} does not have; make "
            "them with fastglt.data.random_link_split, save them with fastglt.data.save_npz and "
            "give that file with --data"
        )
    metric = options.metric or (dataset.metric if name == dataset.task else None)
    return make_task(name, dataset.data, metric=metric, **given)


def model_record(
    options: ModelOptions, dataset: LoadedDataset, width: int | None = None
) -> ModelRecord:
    """What a ticket remembers of a model: all sizes, or the name of a file without its folder.

    Args:
        options: Those of the model that was searched.
        dataset: The graph.
        width: That of the model in its place, if :func:`narrow_model` made another.
    """
    name = recorded_name(options.model)
    if is_own_model(options.model):
        return ModelRecord(name=name, hidden=options.hidden)
    featureless = dataset.data.num_features == 0
    config = resolve_config(options.model, options, featureless=featureless)
    if width is not None:
        config = config.model_copy(update={"hidden": width * (config.heads or 1)})
    return ModelRecord(name=name, **config.model_dump())


def build_model(options: ModelOptions, dataset: LoadedDataset, task: Task, seed: int) -> nn.Module:
    """The model of the options, made for a graph and a task.

    Its weights follow from the seed. A model for link prediction returns node embeddings, as wide
    as its hidden layers.

    Raises:
        InputError: If the graph is not fit for the task, or a size not for the model.
    """
    from fastglt.training.seeding import seeded

    with seeded(seed):
        return _build(options, dataset, task).to(dataset.data.edge_index.device)


def narrow_model(
    options: ModelOptions, dataset: LoadedDataset, task: Task
) -> Callable[[int], nn.Module] | None:
    """What makes a named backbone of a width in channels (of a head); ``None`` of other models."""
    if is_own_model(options.model):
        return None
    featureless = dataset.data.num_features == 0
    heads = resolve_config(options.model, options, featureless=featureless).heads or 1

    def narrow(width: int) -> nn.Module:
        return _build(options.model_copy(update={"hidden": width * heads}), dataset, task)

    return narrow


def _build(options: ModelOptions, dataset: LoadedDataset, task: Task) -> nn.Module:
    """The model with weights of torch's global random state."""
    from fastglt.models import build_model as build
    from fastglt.models import load_model

    data = dataset.data
    classes = dataset.num_classes if task.name == dataset.task else task.validate(data)
    if is_own_model(options.model):
        if classes and options.hidden is not None:
            raise InputError(
                f"hidden is for the named backbones {', '.join(MODELS)}, and for models of "
                f"your own in link prediction only (got hidden={options.hidden})"
            )
        columns = classes or options.hidden or LINK_OUTPUTS
        return load_model(options.model, data.num_features, columns)
    config = resolve_config(options.model, options, featureless=data.num_features == 0)
    return build(
        options.model,
        data.num_features,
        classes or config.hidden or LINK_OUTPUTS,
        config,
        num_edge_features=data.num_edge_features,
        num_nodes=data.num_nodes,
    )


def read_predictions(path: Path) -> Tensor:
    """The predictions of a teacher, from a ``.npy`` file.

    Raises:
        InputError: If it cannot be read or holds no table of floating-point numbers.
    """
    import numpy as np
    import torch

    try:
        # Mapped, because otherwise as much is allocated as the file says that it holds.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, TypeError, EOFError, ArithmeticError, RecursionError) as error:
        reason = cut(str(error))
        raise InputError(f"--teacher-file {path} cannot be read as .npy: {reason}") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f":
        found = getattr(array, "dtype", "several arrays")
        shape = list(getattr(array, "shape", ()))
        raise InputError(
            f"--teacher-file {path} must hold a table of floats, a row a node (got {found} of "
            f"shape {shape})"
        )
    return torch.from_numpy(np.array(array))


def use_threads(options: ResultOptions) -> None:
    """Let torch compute with the number of threads that was asked for, if any was."""
    if options.threads is not None:
        import torch

        torch.set_num_threads(options.threads)


def _device(name: str) -> torch.device:
    import torch

    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise InputError(
            f"device must be one that torch can use here (got {name!r}): {reason}"
        ) from error
    return device


def _load(options: DataOptions, transforms: list[dict[str, object]] | None) -> LoadedDataset:
    from fastglt import data as datasets

    split = _split(options.split)
    with working(f"loading {options.dataset if options.data is None else options.data.name}"):
        if options.data is not None:
            load = datasets.load_mapped if options.data.is_dir() else datasets.load_npz
            return load(
                options.data, split_seed=options.split_seed, split=split, transforms=transforms
            )
        return datasets.load(
            str(options.dataset),
            root=options.root,
            split_seed=options.split_seed,
            split=split,
            transforms=transforms,
        )


def _split(text: str | None) -> dict[str, float] | None:
    """``"20,30"`` counts nodes of each class, ``"0.6,0.2"`` shares of all."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    try:
        train, val = parts
        if train.isdecimal() and val.isdecimal():
            return {"train_per_class": int(train), "val_per_class": int(val)}
        return {"train": float(train), "val": float(val)}
    except ValueError:
        raise InputError(
            f"split must be TRAIN,VAL, such as 20,30 or 0.6,0.2 (got {text!r})"
        ) from None
