"""The processes that share one search, started by ``torchrun``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from fastglt.errors import RankError


@dataclass(frozen=True)
class Ranks:
    """Which process this is, of how many.

    Attributes:
        rank: From 0.
        size: How many there are; 1 where nothing is shared.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> Ranks:
        """What ``torch.distributed`` says, if it is initialised."""
        if not dist.is_available() or not dist.is_initialized():
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    def share(self, values: Tensor, dim: int = 0) -> Tensor:
        """Every ``size``-th of some values, beginning with this rank's."""
        return values if self.size == 1 else values.narrow(dim, 0, values.size(dim))[
            (slice(None),) * dim + (slice(self.rank, None, self.size),)
        ]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        if self.size > 1:
            with _named_failures():
                dist.all_reduce(values)
        return values

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace the gradients of some parameters by their means over all ranks.

        All of a type travel together: one message costs less than many.
        """
        if self.size == 1:
            return
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            by_type.setdefault(parameter.dtype, []).append(parameter.grad)
        for gradients in by_type.values():
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            self.sum(flat).div_(self.size)
            sizes = [gradient.numel() for gradient in gradients]
            for gradient, mean in zip(gradients, flat.split(sizes), strict=True):
                gradient.copy_(mean.view_as(gradient))

    def agree(self, tensors: Mapping[str, Tensor]) -> None:
        """Compare tensors with those of rank 0.

        Args:
            tensors: Bool masks or numbers by name; the same names and shapes on every rank.

        Raises:
            RankError: If they are not the same on all ranks, or a rank is gone.
        """
        if self.size == 1:
            return
        for name, own in tensors.items():
            first = _packed(own)
            with _named_failures():
                dist.broadcast(first, src=0)
            differs = torch.tensor(float(not torch.equal(first, _packed(own))))
            if float(self.sum(differs.to(own.device))) > 0:
                raise RankError(
                    f"{name} must be the same on all {self.size} ranks, but some differ from those "
                    "of rank 0: all of them need the same data, versions and kind of hardware"
                )


class _named_failures:  # noqa: N801 - reads as a statement
    """Say what it means when a collective operation fails."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RuntimeError):
            raise RankError(
                f"another rank of this search is gone or out of step ({_first_line(error)}); "
                "start it again, with --resume if it wrote checkpoints"
            ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _packed(values: Tensor) -> Tensor:
    """The values as bytes, bools as bits: what travels is an eighth then."""
    if values.dtype != torch.bool:
        return values.detach().contiguous().clone().view(-1).view(torch.uint8)
    flat = values.detach().reshape(-1)
    padded = torch.nn.functional.pad(flat, (0, -flat.numel() % 8)).view(-1, 8)
    bits = torch.arange(8, device=flat.device)
    return (padded.to(torch.uint8) << bits.to(torch.uint8)).sum(dim=1, dtype=torch.uint8)
