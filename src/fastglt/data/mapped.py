"""The user's own graph in a folder of ``.npy`` files, mapped into memory instead of read.

A graph that is larger than memory is loaded at once, and its parts are read when they are looked
at. Files of the folder, each a plain array; what is not in brackets is required:

======================================== ==========================================================
``edge_index.npy``                       ``[2, num_edges]`` int64, sources above targets
[``x.npy``]                              ``[num_nodes, num_features]`` float32
[``num_nodes.npy``]                      one integer; required where there are no features
[``y.npy``]                              ``[num_nodes]`` int64, negative = unlabelled and in no
                                         mask; or ``[num_nodes, num_labels]`` float32 of 0, 1 and
                                         NaN
[``train_mask.npy``, ``val_mask.npy``,   ``[num_nodes]`` bool, all three or none
``test_mask.npy``]
[``edge_weight.npy``],                   ``[num_edges]`` and ``[num_edges, d]`` float32
[``edge_attr.npy``]
[``train_pos_edge_label_index.npy``,     the five keys of :mod:`fastglt.data.links`, int64
...]
[``repeated_links.npy``]                 one boolean, see there
======================================== ==========================================================

Types are those that PyG computes with: to convert an array is to copy it into memory, so other
types are refused unless ``convert=True`` asks for that. The files must not change while the graph
is in use. Nothing that is written to the tensors reaches the files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from fastglt._atomic import atomic_folder
from fastglt.data._npy_file import map_array, write_array
from fastglt.data._npz_arrays import Arrays
from fastglt.data._own import arrays_of, own_graph
from fastglt.data.forms import to_edge_index
from fastglt.data.loading import LoadedDataset
from fastglt.errors import GraphError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch_geometric.data import Data

    Array = np.ndarray[Any, np.dtype[Any]]

_SUFFIX: Final = ".npy"


class _MappedArrays(Arrays):
    _KNOWN: ClassVar[tuple[str, ...]] = (*Arrays.WRITTEN, "num_nodes", "repeated_links")

    def _as_type(self, key: str, dtype: np.dtype[Any]) -> Array:
        array = self._arrays[key]
        # One number costs nothing to convert.
        if array.dtype != dtype and array.size > 1:
            raise GraphError(
                f"{key}{_SUFFIX} must be {dtype} to be mapped (got {array.dtype}); write it as "
                f"such, or convert it in memory with load_mapped(..., convert=True)"
            )
        return super()._as_type(key, dtype)


def load_mapped(
    path: str | os.PathLike[str],
    *,
    split_seed: int = 0,
    split: Mapping[str, float] | None = None,
    transforms: Iterable[Mapping[str, Any]] | None = None,
    convert: bool = False,
) -> LoadedDataset:
    """Map and check a graph in a folder of ``.npy`` files; nothing in it can be run.

    Checking reads every array once, in chunks.

    Args:
        path: The folder, with the files that this module describes. Links in it are not followed,
            files that do not end in ``.npy`` are not looked at.
        split_seed: As for :func:`fastglt.data.load_npz`.
        split: As there.
        transforms: As there.
        convert: Convert arrays of other types, such as int32 edges, to copies in memory, instead
            of refusing them.

    Returns:
        The graph, named after the folder, as :func:`fastglt.data.load_npz` returns it; its tensors
        are views of the files.

    Raises:
        InputError: If a file cannot be read, is no array of numbers, has another size than its
            header says, or an unknown name; or if a split of the nodes is asked for and edges are
            predicted.
        GraphError: If an array is missing or malformed; the message names array, row and value.
    """
    folder = Path(path)
    kind = Arrays if convert else _MappedArrays
    name = folder.resolve().name
    data = kind(name, _arrays(folder)).graph()
    return own_graph(data, name, f"folder {folder}", split_seed, split, transforms)


def save_mapped(data: Data, path: str | os.PathLike[str]) -> None:
    """Write a graph for :func:`load_mapped`.

    Args:
        data: A graph as :func:`fastglt.data.save_npz` takes it, with dense features. Its tensors
            may be mapped themselves; they are written a few rows at a time.
        path: The folder to create, which appears as a whole; it must not exist yet, or be empty.

    Raises:
        GraphError: If the graph holds something that the format has no place for.
        OutputPathError: If the folder exists or cannot be written.
    """
    contents = arrays_of(to_edge_index(data), keep_sparse=False)
    with atomic_folder(path) as temporary:
        for key, array in contents.items():
            write_array(temporary / f"{key}{_SUFFIX}", array, _written_type(array))


def _arrays(folder: Path) -> dict[str, Array]:
    try:
        files = sorted(entry for entry in folder.iterdir() if entry.suffix == _SUFFIX)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{folder} must be a readable folder (got {reason})") from error
    if not files:
        raise InputError(f"{folder} must be a folder of .npy files (got none)")
    return {file.stem: map_array(file) for file in files}


def _written_type(array: Array) -> np.dtype[Any]:
    if array.dtype.kind == "b":
        return np.dtype(bool)
    return np.dtype(np.int64 if array.dtype.kind in "iu" else np.float32)
