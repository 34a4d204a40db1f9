"""Checks of single arguments that several modules share."""

from __future__ import annotations

from fractions import Fraction

from fastglt.errors import InputError


def check_integer(name: str, value: object, least: int = 0) -> None:
    """Expect an integer that is at least ``least``.

    Raises:
        InputError: If it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} must be an integer of at least {least} (got {value!r})")


def exact_share(name: str, value: float) -> Fraction:
    """A share in (0, 1) as the decimal that was written: 0.29 of 100 is 29.

    Raises:
        InputError: If it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise InputError(f"{name} must be a share in (0, 1) (got {value!r})")
    return Fraction(str(value))
