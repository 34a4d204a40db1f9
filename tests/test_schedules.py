from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastglt.schedules import cosine_swap_fraction, warmup_sparsity


@given(st.integers(1, 500), st.floats(0, 1))
def test_the_swap_fraction_falls_from_alpha_to_0(total, alpha):
    values = [cosine_swap_fraction(step, total, alpha) for step in range(total + 1)]
    assert values[0] == pytest.approx(alpha)
    assert values[-1] == pytest.approx(0, abs=1e-12)
    assert all(0 <= later <= earlier for earlier, later in pairwise(values))


def test_half_way_the_swap_fraction_is_half():
    assert cosine_swap_fraction(50, 100, 0.3) == pytest.approx(0.15)


@pytest.mark.parametrize(("step", "total"), [(-1, 10), (11, 10), (0, 0)])
def test_a_step_outside_the_run_is_refused(step, total):
    with pytest.raises(ValueError, match=rf"step must be in \[0, {total}\] \(got {step}\)"):
        cosine_swap_fraction(step, total)


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
