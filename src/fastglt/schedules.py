"""How much is swapped, and how sparse the masks are, as pure functions of the step."""

from __future__ import annotations

import math


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


def warmup_sparsity(event: int, warmup_events: int, target: float, beta: float = 1.0) -> float:
    """Sparsity that holds after denoising event ``event`` (0 = the one-shot cut).

    Grows linearly from ``beta * target`` to ``target`` over ``warmup_events`` events; with
    ``warmup_events = 0`` it is the target from the start.
    """
    if event >= warmup_events:
        return target
    return target * (beta + (1 - beta) * event / warmup_events)
