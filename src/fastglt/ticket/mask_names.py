"""Weight masks as plain boolean state dicts and in the naming of ``torch.nn.utils.prune``.

Plain: parameter name → boolean mask. In torch's naming a pruned parameter ``conv.weight`` is split
into the buffer ``conv.weight_mask`` (0 and 1 in the parameter's type) and the parameter
``conv.weight_orig``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from fastglt.errors import InputError
from fastglt.gating import tied_names
from fastglt.gating.checks import check_module

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

MaskFormat = Literal["plain", "torch"]

_MASK, _ORIGINAL = "_mask", "_orig"


def masks_from_state_dict(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Read weight masks in either naming.

    Args:
        state: Either parameter name → mask, or a state dict in the naming of
            ``torch.nn.utils.prune``, of which the entries ``<parameter>_mask`` are read and the
            others passed over. Masks are boolean, or numbers that are 0 or 1. PyG's ``Linear``
            writes its masked weight without the mask, which is taken from ``model`` then.
        model: The model that they belong to, itself with ``torch.nn.utils.prune`` applied or not.

    Returns:
        dict[str, Tensor]: Parameter name → boolean mask on the CPU, ``True`` = kept. A parameter
        that modules share has one mask, under its first name.

    Raises:
        InputError: An entry names no parameter, has another shape, holds other values than 0 and
            1, or contradicts the mask of the same parameter under another name; or weights without
            a mask are not 0 where the mask in ``model`` has them pruned.
        ModelError: ``model`` is no module.
    """
    check_module(model)
    names = plain_names(model)
    shapes = {names[key]: list(value.shape) for key, value in _all_parameters(model)}
    first = plain_tied_names(model)
    masks: dict[str, Tensor] = {}
    for key, value in _mask_entries(state, model).items():
        parameter = key if key in shapes else _without(_MASK, key)
        if parameter not in shapes:
            raise InputError(
                f"masks[{key!r}] names no parameter of the model (it has {', '.join(shapes)})"
            )
        mask = _checked(key, value, shapes[parameter])
        name = first.get(parameter, parameter)
        if name in masks and not torch.equal(masks[name], mask):
            raise InputError(
                f"masks[{key!r}] must equal the mask of {name!r}, which is the same parameter"
            )
        masks[name] = mask
    return masks


def plain_names(model: nn.Module) -> dict[str, str]:
    """Each name of each parameter as it is without ``torch.nn.utils.prune``."""
    buffers = {key for key, _ in model.named_buffers(remove_duplicate=False)}
    plain = {key: _without(_ORIGINAL, key) for key, _ in _all_parameters(model)}
    return {key: name if name + _MASK in buffers else key for key, name in plain.items()}


def plain_tied_names(model: nn.Module) -> dict[str, str]:
    """:func:`~fastglt.gating.tied_names` as they are without ``torch.nn.utils.prune``."""
    names = plain_names(model)
    return {names[alias]: names[first] for alias, first in tied_names(model).items()}


def masks_in_model(model: nn.Module) -> dict[str, Tensor]:
    """The masks that ``torch.nn.utils.prune`` keeps in a model, as ``<parameter>_mask``."""
    buffers = dict(model.named_buffers(remove_duplicate=False))
    masks = {name + _MASK for key, name in plain_names(model).items() if key != name}
    return {key: buffers[key] for key in sorted(masks)}


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """A model's state dict as it would be without ``torch.nn.utils.prune``: nothing is masked."""
    names = plain_names(model)
    originals = {
        names[key]: value.detach() for key, value in _all_parameters(model) if key != names[key]
    }
    return state_without_masks(model.state_dict(), masked=False) | originals


def state_without_masks(state: Mapping[str, Tensor], *, masked: bool) -> dict[str, Tensor]:
    """Undo the naming of ``torch.nn.utils.prune`` in a state dict.

    Args:
        state: Any state dict.
        masked: Whether to put the masks on the parameters or take these as they were before.

    Returns:
        dict[str, Tensor]: ``<parameter>_orig``, under its mask or not, as ``<parameter>``;
        everything else but the masks as it is.
    """
    masks = {key: _without(_MASK, key) for key in state if key.endswith(_MASK)}
    pruned = {name for name in masks.values() if name + _ORIGINAL in state}
    plain = {}
    for key, value in state.items():
        name = _without(_ORIGINAL, key)
        if name != key and name in pruned:
            plain[name] = value.masked_fill(state[name + _MASK] == 0, 0) if masked else value
        elif masks.get(key) not in pruned:
            plain[key] = value
    return plain


def named_masks(
    masks: Mapping[str, Tensor], state: Mapping[str, Tensor], form: str, originals: bool
) -> dict[str, Tensor]:
    """Write weight masks in either naming; see :meth:`fastglt.Ticket.mask_state_dict`."""
    if form not in ("plain", "torch"):
        raise InputError(f'format must be "plain" or "torch" (got {form!r})')
    if form == "plain":
        if originals:
            raise InputError('originals must be False for format="plain", which holds masks only')
        return {name: mask.clone() for name, mask in masks.items()}
    named = {name + _MASK: mask.to(state[name].dtype) for name, mask in masks.items()}
    if not originals:
        return named
    values = {name + _ORIGINAL if name in masks else name: state[name] for name in state}
    return {name: value.clone() for name, value in values.items()} | named


def _mask_entries(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The entries that are masks, and with them those that the model does not have at all."""
    parameters = set(plain_names(model).values())
    known = parameters | model.state_dict().keys()
    in_torch_naming = {
        key for key in state if key.endswith(_MASK) and _without(_MASK, key) in known
    }
    left_out = _masks_left_out(state, model)
    passed_over = known - parameters
    if in_torch_naming or left_out:
        passed_over = known | {name + _ORIGINAL for name in known}
    given = {
        key: value
        for key, value in state.items()
        if key in in_torch_naming or key not in passed_over or value.dtype == torch.bool
    }
    return given | left_out


def _masks_left_out(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Masks in a pruned model of weights that the state dict has without them."""
    masks = {}
    for key, mask in masks_in_model(model).items():
        weight = state.get(_without(_MASK, key))
        if key in state or not isinstance(weight, torch.Tensor) or _is_binary(weight):
            continue
        if weight.shape != mask.shape:
            continue
        if bool((weight.to(mask.device)[mask == 0] != 0).any()):
            raise InputError(
                f"masks[{_without(_MASK, key)!r}] holds weights that the model has pruned; give "
                "the state dict of that model, or its masks"
            )
        masks[key] = mask
    return masks


def _all_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return list(model.named_parameters(remove_duplicate=False))


def _checked(key: str, value: object, shape: list[int]) -> Tensor:
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        found = value.layout if isinstance(value, torch.Tensor) else type(value).__qualname__
        raise InputError(f"masks[{key!r}] must be a dense tensor (got {found})")
    if list(value.shape) != shape:
        raise InputError(f"masks[{key!r}] must have shape {shape} (got {list(value.shape)})")
    if not _is_binary(value):
        other = value[(value != 0) & (value != 1)]
        raise InputError(
            f"masks[{key!r}] must hold only 0 and 1 (got {other[0].item()}); the masks of a model "
            "that torch.nn.utils.prune is at work in are in dict(model.named_buffers()), also "
            "where its state dict has none"
        )
    return value.detach().to("cpu", torch.bool, copy=True)


def _is_binary(value: Tensor) -> bool:
    return bool(((value == 0) | (value == 1)).all())


def _without(suffix: str, key: str) -> str:
    return key[: -len(suffix)] if key.endswith(suffix) else key
