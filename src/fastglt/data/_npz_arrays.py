"""From the arrays of a ``.npz`` file to a graph, one kind of array a method."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch_geometric.data import Data

from fastglt._memory import check_fits
from fastglt.data.links import LINK_KEYS
from fastglt.errors import GraphError, InputError, UnknownNameError, shown

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]

_CSR = ("indptr", "indices", "data", "shape")
_BYTES_A_NODE = 64
"""What the checks of a graph take for a node."""
_MASKS = ("train_mask", "val_mask", "test_mask")


class Arrays:
    """The arrays of one file, read but not yet believed.

    Args:
        file: Name of the file, for the messages.
        arrays: The arrays by name.

    Raises:
        UnknownNameError: If an array has a name that means nothing, for it may be a misspelling.
        InputError: If two names for the same thing are both there.
    """

    # What gnn-benchmark's files say besides, partly as pickled objects.
    IGNORED: ClassVar[tuple[str, ...]] = (
        *("node_names", "attr_names", "class_names", "metadata"),
        *("idx_to_node", "idx_to_attr", "idx_to_class"),
    )
    WRITTEN: ClassVar[tuple[str, ...]] = (
        *("edge_index", "edge_weight", "edge_attr", "x", "y", *_MASKS, *LINK_KEYS),
    )
    _KNOWN: ClassVar[tuple[str, ...]] = (
        *(*WRITTEN, "num_nodes", "labels", "repeated_links"),
        *(f"{prefix}_{part}" for prefix in ("adj", "x", "attr") for part in _CSR),
    )

    def __init__(self, file: str, arrays: dict[str, Array]) -> None:
        self._arrays = arrays
        for key in self._arrays:
            if key not in self._KNOWN:
                raise UnknownNameError(f"array in {file}", key, self._KNOWN)
        for names in (("edge_index", "adj_indptr"), ("x", "x_indptr", "attr_indptr")):
            self._only_one(names)
        self._only_one(("y", "labels"))

    def graph(self) -> Data:
        """Put the graph together; the validator has yet to see it.

        Raises:
            GraphError: If an array is missing, has the wrong type or shape, or CSR parts do not
                fit each other; the message names array, row and value.
        """
        data = Data()
        features = self._features()
        if features is not None:
            data.x = features
        data.num_nodes = self._num_nodes(features)
        check_fits(_BYTES_A_NODE * data.num_nodes, f"a graph of {data.num_nodes} nodes")
        data.edge_index, weight = self._edges(data.num_nodes)
        if weight is not None:
            data.edge_weight = weight
        for key in ("edge_weight", "edge_attr"):
            if key in self._arrays:
                data[key] = self._floats(key)
        for key in ("y", "labels"):
            if key in self._arrays:
                data.y = self._labels(key)
        for key in _MASKS:
            if key in self._arrays:
                data[key] = self._mask(key)
        for key in LINK_KEYS:
            if key in self._arrays:
                data[key] = self._integers(key)
        if "repeated_links" in self._arrays:
            data.repeated_links = self._flag("repeated_links")
        return data

    def _only_one(self, names: tuple[str, ...]) -> None:
        there = [name for name in names if name in self._arrays]
        if len(there) > 1:
            raise InputError(f"only one of {' and '.join(there)} must be in the file (got both)")

    def _edges(self, num_nodes: int) -> tuple[Tensor, Tensor | None]:
        if "edge_index" in self._arrays:
            return self._integers("edge_index"), None
        if "adj_indptr" not in self._arrays:
            raise GraphError("edge_index is missing from the file; or give adj_indptr, adj_indices")
        pointers, columns, values = self._csr("adj", (num_nodes, num_nodes))
        source = torch.repeat_interleave(torch.arange(num_nodes), pointers.diff())
        edge_index = torch.stack([source, columns])
        return edge_index, None if values is None or bool((values == 1).all()) else values

    def _features(self) -> Tensor | None:
        if "x" in self._arrays:
            return self._floats("x")
        for prefix in ("x", "attr"):
            if f"{prefix}_indptr" in self._arrays:
                stated = self._integers(f"{prefix}_shape")
                shape = stated.tolist()
                if stated.shape != (2,) or min(shape) < 1:
                    raise GraphError(
                        f"{prefix}_shape must be [num_nodes, num_features] (got {shown(shape)})"
                    )
                pointers, columns, values = self._csr(prefix, (shape[0], shape[1]))
                if values is None:
                    raise GraphError(f"{prefix}_data is missing from the file")
                check_fits(8 * math.prod(shape), f"the dense form of {prefix}")
                parts = values.numpy(), columns.numpy(), pointers.numpy()
                return torch.from_numpy(csr_array(parts, shape=(shape[0], shape[1])).toarray())
        return None

    def _num_nodes(self, features: Tensor | None) -> int:
        if "num_nodes" in self._arrays:
            stated = self._integers("num_nodes")
            if stated.numel() != 1:
                raise GraphError(f"num_nodes must be one integer (got shape {list(stated.shape)})")
            if features is not None and features.size(0) != int(stated):
                raise GraphError(
                    f"x must have num_nodes = {int(stated)} rows (got {features.size(0)})"
                )
            return int(stated)
        if features is not None:
            return int(features.size(0))
        if "adj_indptr" in self._arrays:
            return len(self._arrays["adj_indptr"]) - 1
        raise GraphError("num_nodes is missing from the file; it is needed where there is no x")

    def _csr(self, prefix: str, shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Row pointers, columns and values of a CSR matrix whose parts fit each other."""
        pointers = self._integers(f"{prefix}_indptr")
        columns = self._integers(f"{prefix}_indices")
        if prefix == "adj" and "adj_shape" in self._arrays:
            stated = self._integers("adj_shape").tolist()
            if stated != list(shape):
                raise GraphError(f"adj_shape must be {list(shape)} (got {stated})")
        if pointers.dim() != 1 or pointers.numel() != shape[0] + 1:
            raise GraphError(
                f"{prefix}_indptr must have shape [{shape[0] + 1}] (got {list(pointers.shape)})"
            )
        falls = (pointers.diff() < 0).nonzero()
        if falls.numel():
            row = int(falls[0])
            raise GraphError(
                f"{prefix}_indptr must not fall (got {int(pointers[row])} and then "
                f"{int(pointers[row + 1])} at row {row})"
            )
        if int(pointers[0]) != 0 or int(pointers[-1]) != columns.numel() or columns.dim() != 1:
            raise GraphError(
                f"{prefix}_indptr must go from 0 to the length of {prefix}_indices, "
                f"{columns.numel()} (got {int(pointers[0])} to {int(pointers[-1])})"
            )
        bad = ((columns < 0) | (columns >= shape[1])).nonzero()
        if bad.numel():
            entry = int(bad[0])
            row = int(torch.searchsorted(pointers, entry, right=True)) - 1
            raise GraphError(
                f"{prefix}_indices must be in [0, {shape[1] - 1}] "
                f"(got {int(columns[entry])} at row {row}, entry {entry})"
            )
        if f"{prefix}_data" not in self._arrays:
            return pointers, columns, None
        values = self._floats(f"{prefix}_data")
        if values.shape != columns.shape:
            raise GraphError(
                f"{prefix}_data must have shape {list(columns.shape)} (got {list(values.shape)})"
            )
        return pointers, columns, values

    def _integers(self, key: str) -> Tensor:
        array = self._present(key)
        if array.dtype.kind not in "iu":
            raise GraphError(f"{key} must hold integers (got {array.dtype})")
        wide = self._as_type(key, np.dtype(np.int64))
        if array.dtype == np.uint64 and bool((array > np.iinfo(np.int64).max).any()):
            raise GraphError(f"{key} must fit 64-bit signed integers (got {array.max()})")
        return torch.from_numpy(wide)

    def _floats(self, key: str) -> Tensor:
        array = self._present(key)
        if array.dtype.kind not in "iufb":
            raise GraphError(f"{key} must hold numbers (got {array.dtype})")
        with np.errstate(over="ignore"):  # becomes infinite, which the validator refuses
            return torch.from_numpy(self._as_type(key, np.dtype(np.float32)))

    def _labels(self, key: str) -> Tensor:
        array = self._present(key)
        if array.ndim == 2 and array.shape[1] > 1:
            return self._floats(key)
        if array.ndim not in (1, 2):
            raise GraphError(
                f"{key} must have shape [num_nodes] or [num_nodes, num_labels] "
                f"(got {list(array.shape)})"
            )
        return self._integers(key).reshape(-1)

    def _mask(self, key: str) -> Tensor:
        array = self._present(key)
        # The bytes of what claims to be boolean may be others than 0 and 1.
        numbers = array.view(np.uint8) if array.dtype.kind == "b" else array
        if array.dtype.kind not in "iub":
            raise GraphError(f"{key} must hold booleans (got {array.dtype})")
        if numbers.size and (numbers.min() < 0 or numbers.max() > 1):
            row = np.argwhere((numbers < 0) | (numbers > 1))[0]
            raise GraphError(
                f"{key} must hold booleans (got {numbers[tuple(row)]} at row {row[0]})"
            )
        return torch.from_numpy(self._as_type(key, np.dtype(bool)))

    def _flag(self, key: str) -> bool:
        array = self._present(key)
        if array.dtype.kind != "b" or array.size != 1:
            raise GraphError(
                f"{key} must be one boolean (got {array.dtype} of shape {list(array.shape)})"
            )
        return bool(array.item())

    def _present(self, key: str) -> Array:
        if key not in self._arrays:
            raise GraphError(f"{key} is missing from the file")
        return self._arrays[key]

    def _as_type(self, key: str, dtype: np.dtype[Any]) -> Array:
        """An array in rows of a type, the one that was read where it is so already."""
        return np.ascontiguousarray(self._arrays[key].astype(dtype, copy=False))
