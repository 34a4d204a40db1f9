"""The user's own graph in one ``.npz`` file.

Arrays of the file, all without pickled objects; what is not in brackets is required:

======================================== ==========================================================
``edge_index``                           ``[2, num_edges]`` integers, sources above targets; or else
``adj_indptr``, ``adj_indices``          the adjacency matrix in CSR: row = source, column = target;
[``adj_data``], [``adj_shape``]          its values become edge weights unless all are 1
[``x``]                                  ``[num_nodes, num_features]`` numbers; or else
[``x_indptr``, ``x_indices``,            the same in CSR (``attr_indptr`` and so on is taken too)
``x_data``, ``x_shape``]
[``num_nodes``]                          one integer; required where there are no features
[``y``] (or ``labels``)                  ``[num_nodes]`` integers, negative = unlabelled and
                                         in no mask; or
                                         ``[num_nodes, num_labels]`` of 0, 1 and NaN
[``train_mask``, ``val_mask``,           ``[num_nodes]`` of booleans, all three or none
``test_mask``]
[``edge_weight``], [``edge_attr``]       ``[num_edges]`` and ``[num_edges, d]`` finite numbers
[``train_pos_edge_label_index``, ...]    the five keys of :mod:`fastglt.data.links`
[``repeated_links``]                     one boolean, see there
======================================== ==========================================================

Numbers that are no integers become float32, which is what models compute with. Edges are taken as
they are: an undirected edge is in the file in both directions. With link keys the task is link
prediction; else ``y`` must be there and decides it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastglt._atomic import atomic_write
from fastglt.data._npz_archive import read_arrays
from fastglt.data._npz_arrays import Arrays
from fastglt.data._own import arrays_of, own_graph
from fastglt.data.forms import to_edge_index
from fastglt.data.loading import LoadedDataset
from fastglt.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch_geometric.data import Data

_SIGNATURE: Final = b"PK"
"""First bytes of every zip file, an empty one too."""


def load_npz(
    path: str | os.PathLike[str],
    *,
    split_seed: int = 0,
    split: Mapping[str, float] | None = None,
    transforms: Iterable[Mapping[str, Any]] | None = None,
) -> LoadedDataset:
    """Load and check a graph from a ``.npz`` file; nothing in it can be run.

    Args:
        path: The file, with the arrays that this module describes.
        split_seed: Seed of the split of the nodes that is drawn where the file has no masks.
        split: What to draw instead of 60 % training and 20 % validation nodes: ``{"train": ...,
            "val": ...}`` or ``{"train_per_class": ..., "val_per_class": ...}``. Replaces masks
            that are there.
        transforms: Records to replay instead of drawing a split, e.g. those of a ticket.

    Returns:
        The graph, named after the file, with its task (by its keys), the usual metric of that
        task and the record of the split.

    Raises:
        InputError: If the file cannot be read, has arrays of objects or unknown names, or if a
            split of the nodes is asked for and edges are predicted.
        GraphError: If an array is missing or malformed; the message names array, row and value.
    """
    file = Path(path)
    data = Arrays(file.name, _read(file)).graph()
    return own_graph(data, file.stem, f"file {file}", split_seed, split, transforms)


def save_npz(data: Data, path: str | os.PathLike[str]) -> None:
    """Write a graph for :func:`load_npz`.

    Args:
        data: A graph with the tensors that this module describes; edges may also be an
            ``EdgeIndex`` or a CSR ``adj_t``, features sparse CSR. When it is loaded again, edges
            and features are plain tensors, and all that is not integer is float32.
        path: The file to write, ending in ``.npz``; it is replaced as a whole.

    Raises:
        InputError: If the path does not end in ``.npz``.
        GraphError: If the graph holds something that the format has no place for; the message
            names it. Delete it from the graph first if it is not needed.
        OutputPathError: If the file cannot be written.
    """
    if Path(path).suffix != ".npz":
        raise InputError(f"path must end in .npz (got {os.fspath(path)!r})")
    contents: dict[str, Any] = dict(arrays_of(to_edge_index(data), keep_sparse=True))
    with atomic_write(path) as temporary, temporary.open("wb") as writer:
        np.savez_compressed(writer, **contents)


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as reader:
            if reader.read(len(_SIGNATURE)) != _SIGNATURE:
                raise InputError("it must be a .npz archive, as numpy.savez writes it")
            arrays = read_arrays(reader, Arrays.IGNORED)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{file} must be a readable .npz file (got {reason})") from error
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    except ValueError as error:
        raise InputError(f"{file} must be a whole .npz archive (got: {error})") from error
    if not arrays:
        raise InputError(f"{file} must be a .npz archive of named arrays (got none)")
    return arrays
