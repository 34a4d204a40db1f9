from __future__ import annotations

import math
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastglt.schedules import (
    SWAP_FRACTIONS,
    WARMUP_POWERS,
    cosine_swap_fraction,
    warmup_sparsity,
)
from fastglt.settings import SwapSchedule, WarmupSchedule


@given(st.integers(1, 500), st.floats(0, 1))
def test_the_swap_fraction_falls_from_alpha_to_0(total, alpha):
    values = [cosine_swap_fraction(step, total, alpha) for step in range(total + 1)]
    assert values[0] == pytest.approx(alpha)
    assert values[-1] == pytest.approx(0, abs=1e-12)
    assert all(0 <= later <= earlier for earlier, later in pairwise(values))


def test_half_way_the_swap_fraction_is_half():
    assert cosine_swap_fraction(50, 100, 0.3) == pytest.approx(0.15)


@pytest.mark.parametrize("name", SWAP_FRACTIONS)
@given(st.integers(1, 500), st.floats(0, 1))
def test_every_schedule_starts_at_alpha_never_rises_and_ends_at_0(name, total, alpha):
    values = [SWAP_FRACTIONS[name](step, total, alpha) for step in range(total + 1)]
    assert values[0] == pytest.approx(alpha)
    assert values[-1] == pytest.approx(0, abs=1e-12)
    assert all(0 <= later <= earlier + 1e-12 for earlier, later in pairwise(values))


def test_what_schedules_share_out_differs():
    at = {name: schedule(25, 100, 0.3) for name, schedule in SWAP_FRACTIONS.items()}
    assert at["constant"] == 0.3
    assert at["linear"] == pytest.approx(0.225)
    assert at["cosine"] == pytest.approx(0.15 * (1 + math.sqrt(0.5)))


def test_settings_know_all_schedules():
    assert set(get_args(SwapSchedule)) == set(SWAP_FRACTIONS)
    assert set(get_args(WarmupSchedule)) == set(WARMUP_POWERS)


@pytest.mark.parametrize("name", SWAP_FRACTIONS)
@pytest.mark.parametrize(("step", "total"), [(-1, 10), (11, 10), (0, 0)])
def test_a_step_outside_the_run_is_refused(name, step, total):
    with pytest.raises(ValueError, match=rf"step must be in \[0, {total}\] \(got {step}\)"):
        SWAP_FRACTIONS[name](step, total, 0.3)


@given(st.integers(1, 30), st.floats(0, 0.99), st.floats(0.01, 1))
def test_warm_up_rises_in_equal_steps_to_exactly_the_target(events, target, beta):
    values = [warmup_sparsity(event, events, target, beta) for event in range(events + 3)]
    assert values[0] == pytest.approx(beta * target)
    assert values[events:] == [target] * 3
    steps = [later - earlier for earlier, later in pairwise(values)]
    assert all(step == pytest.approx((1 - beta) * target / events) for step in steps[:events])
    assert all(value <= target or math.isclose(value, target) for value in values)


@given(st.floats(0, 0.99), st.floats(0.01, 1))
def test_without_warm_up_the_target_holds_from_the_start(target, beta):
    assert warmup_sparsity(0, 0, target, beta) == target


@given(st.integers(1, 30), st.floats(0, 0.99), st.floats(0.01, 1))
def test_a_cubic_warm_up_runs_ahead_of_a_linear_one_and_ends_with_it(events, target, beta):
    for event in range(events + 2):
        linear = warmup_sparsity(event, events, target, beta)
        cubic = warmup_sparsity(event, events, target, beta, "cubic")
        assert linear <= cubic + 1e-12 <= target + 2e-12
        left = (1 - min(event / events, 1)) ** 3
        assert target - cubic == pytest.approx((1 - beta) * target * left, abs=1e-12)
