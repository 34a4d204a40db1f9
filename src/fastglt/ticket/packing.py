"""How the masks and states of a ticket are laid out as the tensors of its file."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fastglt import _strict_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


def packed_length(count: int) -> int:
    """Bytes that a packed mask takes.

    Args:
        count: Entries of the mask.

    Returns:
        int: 8 entries go into a byte.
    """
    return (count + 7) // 8


def pack_mask(mask: Tensor) -> Tensor:
    """Pack a boolean tensor into bits.

    Args:
        mask: Boolean, of any shape and on any device.

    Returns:
        Tensor: uint8 ``[packed_length(mask.numel())]``, lowest bit first, padded with 0.
    """
    return torch.from_numpy(np.packbits(mask.cpu().numpy().reshape(-1), bitorder="little"))


def unpack_mask(tensors: Mapping[str, Tensor], name: str, shape: list[int]) -> Tensor:
    """Undo :func:`pack_mask`.

    Args:
        tensors: The tensors of a file; ``tensors[name]`` has the right length.
        name: Which of them to unpack.
        shape: Shape of the mask.

    Returns:
        Tensor: The boolean mask.

    Raises:
        ValueError: The padding is not 0.
    """
    packed, count = tensors[name].numpy(), math.prod(shape)
    if count % 8 and packed[-1] >> (count % 8):
        raise ValueError(f"mask {name!r} has bits set after its last entry")
    bits = np.unpackbits(packed, count=count, bitorder="little")
    return torch.from_numpy(bits).bool().reshape(shape)


def to_stored(value: Tensor, mask: Tensor | None) -> Tensor:
    """The form in which an entry of a state dict is stored.

    Args:
        value: The entry.
        mask: If given, only ``value[mask]`` is stored.

    Returns:
        Tensor: A contiguous copy on the CPU (safetensors refuses tied entries sharing memory).
    """
    values = value if mask is None else value[mask.to(value.device)]
    return values.detach().to("cpu", copy=True).contiguous()


def from_stored(tensors: Mapping[str, Tensor], name: str, mask: Tensor | None) -> Tensor:
    """Undo :func:`to_stored`; what was not stored is 0.

    Args:
        tensors: The tensors of a file.
        name: Which of them to restore.
        mask: The mask under which it was stored, if any.

    Returns:
        Tensor: The entry in its full shape.

    Raises:
        ValueError: The number of values is not that of the mask, or a boolean is neither 0 nor 1.
    """
    values = tensors[name]
    if values.dtype == torch.bool and bool((values.view(torch.uint8) > 1).any()):
        raise ValueError(f"tensor {name!r} holds bytes that are neither true nor false")
    if mask is None:
        return values
    kept = int(mask.sum())
    if list(values.shape) != [kept]:
        raise ValueError(
            f"tensor {name!r} must hold the {kept} kept values (got shape {list(values.shape)})"
        )
    # dense[mask] = values would change the bits of a NaN that is the only value.
    return torch.zeros(mask.shape, dtype=values.dtype).masked_scatter_(mask, values)


def checksum(content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the JSON document and every tensor's name, shape and bytes.

    Args:
        content: The document, without its own ``sha256``; the order of keys does not matter.
        tensors: The tensors as stored.

    Returns:
        str: 64 hexadecimal digits.

    Raises:
        InputError: ``content`` has no strict JSON form.
    """
    digest = hashlib.sha256(_strict_json.dumps(content, "ticket", sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"\n{name} {list(tensors[name].shape)}\n".encode())
        digest.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
