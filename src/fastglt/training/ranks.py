"""The processes that share one search, started by ``torchrun``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fastglt.errors import InputError, RankError

PATIENCE = timedelta(minutes=10)
"""How long a rank waits for another one."""


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

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        if self.size > 1:
            with _named_failures():
                dist.all_reduce(values)
        return values

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace the gradients of some parameters by their means over all ranks."""
        if self.size == 1:
            return
        gradients = []
        trained = list(parameters)
        has = torch.tensor([float(p.grad is not None) for p in trained], device=trained[0].device)
        for parameter, count in zip(trained, self.sum(has).tolist(), strict=True):
            if count == 0:  # no rank uses it, so that none decays it either
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        self._average(gradients)

    def average_statistics(self, model: nn.Module) -> None:
        """Replace the running statistics of a model's normalisation layers by means over all ranks.

        Each rank has seen other nodes; with statistics of its own it would predict something else,
        and ranks would not stop at the same epoch.
        """
        if self.size > 1:
            statistics = [
                buffer
                for name, buffer in model.named_buffers()
                if name.rpartition(".")[2] in ("running_mean", "running_var")
            ]
            self._average(statistics)

    def _average(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their means. All of a type travel together, as one message."""
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_type.setdefault(tensor.dtype, []).append(tensor)
        for alike in by_type.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in alike])
            self.sum(flat).div_(self.size)
            sizes = [tensor.numel() for tensor in alike]
            for tensor, mean in zip(alike, torch.split(flat, sizes), strict=True):
                tensor.copy_(mean.view_as(tensor))

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


@contextmanager
def _named_failures() -> Iterator[None]:
    """Say what it means when a collective operation fails."""
    try:
        yield
    except RuntimeError as error:
        raise RankError(
            f"another rank of this search is gone or out of step ({_reason(error)}); start it "
            "again, with --resume if it wrote checkpoints"
        ) from error


@contextmanager
def joined_ranks(device: str) -> Iterator[Ranks]:
    """Join the other processes that ``torchrun`` started, within the context, if there are any.

    Args:
        device: Where to compute; it decides how processes talk, by NCCL on GPUs and else by gloo.

    Raises:
        InputError: If this rank has no GPU of its own.
        RankError: If they cannot be joined.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
        yield Ranks()
        return
    on_gpu = device.startswith("cuda")
    if on_gpu:
        _take_gpu(device)
    with _named_failures():
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        yield Ranks.current()
    finally:
        dist.destroy_process_group()


def _take_gpu(device: str) -> None:
    """Let "cuda" be the GPU of this rank from here on."""
    own, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if device != "cuda":
        raise InputError(
            f"device must be cuda under torchrun, where each process takes a GPU of its own "
            f"(got {device!r})"
        )
    if own >= count:
        raise InputError(
            f"every process of a machine needs a GPU of its own: this is number {own + 1} and "
            f"there are {count}; start fewer with --nproc-per-node, or compute with --device cpu"
        )
    torch.cuda.set_device(own)


def _reason(error: BaseException) -> str:
    """The first sentence, without the place in torch's sources."""
    lines = re.sub(r"^\[[^]]*\]\s*", "", str(error).strip()).splitlines()
    return re.split(r"[.!?](?:\s|$)", lines[0])[0] if lines else type(error).__name__


def _packed(values: Tensor) -> Tensor:
    """The values as bytes, bools as bits: what travels is an eighth then."""
    if values.dtype != torch.bool:
        return values.detach().contiguous().clone().view(-1).view(torch.uint8)
    flat = values.detach().reshape(-1)
    padded = torch.nn.functional.pad(flat, (0, -flat.numel() % 8)).view(-1, 8)
    bits = torch.arange(8, device=flat.device)
    return (padded.to(torch.uint8) << bits.to(torch.uint8)).sum(dim=1, dtype=torch.uint8)
