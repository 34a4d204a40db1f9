"""Fingerprints of a graph and of a model: is this what the ticket was found on?

A graph is known by its node count and its edge list, a model by the names and shapes of its
parameters and the types of its modules; values never enter. The digest of the features is advisory.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.modules.lazy import LazyModuleMixin

from fastglt.errors import GraphError
from fastglt.gating.checks import check_module
from fastglt.gating.parameters import check_initialized
from fastglt.ticket.mask_names import plain_names, plain_tied_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

_ROWS_AT_ONCE = 1024


def graph_fingerprint(
    edge_index: Tensor, num_nodes: int, x: Tensor | None = None
) -> dict[str, Any]:
    """Describe a graph so that another one can be told from it.

    Args:
        edge_index: Edges ``[2, num_edges]``, any integer type; their order matters, because masks
            refer to it.
        num_nodes: Number of nodes, isolated ones included.
        x: Node features, dense or sparse; both forms of the same features have the same digest.

    Returns:
        dict[str, Any]: ``num_nodes``, ``num_edges``, ``edge_digest`` (SHA-256 of the edge list as
        little-endian int64) and ``feature_digest`` (SHA-256 of shape and float32 values, or None).

    Raises:
        GraphError: An argument is of the wrong type or shape.
    """
    _check_graph(edge_index, num_nodes, x)
    edges = edge_index.detach().to(device="cpu", dtype=torch.int64).contiguous()
    return {
        "num_nodes": num_nodes,
        "num_edges": edges.size(1),
        "edge_digest": hashlib.sha256(_little_endian(edges)).hexdigest(),
        "feature_digest": None if x is None else _feature_digest(x),
    }


def model_fingerprint(model: torch.nn.Module) -> dict[str, Any]:
    """Describe a model so that one of another architecture can be told from it.

    Classes are named by ``__qualname__`` without the module they live in: the same class may be
    found in ``__main__`` today and in an imported file tomorrow. Buffers and values are left out.

    Args:
        model: Any module whose parameters have their shapes already, named as they are without
            ``torch.nn.utils.prune``.

    Returns:
        dict[str, Any]: ``parameters`` (name → shape; shared ones once), ``modules`` (name → class,
        the model itself under ``""``) and ``tied`` (further name of a shared parameter → first).

    Raises:
        ModelError: ``model`` is no module or has lazy parameters without a shape.
    """
    check_module(model)
    check_initialized(model)
    names = plain_names(model)
    return {
        "parameters": {names[key]: list(value.shape) for key, value in model.named_parameters()},
        "modules": {name: _kind(module).__qualname__ for name, module in model.named_modules()},
        "tied": plain_tied_names(model),
    }


def compare_graphs(ticket: Mapping[str, Any], this: Mapping[str, Any]) -> str | None:
    """Name the most telling difference between two graph fingerprints, features aside.

    Args:
        ticket: Fingerprint in the ticket.
        this: Fingerprint of the graph at hand.

    Returns:
        str | None: One sentence, or None where both describe the same graph.
    """
    if ticket["num_nodes"] != this["num_nodes"]:
        return f"the ticket's graph has {ticket['num_nodes']} nodes, this one {this['num_nodes']}"
    if ticket["num_edges"] != this["num_edges"]:
        return f"the ticket's graph has {ticket['num_edges']} edges, this one {this['num_edges']}"
    if ticket["edge_digest"] != this["edge_digest"]:
        return (
            f"both graphs have {this['num_nodes']} nodes and {this['num_edges']} edges, but the "
            "edge lists differ; the same edges in another order count as different"
        )
    return None


def compare_features(ticket: Mapping[str, Any], this: Mapping[str, Any]) -> str | None:
    """Say whether two graph fingerprints have different node features (advisory).

    Args:
        ticket: Fingerprint in the ticket.
        this: Fingerprint of the graph at hand.

    Returns:
        str | None: One sentence, or None where the features agree.
    """
    if ticket["feature_digest"] == this["feature_digest"]:
        return None
    if this["feature_digest"] is None:
        return "the ticket's graph has node features, this one has none"
    if ticket["feature_digest"] is None:
        return "the ticket's graph has no node features, this one has some"
    return "the node features differ from those of the ticket's graph"


def compare_models(ticket: Mapping[str, Any], this: Mapping[str, Any]) -> str | None:
    """Name the most telling difference between two model fingerprints.

    Args:
        ticket: Fingerprint in the ticket.
        this: Fingerprint of the model at hand.

    Returns:
        str | None: One sentence that also counts the further differences, or None.
    """
    differences = [
        *_changed_modules(ticket["modules"], this["modules"]),
        *_entry_differences("parameter", ticket["parameters"], this["parameters"]),
        *_one_sided("module", ticket["modules"], this["modules"]),
    ]
    return _summary(differences)


def compare_entries(
    kind: str, ticket: Mapping[str, Sequence[int]], this: Mapping[str, Sequence[int]]
) -> str | None:
    """Name the most telling difference between two tables of shapes.

    Args:
        kind: What the entries are, e.g. ``"state dict entry"``.
        ticket: Shapes in the ticket, by name.
        this: Shapes in the model at hand, by name.

    Returns:
        str | None: One sentence that also counts the further differences, or None.
    """
    return _summary(list(_entry_differences(kind, ticket, this)))


def _summary(differences: list[str]) -> str | None:
    if not differences:
        return None
    further = len(differences) - 1
    plural = "s" if further > 1 else ""
    return differences[0] + (f" (and {further} further difference{plural})" if further else "")


def _changed_modules(ticket: Mapping[str, str], this: Mapping[str, str]) -> Iterator[str]:
    for name, kind in ticket.items():
        if this.get(name, kind) != kind:
            what = f"module {name!r}" if name else "the model"
            yield f"{what} is a {kind} in the ticket and a {this[name]} here"


def _entry_differences(
    kind: str, ticket: Mapping[str, Sequence[int]], this: Mapping[str, Sequence[int]]
) -> Iterator[str]:
    for name, shape in ticket.items():
        if name in this and list(this[name]) != list(shape):
            yield (
                f"{kind} {name!r} has shape {list(shape)} in the ticket and "
                f"{list(this[name])} in this model"
            )
    yield from _one_sided(kind, ticket, this)


def _one_sided(kind: str, ticket: Mapping[str, Any], this: Mapping[str, Any]) -> Iterator[str]:
    for name in ticket:
        if name not in this:
            yield f"{kind} {name!r} is in the ticket but not in this model"
    for name in this:
        if name not in ticket:
            yield f"{kind} {name!r} is in this model but not in the ticket"


def _check_graph(edge_index: Tensor, num_nodes: int, x: Tensor | None) -> None:
    if not isinstance(edge_index, torch.Tensor) or edge_index.layout != torch.strided:
        raise GraphError("edge_index must be a dense tensor [2, num_edges]")
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise GraphError(f"edge_index must be [2, num_edges] (got {list(edge_index.shape)})")
    if edge_index.is_floating_point() or edge_index.is_complex() or edge_index.dtype == torch.bool:
        raise GraphError(f"edge_index must hold integers (got {edge_index.dtype}); use .long()")
    if not isinstance(num_nodes, int) or isinstance(num_nodes, bool) or num_nodes < 0:
        raise GraphError(f"num_nodes must be an integer >= 0 (got {num_nodes!r})")
    if x is not None and not isinstance(x, torch.Tensor):
        raise GraphError(f"x must be a torch.Tensor or None (got {type(x).__qualname__})")


def _kind(module: torch.nn.Module) -> type[torch.nn.Module]:
    """The class of a module, of one of torch's lazy ones that which it becomes by its first run."""
    if isinstance(module, LazyModuleMixin) and module.cls_to_become is not None:
        return module.cls_to_become
    return type(module)


