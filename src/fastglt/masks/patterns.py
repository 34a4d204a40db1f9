"""Patterns that kept weights must follow, for kernels that are fast on such weights only.

A pattern says which sets of weights may be kept, never how many: counts stay exact. To add one,
write a subclass of :class:`Pattern` and let :func:`parse_pattern` make it.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastglt.masks.selection import num_grown, select_top, swap


class Pattern(ABC):
    """Which weights of a tensor may be kept together.

    Tensors are read as matrices of one row an output: ``[shape[0], the rest]``, and a vector as one
    row.
    """

    @abstractmethod
    def capacity(self, shape: torch.Size) -> int:
        """How many weights of a tensor can be kept at most."""

    @abstractmethod
    def candidates(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """What is selected from, to compare weights of several tensors.

        Args:
            score: Scores of any shape, higher = keep.

        Returns:
            What each weight is worth, and a boolean mask of those that may be selected, both of the
            given shape.
        """

    @abstractmethod
    def select(self, score: Tensor, count: int) -> Tensor:
        """Mask of exactly ``count`` entries that follow the pattern, by the highest scores.

        Args:
            score: Scores of any shape, higher = keep.
            count: How many entries to select, at most :meth:`capacity`.
        """

    @abstractmethod
    def swap(
        self, keep: Tensor, drop_score: Tensor, grow_score: Tensor, share: float, target: int
    ) -> Tensor:
        """As :func:`fastglt.masks.swap`, of masks that follow the pattern."""


class Free(Pattern):
    """Any weights may be kept."""

    def capacity(self, shape: torch.Size) -> int:
        """All."""
        return math.prod(shape)

    def candidates(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """All."""
        return score, torch.ones_like(score, dtype=torch.bool)

    def select(self, score: Tensor, count: int) -> Tensor:
        """Mask of exactly ``count`` entries with the highest score."""
        return select_top(score, count)

    def swap(
        self, keep: Tensor, drop_score: Tensor, grow_score: Tensor, share: float, target: int
    ) -> Tensor:
        """As :func:`fastglt.masks.swap`."""
        return swap(keep, drop_score, grow_score, share, target)


@dataclass(frozen=True)
class Grouped(Pattern):
    """At most ``most`` of every ``size`` neighbouring inputs of an output: N:M sparsity.

    2:4 is what sparse tensor cores compute (Mishra et al., arXiv 2104.08378). Groups start at the
    first input; the last one of a row may be smaller.
    """

    most: int
    size: int

    def capacity(self, shape: torch.Size) -> int:
        """At most ``most`` of each group."""
        rows, columns = _matrix(shape)
        whole, rest = divmod(columns, self.size)
        return rows * (whole * self.most + min(rest, self.most))

    def candidates(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """The best ``most`` of each group."""
        return score, self._best(score, torch.ones_like(score, dtype=torch.bool), None)

    def select(self, score: Tensor, count: int) -> Tensor:
        """The best of these, ties broken by index order."""
        score, best = self.candidates(score)
        result = torch.zeros_like(best)
        result[best] = select_top(score[best], count)
        return result

    def swap(
        self, keep: Tensor, drop_score: Tensor, grow_score: Tensor, share: float, target: int
    ) -> Tensor:
        """As :func:`fastglt.masks.swap`, where there is room in a group.

        What then is missing is filled up with the best of those that were to be dropped.
        """
        grown = num_grown(keep, share, target)
        result = keep.clone()
        result[keep] = select_top(drop_score[keep], target - grown)
        for pool, score in ((~keep, grow_score), (keep & ~result, drop_score)):
            room = self._best(score, pool & ~result, result)
            chosen = min(target - int(result.sum()), int(room.sum()))
            result[room] = select_top(score[room], chosen)
        return result

    def _best(self, score: Tensor, pool: Tensor, taken: Tensor | None) -> Tensor:
        """The highest of ``pool`` in each group, as many as are not taken yet."""
        ranked = self._groups(score.detach().masked_fill(~pool, -math.inf), -math.inf)
        order = ranked.argsort(dim=-1, descending=True, stable=True)
        place = torch.empty_like(order)
        numbers = torch.arange(order.size(-1), device=score.device)
        place.scatter_(-1, order, numbers.expand_as(order))
        full = torch.zeros_like(pool) if taken is None else taken
        room = self.most - self._groups(full, False).sum(dim=-1, keepdim=True)
        rows, columns = _matrix(score.shape)
        best = (place < room).view(rows, -1)[:, :columns].reshape(score.shape)
        return best & pool

    def _groups(self, values: Tensor, padding: float | bool) -> Tensor:
        """``[rows, num_groups, size]``."""
        rows, columns = _matrix(values.shape)
        size = min(self.size, max(columns, 1))
        padded = F.pad(values.reshape(rows, columns), (0, -columns % size), value=padding)
        return padded.view(rows, -1, size)


@dataclass(frozen=True)
class Blocks(Pattern):
    """Whole blocks of ``rows`` outputs by ``columns`` inputs, but for one that is cut off.

    Blocks start at the first output and input; the last ones may be smaller. A block is worth the
    mean of its scores. The count of weights is exact, so one block of a tensor may be kept in part.
    """

    rows: int
    columns: int

    def capacity(self, shape: torch.Size) -> int:
        """All."""
        return math.prod(shape)

    def candidates(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """All, each worth as much as its block."""
        block = self._block_of(score.shape, score.device)
        return self._means(score, block)[block], torch.ones_like(score, dtype=torch.bool)

    def select(self, score: Tensor, count: int) -> Tensor:
        """The best blocks that hold ``count`` entries, and the first entries of one more."""
        block = self._block_of(score.shape, score.device)
        best = self._means(score, block).argsort(descending=True, stable=True)
        return _first(block, best, count)

    def swap(
        self, keep: Tensor, drop_score: Tensor, grow_score: Tensor, share: float, target: int
    ) -> Tensor:
        """As :func:`fastglt.masks.swap`, of blocks.

        Those that are grown come first, then the kept ones, until ``target`` entries are kept.
        """
        block = self._block_of(keep.shape, keep.device)
        sizes = block.view(-1).bincount()
        kept_size = torch.zeros_like(sizes).index_add_(0, block.view(-1), keep.view(-1).long())
        kept = kept_size > 0
        drop, grow = self._means(drop_score, block), self._means(grow_score, block)
        # A block that was cut off ranks last, so that without new ones it stays the one that is.
        ranked = torch.where(kept & (kept_size < sizes), -math.inf, drop)
        stay, new = (part.nonzero().view(-1) for part in (kept, ~kept))
        stay = stay[ranked[stay].argsort(descending=True, stable=True)]
        new = new[grow[new].argsort(descending=True, stable=True)]
        grown = min(int(share * len(stay)), len(new))
        return _first(block, torch.cat([new[:grown], stay, new[grown:]]), target)

    def _block_of(self, shape: torch.Size, device: torch.device) -> Tensor:
        """The block of each entry, of the given shape, numbered by rows."""
        rows, columns = _matrix(shape)
        across = -(-columns // self.columns)
        down = torch.arange(rows, device=device) // self.rows
        along = torch.arange(columns, device=device) // self.columns
        return (down[:, None] * across + along).view(shape)

    def _means(self, score: Tensor, block: Tensor) -> Tensor:
        """``[num_blocks]`` mean scores."""
        flat, values = block.view(-1), score.detach().reshape(-1).double()
        sums = values.new_zeros(int(flat.max()) + 1 if len(flat) else 0).index_add_(0, flat, values)
        return sums / flat.bincount()


def _first(block: Tensor, order: Tensor, count: int) -> Tensor:
    """Mask of the first ``count`` entries when blocks are in an order, entries by index in each."""
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    return select_top(-place[block].double(), count)


def _matrix(shape: torch.Size) -> tuple[int, int]:
    if len(shape) < 2:
        return 1, math.prod(shape)
    return shape[0], math.prod(shape[1:])


FREE = Free()
"""Any weights may be kept."""


def parse_pattern(text: str) -> Pattern:
    """The pattern that a setting names.

    Args:
        text: ``"none"``; ``"N:M"``, such as ``"2:4"``, for at most N of every M neighbouring inputs
            of an output; or ``"RxC"``, such as ``"4x4"``, for blocks of R outputs by C inputs.

    Raises:
        ValueError: If it names none.
    """
    if text == "none":
        return FREE
    kind = Grouped if ":" in text else Blocks
    first, second = map(int, re.split("[:x]", text))
    return kind(first, second)
