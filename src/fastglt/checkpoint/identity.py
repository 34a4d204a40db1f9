"""What a run depends on, so that it is not resumed with anything else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch_geometric.data import Data

from fastglt import _strict_json

DIGESTS = {
    "model.weights": "the initial weights",
    "teacher": "the teacher",
    "init": "init",
}
"""What digests are of, for messages; those of the graph are named by its attributes."""
_MOST_NAMED = 3
_LONG = 40


def identity_of(
    asked: Mapping[str, Any],
    model: nn.Module,
    data: Data,
    init: Mapping[str, Tensor] | None,
    teacher: nn.Module | Tensor | None,
) -> dict[str, Any]:
    """A JSON-able description of everything that decides what comes out of a run.

    Values of tensors enter as SHA-256 digests. What cannot be used at all is left out: it is
    refused elsewhere.

    Args:
        asked: Settings and the like, JSON-able.
        model: At its initial weights.
        data: The graph.
        init: The initial state dict of a trained model.
        teacher: One of the caller's own.
    """
    result = dict(asked)
    if isinstance(model, nn.Module):
        result["model"] = _model(model)
    if isinstance(data, Data):
        result["graph"] = dict(_graph(data))
    if isinstance(init, Mapping):
        result["init"] = _digest(sorted(init.items()))
    if isinstance(teacher, nn.Module):
        result["teacher"] = _digest(teacher.state_dict().items())
    elif isinstance(teacher, Tensor):
        result["teacher"] = _digest([("", teacher)])
    # As it will be read back, where tuples are lists.
    found: dict[str, Any] = _strict_json.loads(_strict_json.dumps(result, "task and settings"))
    return found


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """What of a run is not as it was: the first few places, with values where they are short.

    Args:
        there: What a checkpoint is of.
        here: What is to be run.
    """
    old, new = dict(_leaves(there)), dict(_leaves(here))
    places = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if not places:
        return None
    named = [_named(name, old.get(name), new.get(name)) for name in places[:_MOST_NAMED]]
    further = len(places) - len(named)
    return ", ".join(named) + (f" and {further} more" if further else "")


def _model(model: nn.Module) -> dict[str, Any]:
    state = model.state_dict()
    known = {name: each for name, each in state.items() if not is_lazy(each)}
    return {
        "modules": {name: type(module).__qualname__ for name, module in model.named_modules()},
        "shapes": {
            name: list(each.shape) for name, each in known.items() if isinstance(each, Tensor)
        },
        "weights": _digest(known.items()),
    }


def _graph(data: Data) -> Iterator[tuple[str, Any]]:
    yield "num_nodes", data.num_nodes
    for name, value in sorted(data.to_dict().items()):
        if isinstance(value, Tensor):
            yield name, _digest([("", value)])


def _digest(tensors: Iterable[tuple[str, Any]]) -> str:
    digest = hashlib.sha256()
    for name, value in tensors:
        if not isinstance(value, Tensor):
            continue
        for part in _dense_parts(value.detach().as_subclass(Tensor)):
            digest.update(f"\n{name} {part.dtype} {list(part.shape)}\n".encode())
            flat = part.to("cpu").contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _dense_parts(value: Tensor) -> tuple[Tensor, ...]:
    if value.layout == torch.sparse_csr:
        return value.crow_indices(), value.col_indices(), value.values()
    if value.layout == torch.sparse_coo:
        coalesced = value.coalesce()
        return coalesced.indices(), coalesced.values()
    return (value,)


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, each in value.items():
        if isinstance(each, Mapping):
            yield from _leaves(each, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", each


def _named(name: str, old: Any, new: Any) -> str:
    values = f"{old!r} there, {new!r} here"
    if name in DIGESTS or len(values) > 2 * _LONG:
        return DIGESTS.get(name, name)
    return f"{name} ({values})"