def _little_endian(values: Tensor) -> memoryview:
    array = values.numpy().reshape(-1)
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data


def _feature_digest(x: Tensor) -> str:
    digest = hashlib.sha256(repr(list(x.shape)).encode())
    for rows in _dense_rows(x.detach()):
        # Adding 0 turns -0 into +0, which a sparse form does not tell apart.
        values = rows.to(device="cpu", dtype=torch.float32).contiguous() + 0.0
        digest.update(_little_endian(values))
    return digest.hexdigest()


def _dense_rows(x: Tensor) -> Iterator[Tensor]:
    """``x`` as dense blocks of rows, so that wide sparse features never become dense as a whole."""
    if x.layout == torch.strided:
        yield x
        return
    csr = x if x.layout == torch.sparse_csr else x.to_sparse_csr()
    crow, col, values = csr.crow_indices(), csr.col_indices(), csr.values()
    for first in range(0, csr.size(0), _ROWS_AT_ONCE):
        bounds = crow[first : first + _ROWS_AT_ONCE + 1]
        entries = slice(int(bounds[0]), int(bounds[-1]))
        row = torch.repeat_interleave(torch.arange(len(bounds) - 1, device=x.device), bounds.diff())
        block = torch.zeros(len(bounds) - 1, csr.size(1), dtype=values.dtype, device=x.device)
        yield block.index_put_((row, col[entries].long()), values[entries], accumulate=True)
