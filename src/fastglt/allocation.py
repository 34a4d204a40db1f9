"""How a weight budget is shared among layers.

A rule maps layer shapes to relative densities; :func:`allocate` turns them into counts that sum
to the budget exactly. To add a rule, write it and enter it in :data:`RULES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction

import torch
from torch import Tensor

from fastglt.errors import BudgetError, UnknownNameError
from fastglt.masks import FREE, ChannelGroup, Pattern, WeightMask, num_removed, select_top

Shapes = Mapping[str, torch.Size]
LIVE = "live"
"""Name of the allocation that counts only channels that are alive, see :func:`allocate_live`."""
GLOBAL = "global"
"""Name of the allocation that ranks all weights together instead of layer by layer."""


def uniform(shapes: Shapes) -> dict[str, Fraction]:
    """The same density for every layer."""
    return {name: Fraction(1) for name in shapes}


def erk(shapes: Shapes) -> dict[str, Fraction]:
    """Erdős–Rényi densities: proportional to ``(fan_in + fan_out) / (fan_in * fan_out)``.

    Small layers stay denser than large ones (Mocanu et al., Nature Communications 2018; the
    form for higher dimensions, used for tensors of more than two, is RigL's, arXiv 1911.11134).
    A single number, which has no dimension, counts as a vector of one.
    """
    return {name: Fraction(sum(shape) or 1, math.prod(shape)) for name, shape in shapes.items()}


RULES: dict[str, Callable[[Shapes], dict[str, Fraction]]] = {
    "live": erk,
    "erk": erk,
    "uniform": uniform,
}


def allocation_names() -> tuple[str, ...]:
    """Names that :func:`cut_weights` understands."""
    return (*RULES, GLOBAL)


def allocate(
    shapes: Shapes, sparsity: float, rule: str = "erk", pattern: Pattern = FREE
) -> dict[str, int]:
    """Number of weights that each layer keeps.

    Densities follow the rule, capped at 1 or what the pattern lets a layer keep (what a full layer
    cannot take is shared among the others); the counts sum to
    ``total - num_removed(total, sparsity)`` by largest remainder.

    Args:
        shapes: Parameter name to shape.
        sparsity: Share of all weights that is removed, in ``[0, 1)``.
        rule: A name in :data:`RULES`.
        pattern: Which weights may be kept together.

    Raises:
        BudgetError: If a layer would keep no weight, or the pattern cannot hold the budget.
        UnknownNameError: If there is no such rule.
    """
    if rule not in RULES:
        raise UnknownNameError("allocation", rule, allocation_names())
    total = sum(math.prod(shape) for shape in shapes.values())
    budget = total - num_removed(total, sparsity)
    check_room(shapes, sparsity, pattern)
    counts = _shared(shapes, budget, rule, pattern)
    for name, count in counts.items():
        _require_nonempty(name, count, math.prod(shapes[name]), sparsity)
    return counts


def allocate_live(
    mask: WeightMask,
    groups: Iterable[ChannelGroup],
    sparsity: float,
    pattern: Pattern = FREE,
) -> dict[str, int]:
    """Number of weights of each layer by ``erk`` over what is alive under a mask.

    Weights of a channel that nothing writes or nothing reads are of no use, so their share of the
    budget goes to others. Where what is alive cannot hold the budget, all counts.

    Args:
        mask: Kept weights.
        groups: The model's channels, on the device of the mask.
        sparsity: Share of all weights that is removed, in ``[0, 1)``.
        pattern: Which weights may be kept together.

    Raises:
        BudgetError: If a layer would keep no weight, or the pattern cannot hold the budget.
    """
    budget = mask.num_weights - num_removed(mask.num_weights, sparsity)
    shapes = live_shapes(mask, groups)
    if sum(map(pattern.capacity, shapes.values())) >= budget:
        counts = _shared(shapes, budget, LIVE, pattern)
        if all(counts.values()):
            return counts
    return allocate({name: keep.shape for name, keep in mask.items()}, sparsity, LIVE, pattern)


def live_shapes(
    mask: Mapping[str, Tensor], groups: Iterable[ChannelGroup]
) -> dict[str, torch.Size]:
    """Shapes of the layers without the rows and columns of dead channels.

    A channel is dead if no weight writes it, or none reads it.
    """
    rows: dict[str, Tensor] = {}
    columns: dict[str, Tensor] = {}
    for group in groups:
        alive = _is_alive(group, mask)
        for name in group.writers:
            rows[name] = rows[name] | alive if name in rows else alive
        for name, channel in group.readers.items():
            reads = channel >= 0
            column = columns.setdefault(name, torch.ones_like(reads))
            column[reads] = alive[channel[reads]]
    return {
        name: torch.Size(
            (
                int(rows[name].sum()) if name in rows else keep.size(0),
                int(columns[name].sum()) if name in columns else keep.size(1),
            )
        )
        if name in rows or name in columns
        else keep.shape
        for name, keep in mask.items()
    }


def _is_alive(group: ChannelGroup, mask: Mapping[str, Tensor]) -> Tensor:
    """``[size]`` bool; a layer that is not pruned writes and reads all channels."""
    device = next(iter(group.readers.values())).device
    written, read = torch.zeros(2, group.size, dtype=torch.bool, device=device)
    for name in group.writers:
        written |= mask[name].any(dim=1) if name in mask else torch.ones_like(written)
    for name, channel in group.readers.items():
        reads = channel >= 0
        if name in mask:
            reads = reads & mask[name].any(dim=0)
        read[channel[reads]] = True
    alive: Tensor = written & read
    return alive


def check_room(shapes: Shapes, sparsity: float, pattern: Pattern) -> None:
    """Refuse a sparsity that leaves more weights than a pattern allows.

    Args:
        shapes: Parameter name to shape.
        sparsity: Share of all weights that is removed, in ``[0, 1)``.
        pattern: Which weights may be kept together.

    Raises:
        BudgetError: The message says what sparsity there is room for.
    """
    total = sum(math.prod(shape) for shape in shapes.values())
    budget, room = total - num_removed(total, sparsity), sum(map(pattern.capacity, shapes.values()))
    if room < budget:
        least = math.ceil(1e4 * (1 - room / total)) / 1e4
        raise BudgetError(
            f"weight_sparsity {sparsity} keeps {budget} weights, more than the {room} of {total} "
            f"that the weight_pattern allows; choose at least {least:.4f}"
        )


def cut_weights(
    scores: Mapping[str, Tensor],
    sparsity: float,
    rule: str = "erk",
    pattern: Pattern = FREE,
) -> tuple[WeightMask, dict[str, int]]:
    """Keep the highest-scoring weights within the budget that the rule gives each layer.

    Args:
        scores: Parameter name to scores of its shape, higher = keep.
        sparsity: Share of all weights that is removed, in ``[0, 1)``.
        rule: A name in :data:`RULES`, or ``"global"``.
        pattern: Which weights may be kept together.

    Returns:
        The mask, and the number of weights that each layer keeps.

    Raises:
        BudgetError: If a layer would keep no weight, or the pattern cannot hold the budget.
        UnknownNameError: If there is no such rule.
    """
    if rule == GLOBAL:
        masks = _cut_globally(scores, sparsity, pattern)
    else:
        shapes = {name: score.shape for name, score in scores.items()}
        counts = allocate(shapes, sparsity, rule, pattern)
        masks = {name: pattern.select(score, counts[name]) for name, score in scores.items()}
    return WeightMask(masks), {name: int(mask.sum()) for name, mask in masks.items()}


def _shared(shapes: Shapes, budget: int, rule: str, pattern: Pattern) -> dict[str, int]:
    """The budget in parts, none larger than its layer can hold."""
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    density = RULES[rule]({name: shape for name, shape in shapes.items() if sizes[name]})
    density |= {name: Fraction(0) for name, size in sizes.items() if not size}
    room = {name: pattern.capacity(shape) for name, shape in shapes.items()}
    return _largest_remainder(_capped_quotas(density, sizes, room, budget), budget)


def shrink(counts: Mapping[str, int], budget: int) -> dict[str, int]:
    """Scale the layers' counts down to a smaller budget, all by the same factor."""
    total = sum(counts.values())
    quotas = {name: Fraction(count * budget, total) for name, count in counts.items()}
    return _largest_remainder(quotas, budget)


def _cut_globally(
    scores: Mapping[str, Tensor], sparsity: float, pattern: Pattern
) -> dict[str, Tensor]:
    total = sum(score.numel() for score in scores.values())
    budget = total - num_removed(total, sparsity)
    shapes = {name: score.shape for name, score in scores.items()}
    check_room(shapes, sparsity, pattern)
    ranked = {name: pattern.candidates(score) for name, score in scores.items()}
    chosen = select_top(torch.cat([score[pool] for score, pool in ranked.values()]), budget)
    parts = torch.split(chosen, [int(pool.sum()) for _, pool in ranked.values()])
    masks = {}
    for (name, score), part in zip(scores.items(), parts, strict=True):
        count = int(part.sum())
        _require_nonempty(name, count, score.numel(), sparsity)
        masks[name] = pattern.select(score, count)
    return masks


def _require_nonempty(name: str, count: int, size: int, sparsity: float) -> None:
    if count == 0:
        raise BudgetError(
            f"weight_sparsity {sparsity} leaves layer {name!r} without any of its {size} weights; "
            "choose a lower weight_sparsity (allocation 'erk' spares small layers most)"
        )


def _capped_quotas(
    density: dict[str, Fraction], sizes: dict[str, int], room: dict[str, int], budget: int
) -> dict[str, Fraction]:
    full: dict[str, Fraction] = {}
    while True:
        rest = [name for name in sizes if name not in full]
        demand = sum((density[name] * sizes[name] for name in rest), Fraction(0))
        left = budget - sum(full.values())
        scale = left / demand if demand else Fraction(0)
        over = [name for name in rest if density[name] * scale * sizes[name] >= room[name]]
        if not over:
            return full | {name: density[name] * scale * sizes[name] for name in rest}
        full |= {name: Fraction(room[name]) for name in over}


def _largest_remainder(quotas: dict[str, Fraction], total: int) -> dict[str, int]:
    counts = {name: math.floor(quota) for name, quota in quotas.items()}
    missing = total - sum(counts.values())
    by_remainder = sorted(quotas, key=lambda name: counts[name] - quotas[name])
    for name in by_remainder[:missing]:
        counts[name] += 1
    return counts
