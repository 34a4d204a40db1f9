"""How much is swapped, and how sparse the masks are, as pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable


def cosine_swap_fraction(step: int, total_steps: int, alpha: float = 0.3) -> float:
    """Share of the kept components that is swapped at ``step``.

    ``alpha / 2 * (1 + cos(pi * step / total_steps))``: from ``alpha`` down to 0 (FastGLT,
    arXiv 2412.07605, section 4; the cosine annealing of RigL, arXiv 1911.11134).

    Raises:
        ValueError: If ``step`` is not in ``[0, total_steps]``.
    """
    if not 0 <= step <= total_steps or total_steps == 0:
        raise ValueError(f"step must be in [0, {total_steps}] (got {step})")
    return alpha / 2 * (1 + math.cos(math.pi * step / total_steps))


def constant_swap_fraction(step: int, total_steps: int, alpha: float = 0.3) -> float:
    """``alpha`` at every step but the last, after which nothing is swapped.

    Raises:
        ValueError: If ``step`` is not in ``[0, total_steps]``.
    """
    cosine_swap_fraction(step, total_steps, alpha)
    return alpha if step < total_steps else 0.0


def linear_swap_fraction(step: int, total_steps: int, alpha: float = 0.3) -> float:
    """From ``alpha`` down to 0 in a straight line: ``alpha * (1 - step / total_steps)``.

    Raises:
        ValueError: If ``step`` is not in ``[0, total_steps]``.
    """
    cosine_swap_fraction(step, total_steps, alpha)
    return alpha * (1 - step / total_steps)


SWAP_FRACTIONS: dict[str, Callable[[int, int, float], float]] = {
    "cosine": cosine_swap_fraction,
    "linear": linear_swap_fraction,
    "constant": constant_swap_fraction,
}
"""Share that is swapped, by the name of the schedule."""
WARMUP_POWERS = {"linear": 1, "cubic": 3}
"""How the sparsity that is left to reach falls with the events that are left, by name. ``cubic`` is
the ramp of Zhu & Gupta (arXiv 1710.01878)."""


def warmup_sparsity(
    event: int, warmup_events: int, target: float, beta: float = 1.0, schedule: str = "linear"
) -> float:
    """Sparsity that holds after denoising event ``event`` (0 = the one-shot cut).

    Grows from ``beta * target`` to ``target`` over ``warmup_events`` events; what is left to reach
    falls with the power :data:`WARMUP_POWERS` of the events that are left. With
    ``warmup_events = 0`` it is the target from the start.
    """
    if event >= warmup_events:
        return target
    left = (1 - event / warmup_events) ** WARMUP_POWERS[schedule]
    return target * (1 - (1 - beta) * left)
