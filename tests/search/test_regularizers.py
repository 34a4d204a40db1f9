from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastglt.search.regularizers import gate_penalty, mean_absolute_difference

values = st.lists(st.floats(-100, 100), min_size=1, max_size=25)


@given(values)
def test_the_mean_absolute_difference_equals_all_pairs(numbers):
    tensor = torch.tensor(numbers, dtype=torch.float64)
    slow = (tensor[:, None] - tensor[None, :]).abs().mean()
    assert float(mean_absolute_difference(tensor)) == pytest.approx(float(slow), abs=1e-9)


def _distinct(count):
    return torch.randperm(count, generator=torch.Generator().manual_seed(0)).double() / 7 - 0.5


def test_gradients_are_right():
    tensor = _distinct(9).requires_grad_()
    assert torch.autograd.gradcheck(mean_absolute_difference, tensor)
    shifted = (_distinct(9) + 0.53).requires_grad_()
    assert torch.autograd.gradcheck(lambda gate: gate_penalty(gate, 0.3, 0.7), shifted)


def test_the_penalty_equals_its_formula():
    gate = _distinct(8)
    spread = (gate[:, None] - gate[None, :]).abs().mean()
    expected = 0.3 * gate.abs().sum() + 0.7 * (torch.exp(-spread / 2) - torch.log(gate.var()))
    assert float(gate_penalty(gate, 0.3, 0.7)) == pytest.approx(float(expected))


def test_without_diversity_equal_gates_are_no_problem():
    gate = torch.ones(5, requires_grad=True)
    penalty = gate_penalty(gate, 0.1, 0.0)
    assert penalty.item() == pytest.approx(0.5)
    assert torch.isfinite(torch.autograd.grad(penalty, gate)[0]).all()


def test_the_diversity_term_drives_gates_apart():
    gate = (1 + 0.01 * _distinct(8)).requires_grad_()
    (gradient,) = torch.autograd.grad(gate_penalty(gate, 0.0, 1.0), gate)
    moved = gate.detach() - 1e-4 * gradient
    assert mean_absolute_difference(moved) > mean_absolute_difference(gate)
