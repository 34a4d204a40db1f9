"""Graphs of the Open Graph Benchmark, read by the ``ogb`` package from a private copy.

``ogb`` asks the network for newer releases when it is imported, talks on the terminal, and calls
``torch.load`` in ways that need pickled numpy arrays. None of that reaches the user: the check is
left out, the talk is swallowed, and arrays are the only addition to what ``torch.load`` accepts.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import pickle
import sys
import warnings
from typing import TYPE_CHECKING, Any, Final

from fastglt.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    from torch import Tensor
    from torch_geometric.data import Data

_SPLITS: Final = {"train": "train", "val": "valid", "test": "test"}
_PLAIN_DTYPES: Final = (
    *("bool", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"),
)


def nodes(folder: Path, name: str) -> Data:
    """Load a node-level graph with OGB's split as masks.

    Args:
        folder: The folder that holds ``ogbn_arxiv/raw`` and the like. It is written into.
        name: Name in OGB, e.g. ``"ogbn-arxiv"``.

    Returns:
        A graph with ``edge_index``, what OGB has of ``x``, ``edge_attr`` and further attributes,
        ``y`` (int64 ``[num_nodes]``, or float ``[num_nodes, num_labels]`` for several tasks) and
        the three masks ``[num_nodes]``.

    Raises:
        InputError: If ``ogb`` is not installed or cannot read the files.
    """
    import torch

    dataset_class = import_ogb("nodeproppred").PygNodePropPredDataset
    with _quietly(), _reading(name):
        dataset = dataset_class(name, root=str(folder))
        split = dataset.get_idx_split()
    data: Data = dataset[0]
    data.y = data.y.squeeze(-1) if dataset.num_tasks == 1 else data.y.float()
    for key, part in _SPLITS.items():
        mask = torch.zeros(int(data.num_nodes or 0), dtype=torch.bool)
        mask[split[part]] = True
        data[f"{key}_mask"] = mask
    return data


def links(folder: Path, name: str) -> Data:
    """Load a link-level graph with OGB's split as label edges.

    Args:
        folder: The folder that holds ``ogbl_ddi/raw`` and the like. It is written into.
        name: Name in OGB, e.g. ``"ogbl-ddi"``.

    Returns:
        A graph whose ``edge_index`` holds the training edges in both directions, with the
        attributes that OGB has, float ``edge_weight`` ``[num_edges]`` among them, and int64
        ``[2, n]`` ``train_pos_edge_label_index``, and ``val_`` and ``test_`` with ``pos_`` and
        ``neg_`` alike.

    Raises:
        InputError: If ``ogb`` is not installed or cannot read the files.
    """
    dataset_class = import_ogb("linkproppred").PygLinkPropPredDataset
    with _quietly(), _reading(name):
        dataset = dataset_class(name, root=str(folder))
        split = dataset.get_edge_split()
    data: Data = dataset[0]
    if data.get("edge_weight") is not None:
        data.edge_weight = data.edge_weight.view(-1).float()
    for key, part in _SPLITS.items():
        data[f"{key}_pos_edge_label_index"] = _columns(split[part]["edge"])
        if "edge_neg" in split[part]:
            data[f"{key}_neg_edge_label_index"] = _columns(split[part]["edge_neg"])
    return data


def import_ogb(module: str) -> ModuleType:
    """Import a module of ``ogb`` without its question to the network for a newer release.

    The question is asked in a thread as ``ogb`` is imported, and without a network it keeps the
    process from ending for as long as the name resolution takes. ``ogb`` leaves it out where the
    package ``outdated`` is missing.

    Args:
        module: Name below ``ogb``, e.g. ``"linkproppred"``.

    Raises:
        InputError: If ``ogb`` is not installed.
    """
    name = "outdated"
    before = {name: sys.modules[name]} if name in sys.modules else {}
    sys.modules[name] = None  # type: ignore[assignment]  # the documented way to hide a module
    try:
        return importlib.import_module(f"ogb.{module}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "ogb":
            raise
        raise InputError(
            'this needs the package ogb, which is not installed; run: pip install "fastglt[ogb]"'
        ) from error
    finally:
        del sys.modules[name]
        sys.modules.update(before)


@contextlib.contextmanager
def safe_arrays() -> Iterator[None]:
    """Let ``torch.load(weights_only=True)`` accept numpy arrays of numbers, and OGB's own files.

    Files stay checked: whatever else they ask for is refused before it is called. Arrays of
    objects are not among what is accepted.
    """
    import numpy as np
    import torch
    from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
    from torch_geometric.data.storage import GlobalStorage

    # Taken from an array, because its own module was renamed in numpy 2; files name the old one.
    reconstruct = np.zeros(0).__reduce__()[0]
    dtypes = [type(np.dtype(name)) for name in _PLAIN_DTYPES]
    allowed: list[Any] = [reconstruct, np.ndarray, np.dtype, *dict.fromkeys(dtypes)]
    allowed.append((reconstruct, "numpy.core.multiarray._reconstruct"))
    # In the processed file that OGB writes and reads back.
    allowed += [DataEdgeAttr, DataTensorAttr, GlobalStorage]
    with torch.serialization.safe_globals(allowed):
        yield


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Swallow what OGB, PyG and tqdm print while they process."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        # Arrays of pandas 3 are read-only; OGB only copies from the tensors that share them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        yield


@contextlib.contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        with safe_arrays():
            yield
    except (pickle.UnpicklingError, OSError, EOFError, KeyError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):
            reason = "a file holds something other than arrays of numbers, and was not opened"
        raise InputError(
            f"the raw files of {name} must be as OGB publishes them (got: {reason}); get them again"
        ) from error


def _columns(pairs: Tensor) -> Tensor:
    """``[n, 2]`` pairs of any integer type as ``[2, n]`` int64."""
    return pairs.long().t().contiguous()
