from __future__ import annotations

import pytest
import torch

from fastglt.masks import EdgeMask, WeightMask, num_removed
from fastglt.search import early_bird
from fastglt.search.early_bird import FIRST, _Distances
from fastglt.training.seeding import seeded
from helpers import states_equal
from search.contexts import new_context, search_with


def _weights(*bits):
    return WeightMask({"w": torch.tensor(bits, dtype=torch.bool)})


def _edges(context, *flipped):
    keep = torch.ones(context.groups.num_groups, dtype=torch.bool)
    keep[list(flipped)] = False
    return EdgeMask(context.groups, keep)


def test_distances_are_the_largest_of_three_in_units_of_the_first():
    whole = _edges(new_context())
    distances = _Distances()
    masks = [(1, 1, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 1, 0), (0, 0, 1, 1), (0, 0, 1, 1)]
    found = [distances.of(_weights(*bits), whole) for bits in masks]
    # Differences from the last three: 0; 2; 2, 2, 0; 4, 2, 2; and 2, 2, 0 without the first two.
    assert found == [1.0, 0.0, 1.0, 1.0, 2.0, 1.0]


def test_distances_of_weights_and_edges_are_averaged():
    context = new_context()
    distances = _Distances()
    distances.of(_weights(1, 1, 0, 0), _edges(context, 0))
    assert distances.of(_weights(1, 0, 1, 0), _edges(context, 1)) == 1.0
    assert distances.of(_weights(0, 0, 1, 1), _edges(context, 1)) == (2.0 + 1.0) / 2


def test_an_axis_that_is_not_pruned_does_not_count():
    distances = _Distances()
    full = _weights(1, 1)
    context = new_context()
    for keep in (0, 1):
        last = distances.of(full, _edges(context, keep))
    assert last == 1.0
    assert _Distances().of(full, _edges(context)) == 0.0


class _Script:
    """Stands in for the distances."""

    values = ()

    def __init__(self):
        self.left = list(self.values)

    def of(self, weight_mask, edge_mask):
        return self.left.pop(0)


@pytest.mark.parametrize(
    ("values", "epoch"),
    [
        ([0.0] * 12, FIRST),
        ([1.0] * 8 + [0.09] * 4, 9),
        ([0.1] * 12, 12),  # not below
        ([0.0] * 6 + [1.0] * 6, 12),
    ],
)
def test_a_ticket_is_drawn_when_masks_hold_still(monkeypatch, values, epoch):
    monkeypatch.setattr(_Script, "values", values)
    monkeypatch.setattr(early_bird, "_Distances", _Script)
    context, result = search_with("early-bird", mask_epochs=12)
    assert result.metrics == {"drawn_epoch": epoch, "mask_distance": values[epoch - 1]}
    assert result.epochs == 2 * epoch
    assert len(context.callback.steps) == epoch


@pytest.mark.parametrize(
    ("edges", "weights", "passes"), [(0.29, 0.8, 2), (0, 0.8, 1), (0.29, 0, 2)]
)
def test_counts_are_exact_and_passes_are_counted(edges, weights, passes):
    context, result = search_with("early-bird", edge_sparsity=edges, weight_sparsity=weights)
    groups, total = context.groups.num_groups, result.weight_mask.num_weights
    assert groups - result.edge_mask.num_kept == num_removed(groups, edges)
    assert total - result.weight_mask.num_kept == num_removed(total, weights)
    assert result.epochs == passes * result.metrics["drawn_epoch"]


def test_the_same_seed_draws_the_same_ticket():
    first, again = (search_with("early-bird", mask_epochs=9)[1] for _ in range(2))
    assert torch.equal(first.edge_mask.keep, again.edge_mask.keep)
    assert states_equal(first.weight_mask.masks, again.weight_mask.masks)
    assert states_equal(first.state, again.state)
    assert first.metrics == again.metrics


def test_zeroed_weights_may_grow_again():
    context = new_context(method="early-bird", weight_sparsity=0.5, lr=0.1)
    run = early_bird._Run(context)
    masks = []
    with seeded(0):
        for _ in range(6):
            run.step("here")
            masks.append(run.weight_mask)
            for name, keep in run.weight_mask.items():
                assert (context.model.get_parameter(name)[~keep] == 0).all()
    assert any((masks[-1][name] & ~masks[0][name]).any() for name in masks[0])
