"""The value that splits scores at an exact count, found by histograms of their bits.

Each pass counts, among the scores whose leading bits are known to be those of the value sought,
the next 16 bits. The counts of parts add up, so the scores may lie in several pieces, on disk or in
several processes::

    cut = Cut.start(score.dtype, count)
    while not cut.is_final:
        counts = cut.counts(part)
        torch.distributed.all_reduce(counts)
        cut = cut.narrowed(counts)
    own = cut.num_ties(part)       # how many of those before this part are taken first is known
    keep = cut.mask(part, ties)    # once these are gathered: clamp(cut.wanted - before, 0, own)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

_DIGIT_BITS: Final = 16
_NUM_DIGITS: Final = 1 << _DIGIT_BITS
_CHUNK: Final = {"cpu": 1 << 18}
"""How many scores are worked on at a time: on a CPU what its caches hold."""
_LARGE_CHUNK: Final = 1 << 24
_INTEGERS: Final = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
    torch.uint8: torch.int16,
    torch.int8: torch.int16,
    torch.int16: torch.int16,
    torch.int32: torch.int32,
    torch.int64: torch.int64,
}


@dataclass(frozen=True)
class Cut:
    """What is known of the lowest score to select.

    Attributes:
        dtype: Of the scores.
        wanted: How many of the scores that begin with these bits are to be selected.
        known: How many of the leading bits are known.
        prefix: These bits, as the integer that an arithmetic shift to the right leaves.
    """

    dtype: torch.dtype
    wanted: int
    known: int = 0
    prefix: int = 0

    @classmethod
    def start(cls, dtype: torch.dtype, count: int) -> Cut:
        """Nothing is known yet.

        Args:
            dtype: Of the scores, a real number of at most 64 bits.
            count: How many scores to select, at least 0.

        Raises:
            ValueError: If scores cannot be of that type.
        """
        if dtype not in _INTEGERS:
            raise ValueError(f"scores must be real numbers of 8 to 64 bits (got {dtype})")
        return cls(dtype, count)

    @property
    def is_final(self) -> bool:
        """Whether all bits are known."""
        return self.known == self._num_bits

    def counts(self, score: Tensor, among: Tensor | None = None) -> Tensor:
        """How often each next digit occurs among the scores that begin with the known bits.

        Args:
            score: ``[n]`` scores, a part of them or all.
            among: ``[n]`` bool, which of them count; None for all.

        Returns:
            ``[65536]`` int64, digits in ascending order of the scores, on the device of the scores.

        Raises:
            ValueError: If a score that counts is NaN.
        """
        # One bin more, for the first digits of scores that do not count.
        total = torch.zeros(_NUM_DIGITS + 1, dtype=torch.int64, device=score.device)
        for part in _parts(score):
            pool = None if among is None else among[part]
            digits = self._next_digits(score[part], pool)
            total += torch.bincount(digits, minlength=_NUM_DIGITS + 1)
        return self._in_order(total[:_NUM_DIGITS])

    def narrowed(self, counts: Tensor) -> Cut:
        """What is known after a pass.

        Args:
            counts: ``[65536]``, the sum of :meth:`counts` over all parts.

        Raises:
            ValueError: If there are fewer scores than are to be selected.
        """
        from_top = counts.flip(0).cumsum(0)
        if int(from_top[-1]) < self.wanted:
            raise ValueError(f"count must be at most {int(from_top[-1])} (got {self.wanted})")
        place = int(torch.searchsorted(from_top, self.wanted))
        above = int(from_top[place - 1]) if place else 0
        digit = _NUM_DIGITS - 1 - place
        return replace(
            self,
            wanted=self.wanted - above,
            known=self.known + _DIGIT_BITS,
            prefix=self._with_digit(digit),
        )

    def num_ties(self, score: Tensor, among: Tensor | None = None) -> int:
        """How many of the scores are equal to the cut, which must be final."""
        value = self._value()
        total = 0
        for part in _parts(score):
            equal = score[part] == value
            if among is not None:
                equal &= among[part]
            total += int(equal.count_nonzero())
        return total

    def mask(self, score: Tensor, ties: int, among: Tensor | None = None) -> Tensor:
        """The scores above the cut, and the first ``ties`` of those equal to it.

        Args:
            score: ``[n]`` scores, a part of them or all.
            ties: How many ties to select; :attr:`wanted` where this part is all there is.
            among: ``[n]`` bool, which of them count; None for all.

        Returns:
            ``[n]`` bool.
        """
        result = torch.zeros(score.shape, dtype=torch.bool, device=score.device)
        if not self.wanted:
            return result
        value = self._value()
        for part in _parts(score):
            chosen = torch.gt(score[part], value, out=result[part])
            if among is not None:
                chosen &= among[part]
            if ties > 0:
                equal = score[part] == value
                if among is not None:
                    equal &= among[part]
                found = equal.nonzero().view(-1)
                chosen[found[:ties]] = True
                ties -= min(ties, found.numel())
        return result

    @property
    def _num_bits(self) -> int:
        return torch.iinfo(_INTEGERS[self.dtype]).bits

    @property
    def _shift(self) -> int:
        return self._num_bits - self.known - _DIGIT_BITS

    def _next_digits(self, values: Tensor, pool: Tensor | None) -> Tensor:
        """The digit of each score that counts, int32; at first also that of the others, too high.

        Filling is faster than picking, where most are needed.
        """
        bits = self._bits(values)
        if self.known:
            chosen = bits >> (self._num_bits - self.known) == self.prefix
            if pool is not None:
                chosen &= pool
            digits = bits[chosen] >> self._shift
            return digits.to(torch.int32).bitwise_and_(_NUM_DIGITS - 1)
        _refuse_nan(values, pool)
        digits = (bits >> self._shift).to(torch.int32).add_(_NUM_DIGITS // 2)
        if pool is not None:
            # What masked_fill_ does, in a third of the time.
            beyond = pool.logical_not().to(torch.int32).mul_(_NUM_DIGITS)
            digits.bitwise_or_(beyond).clamp_(max=_NUM_DIGITS)
        return digits

    def _bits(self, values: Tensor) -> Tensor:
        if not self.dtype.is_floating_point:
            return values.to(_INTEGERS[self.dtype])
        # Adding 0 turns -0.0 into 0.0, to which it is equal although its bits are others.
        return (values + 0.0).view(_INTEGERS[self.dtype])

    def _in_order(self, counts: Tensor) -> Tensor:
        """Digits in the order of the scores: a negative float's bits grow as it falls."""
        if not self.dtype.is_floating_point:
            return counts
        if self.known:
            return counts.flip(0) if self.prefix < 0 else counts
        negative, positive = counts.chunk(2)
        return torch.cat([negative.flip(0), positive])

    def _with_digit(self, place: int) -> int:
        """The known bits and the digit that stands at a place in the order of the scores."""
        falls = self.dtype.is_floating_point
        half = _NUM_DIGITS // 2
        if not self.known:
            return half - 1 - place - half if falls and place < half else place - half
        digit = _NUM_DIGITS - 1 - place if falls and self.prefix < 0 else place
        return (self.prefix << _DIGIT_BITS) | digit

    def _value(self) -> float | int:
        """The lowest score to select."""
        integer = torch.tensor(self.prefix, dtype=_INTEGERS[self.dtype])
        found: float | int
        found = integer.view(self.dtype).item() if self.dtype.is_floating_point else self.prefix
        return found


def _parts(score: Tensor) -> Iterator[slice]:
    step = _CHUNK.get(score.device.type, _LARGE_CHUNK)
    for start in range(0, score.numel(), step):
        yield slice(start, start + step)


def _refuse_nan(values: Tensor, pool: Tensor | None) -> None:
    # The extremes of values with a NaN are NaN, and need no memory.
    if not values.is_floating_point() or not bool(values.max().isnan()):
        return
    if pool is None or bool(values[pool].isnan().any()):
        raise ValueError("scores must not be NaN")
