from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fastglt.gating import (
    WeightGate,
    apply_weight_mask,
    clear_moments,
    prunable_weights,
    tied_names,
)
from fastglt.masks import WeightMask, select_top

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.01),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.05, amsgrad=True, fused=False),
    "fused": lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.01, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.5),
}


def _random_mask(model, count_share, seed):
    generator = torch.Generator().manual_seed(seed)
    masks = {}
    for name, weight in prunable_weights(model).items():
        score = torch.rand(weight.shape, generator=generator)
        masks[name] = select_top(score, int(count_share * weight.numel()))
    return WeightMask(masks)


def _assert_pruned_are_zero(model, mask):
    for name, weight in prunable_weights(model).items():
        assert torch.count_nonzero(weight[~mask[name]]) == 0, name


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(OPTIMIZERS)),
    share=st.floats(0, 1),
    events=st.lists(st.sampled_from(["step", "step", "step", "update"]), max_size=14),
    seed=st.integers(0, 1000),
)
def test_pruned_weights_are_exactly_zero_after_any_steps_of_any_optimizer(
    kind, share, events, seed
):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
        inputs, target = torch.randn(8, 6), torch.randn(8, 3)
    optimizer = OPTIMIZERS[kind](model.parameters())
    # Moments from dense training would revive weights that are pruned later.
    for _ in range(2):
        nn.functional.mse_loss(model(inputs), target).backward()
        optimizer.step()
    mask = _random_mask(model, share, seed)
    counts = {name: int(keep.sum()) for name, keep in mask.items()}
    gate = WeightGate(prunable_weights(model), optimizer, mask)
    _assert_pruned_are_zero(model, mask)
    for number, event in enumerate(events):
        if event == "update":
            mask = _random_mask(model, share, seed + number + 1)
            gate.update(mask)
        else:
            optimizer.zero_grad()
            nn.functional.mse_loss(model(inputs), target).backward()
            optimizer.step()
        _assert_pruned_are_zero(model, mask)
        assert {name: int(keep.sum()) for name, keep in gate.mask.items()} == counts
        for name, keep in gate.mask.items():
            assert torch.equal(keep, mask[name])


@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
def test_kept_weights_do_train(kind):
    model = nn.Linear(4, 3)
    optimizer = OPTIMIZERS[kind](model.parameters())
    mask = _random_mask(model, 0.5, 0)
    WeightGate(prunable_weights(model), optimizer, mask)
    before = model.weight.detach().clone()
    model(torch.ones(2, 4)).square().sum().backward()
    optimizer.step()
    assert (model.weight != before)[mask["weight"]].all()


@pytest.mark.parametrize("kind", ["sgd", "adam", "amsgrad", "adamw"])
def test_an_update_clears_moments_of_changed_entries_only(kind):
    model = nn.Linear(2, 2, bias=False)
    optimizer = OPTIMIZERS[kind](model.parameters())
    old = torch.tensor([[True, True], [False, True]])
    gate = WeightGate({"weight": model.weight}, optimizer, WeightMask({"weight": old}))
    for _ in range(3):
        optimizer.zero_grad()
        (model(torch.ones(1, 2)) - 3).square().sum().backward()
        optimizer.step()
    before = copy.deepcopy(optimizer.state[model.weight])
    weight_before = model.weight.detach().clone()
    new = torch.tensor([[False, True], [True, True]])
    gate.update(WeightMask({"weight": new}))
    changed = old ^ new
    state = optimizer.state[model.weight]
    per_entry = [key for key, value in state.items() if getattr(value, "shape", ()) == (2, 2)]
    assert per_entry
    for key in per_entry:
        assert torch.count_nonzero(state[key][changed]) == 0
        assert torch.equal(state[key][~changed], before[key][~changed])
        assert torch.count_nonzero(before[key][changed]) > 0
    assert torch.count_nonzero(model.weight[changed]) == 0
    assert torch.equal(model.weight[~changed], weight_before[~changed])


def test_clear_moments_leaves_other_parameters_and_step_counts_alone():
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    clear_moments(optimizer, model.weight, torch.ones(2, 2, dtype=torch.bool))
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    clear_moments(optimizer, model.weight, torch.ones(2, 2, dtype=torch.bool))
    assert float(optimizer.state[model.weight]["step"]) == 1
    assert torch.count_nonzero(optimizer.state[model.bias]["exp_avg"]) == 2


def test_a_removed_gate_lets_weights_grow_again():
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    mask = _random_mask(model, 0.0, 0)
    gate = WeightGate(prunable_weights(model), optimizer, mask)
    gate.remove()
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert torch.count_nonzero(model.weight) == 6


def test_masking_a_state_copies_it():
    state = {"w": torch.tensor([1.0, -2.0, 3.0]), "b": torch.tensor([4.0])}
    masked = apply_weight_mask(state, {"w": torch.tensor([True, False, True])})
    assert masked["w"].tolist() == [1.0, 0.0, 3.0]
    assert masked["b"].tolist() == [4.0]
    masked["w"].zero_()
    masked["b"].zero_()
    assert state["w"].tolist() == [1.0, -2.0, 3.0]
    assert state["b"].tolist() == [4.0]


def test_masking_a_state_gives_positive_zeros_even_of_infinities():
    masked = apply_weight_mask(
        {"w": torch.tensor([-1.0, math.inf])}, {"w": torch.tensor([False, False])}
    )
    assert masked["w"].tolist() == [0.0, 0.0]
    assert not torch.signbit(masked["w"]).any()


class _Tied(nn.Module):
    """Two layers with one matrix, and one module under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(4, 4)
        self.decode = nn.Linear(4, 4)
        self.decode.weight = self.encode.weight
        self.again = self.decode


def test_a_masked_state_with_tied_weights_is_consistent_whatever_is_loaded_last():
    model = _Tied()
    (mask,) = [_random_mask(model, 0.5, 0)]
    assert list(mask) == ["encode.weight"]
    masked = apply_weight_mask(model.state_dict(), mask, tied_names(model))
    names = ("encode.weight", "decode.weight", "again.weight")
    assert all(torch.equal(masked[name], masked["encode.weight"]) for name in names)
    model.load_state_dict(masked)
    _assert_pruned_are_zero(model, mask)
    assert torch.count_nonzero(model.encode.weight) == mask.num_kept


def test_a_tied_weight_is_held_at_zero_under_all_its_names():
    model = _Tied()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    mask = _random_mask(model, 0.5, 0)
    WeightGate(prunable_weights(model), optimizer, mask)
    model.decode(model.encode(torch.ones(2, 4))).square().sum().backward()
    optimizer.step()
    assert torch.count_nonzero(model.again.weight[~mask["encode.weight"]]) == 0
