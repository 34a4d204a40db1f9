"""Do the parts of a ticket fit together?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from fastglt.errors import InputError
from fastglt.ticket import document
from fastglt.ticket.edge_rule import check_edge_rule
from fastglt.ticket.fingerprint import compare_graphs, graph_fingerprint

if TYPE_CHECKING:
    from torch import Tensor

    from fastglt.ticket.content import TicketContent


def check_ticket(ticket: TicketContent) -> None:
    """Refuse a ticket whose parts contradict each other.

    Args:
        ticket: The ticket.

    Raises:
        InputError: The message names the part at fault.
    """
    _check_fingerprints(ticket.graph, ticket.model)
    _check_mask("edge_keep", ticket.edge_keep, [ticket.graph["num_edges"]])
    _check_states(ticket.init_state, ticket.trained_state)
    _check_parameters(ticket.model["parameters"], ticket.trained_state)
    _check_tied(ticket)
    for name, mask in ticket.weight_masks.items():
        if name not in ticket.trained_state:
            raise InputError(f"weight_masks[{name!r}] names no entry of trained_state")
        trained = ticket.trained_state[name]
        _check_mask(f"weight_masks[{name!r}]", mask, list(trained.shape))
        _check_pruned_is_zero(f"trained_state[{name!r}]", trained, mask)
    for name in ("edge_sparsity", "weight_sparsity"):
        _check_share(f"metrics[{name!r}]", ticket.metrics.get(name, 0.0))
    if ticket.edge_weight is not None:
        _check_edge_weight(ticket.edge_weight, int(ticket.edge_keep.count_nonzero()))
    if ticket.edge_list is not None:
        _check_edge_list(ticket.edge_list, ticket.graph)
    check_edge_rule(ticket.edge_rule)


def _check_fingerprints(graph: object, model: object) -> None:
    for name, kind, content in (
        ("graph", document.GraphFingerprint, graph),
        ("model", document.ModelFingerprint, model),
    ):
        try:
            document.validate(kind, content)
        except ValueError as error:
            raise InputError(f"{name} must be a fingerprint of it: {error}") from error


def _check_mask(where: str, mask: object, shape: list[int]) -> None:
    if not isinstance(mask, torch.Tensor) or mask.dtype != torch.bool:
        found = mask.dtype if isinstance(mask, torch.Tensor) else type(mask).__qualname__
        raise InputError(f"{where} must be a boolean tensor (got {found})")
    if list(mask.shape) != shape:
        raise InputError(f"{where} must have shape {shape} (got {list(mask.shape)})")


def _check_states(init: dict[str, Tensor], trained: dict[str, Tensor]) -> None:
    if init.keys() != trained.keys():
        name = min(init.keys() ^ trained.keys())
        raise InputError(
            f"init_state and trained_state must have the same names ({name!r} differs)"
        )
    for where, state in (("init_state", init), ("trained_state", trained)):
        for name, value in state.items():
            _check_storable(f"{where}[{name!r}]", value)
    for name, value in init.items():
        other = trained[name]
        if value.shape != other.shape or value.dtype != other.dtype:
            raise InputError(
                f"init_state[{name!r}] is {value.dtype} {list(value.shape)} and "
                f"trained_state[{name!r}] is {other.dtype} {list(other.shape)}; must be the same"
            )


def _check_storable(where: str, value: object) -> None:
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        found = value.layout if isinstance(value, torch.Tensor) else type(value).__qualname__
        raise InputError(f"{where} must be a dense tensor (got {found})")
    if value.dtype not in document.DTYPES.values():
        raise InputError(f"{where} has {value.dtype}, which a ticket file cannot hold")


def _check_parameters(parameters: dict[str, list[int]], state: dict[str, Tensor]) -> None:
    for name, shape in parameters.items():
        if name not in state or list(state[name].shape) != list(shape):
            raise InputError(f"parameter {name!r} of shape {shape} is not in the state dicts")


def _check_tied(ticket: TicketContent) -> None:
    for alias, first in ticket.model.get("tied", {}).items():
        if alias in ticket.weight_masks:
            raise InputError(f"weight_masks[{alias!r}] must have the parameter's name {first!r}")
        for where in ("init_state", "trained_state"):
            state: dict[str, Tensor] = getattr(ticket, where)
            if alias not in state or not _same_values(state[alias], state[first]):
                raise InputError(
                    f"{where}[{alias!r}] must equal {where}[{first!r}], which is the same parameter"
                )


def _same_values(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


def _check_edge_weight(weight: object, num_kept: int) -> None:
    if not isinstance(weight, torch.Tensor) or not weight.is_floating_point():
        found = weight.dtype if isinstance(weight, torch.Tensor) else type(weight).__qualname__
        raise InputError(f"edge_weight must be a floating-point tensor (got {found})")
    _check_storable("edge_weight", weight)
    if list(weight.shape) != [num_kept]:
        raise InputError(
            f"edge_weight must have shape [{num_kept}], one for each kept edge "
            f"(got {list(weight.shape)})"
        )
    if not bool(weight.isfinite().all()):
        raise InputError("edge_weight must be finite (got NaN or infinity)")


def _check_edge_list(edge_list: Tensor, graph: dict[str, Any]) -> None:
    this = graph_fingerprint(edge_list, graph["num_nodes"])
    if difference := compare_graphs(graph, this):
        raise InputError(f"edge_list must be that of the searched graph: {difference}")


def _check_pruned_is_zero(where: str, value: Tensor, mask: Tensor) -> None:
    revived = int(torch.count_nonzero(value[~mask.to(value.device)]))
    if revived:
        raise InputError(
            f"{where} must be exactly 0 where its mask is False (got {revived} other values); "
            "apply the mask after the last optimizer step"
        )


def _check_share(where: str, value: Any) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 <= value <= 1:
        raise InputError(f"{where} must be a number in [0, 1] (got {value!r})")
