from __future__ import annotations

import pytest
import torch

from fastglt.gating import prunable_weights
from fastglt.masks import EdgeMask, WeightMask, select_top
from fastglt.search.soft_masks import NOISE, SoftMasks
from fastglt.training.loop import clone_state
from fastglt.training.seeding import seeded
from helpers import build, graph
from search.contexts import Scripted, new_context


def _masks(context, share=0.5):
    """Random hard masks that keep a share of everything."""
    generator = torch.Generator().manual_seed(3)
    groups = context.groups
    edges = select_top(torch.rand(groups.num_groups, generator=generator), groups.num_groups // 2)
    weights = {
        name: torch.rand(weight.shape, generator=generator) < share
        for name, weight in prunable_weights(context.model).items()
    }
    return EdgeMask(groups, edges), WeightMask(weights)


def _soft(context, masks=None, **more):
    masks = masks or (
        EdgeMask.full(context.groups),
        WeightMask.full(prunable_weights(context.model)),
    )
    return SoftMasks(context, clone_state(context.model), *masks, 7, **more)


def test_factors_start_at_the_weights_and_close_to_1():
    context = new_context()
    edge_mask, weight_mask = masks = _masks(context)
    start = clone_state(context.model)
    soft = _soft(context, masks)
    for name, keep in weight_mask.items():
        assert torch.equal(soft._weights[name].detach(), start[name] * keep)
        assert ((soft._masks[name] - keep.float()).abs() <= NOISE * 1.01).all()
        assert torch.equal(soft._products[name], soft._weights[name] * soft._masks[name])
        assert len(soft._masks[name][keep].unique()) > 1
    assert (soft._gate[~edge_mask.keep] == 0).all()


def test_gradients_of_the_factors_are_those_of_a_product_that_autograd_sees():
    data = graph()
    data.x = data.x.double()
    model = build("weighted", data).double()
    context = new_context(
        data, model, weight_l1=0.03, edge_l1=0.02, weight_decay=0.0, lr=0.1, teacher="none"
    )
    edge_mask, weight_mask = masks = _masks(context)
    soft = _soft(context, masks)
    objective = context.objective
    for _ in range(3):
        weights, soft_masks = (
            {name: p.detach().clone().requires_grad_() for name, p in factors.items()}
            for factors in (soft._weights, soft._masks)
        )
        gate = soft._gate.detach().clone().requires_grad_()
        whole = dict(model.named_parameters())
        whole |= {name: weights[name] * soft_masks[name] for name in weights}
        factor = context.groups.to_edges(gate.abs().clamp_min(1e-4), 1.0)[edge_mask.edges]
        edges = data.edge_index[:, edge_mask.edges]
        out = torch.func.functional_call(model, whole, (data.x, edges, factor))
        penalty = 0.03 * sum(m.abs().sum() for m in soft_masks.values()) + 0.02 * gate.abs().sum()
        (objective(out, data) + penalty).backward()
        soft._step(soft._data, "here")
        for name in weights:
            keep = weight_mask[name]
            for found, expected in ((soft._weights, weights), (soft._masks, soft_masks)):
                torch.testing.assert_close(
                    found[name].grad[keep], expected[name].grad[keep], rtol=1e-9, atol=1e-12
                )
                assert (found[name].grad[~keep] == 0).all()
        torch.testing.assert_close(soft._gate.grad, gate.grad, rtol=1e-4, atol=1e-7)
    assert soft._masks["first.lin_rel.weight"].dtype == torch.float64


@pytest.mark.parametrize("model", ["gcn", "gat"])
def test_pruned_entries_are_0_in_both_factors_after_every_step(model):
    context = new_context(model=model, weight_decay=0.1, weight_l1=0.1, edge_l1=0.1, lr=0.3)
    edge_mask, weight_mask = masks = _masks(context)
    soft = _soft(context, masks)
    for _ in range(5):
        soft._step(soft._data, "here")
        for name, keep in weight_mask.items():
            for factor in (soft._weights[name], soft._masks[name], soft._products[name]):
                assert (factor[~keep] == 0).all()
        assert (soft._gate[~edge_mask.keep] == 0).all()


def test_the_masks_of_the_best_validation_epoch_are_returned():
    metrics = [0.2, 0.9, 0.9, 0.5]
    several = _soft(new_context(objective=Scripted(metrics))).run(4, 0, "round")
    two = _soft(new_context(objective=Scripted(metrics))).run(2, 0, "round")
    three = _soft(new_context(objective=Scripted([0.1, 0.2, 0.3]))).run(3, 0, "round")
    assert (several.metric, several.epochs, two.epochs) == (0.9, 4, 2)
    assert torch.equal(several.edges, two.edges)
    assert not torch.equal(several.edges, three.edges)
    for name, score in several.weights.items():
        assert torch.equal(score, two.weights[name])
        assert not torch.equal(score, three.weights[name])


@pytest.mark.parametrize(("patience", "epochs"), [(0, 9), (3, 5), (20, 9)])
def test_training_stops_after_patience_epochs_without_a_better_one(patience, epochs):
    soft = _soft(new_context(objective=Scripted([0.2, 0.9, 0.4])))
    assert soft.run(9, patience, "round").epochs == epochs


@pytest.mark.parametrize(("edges", "weights"), [(0.3, 0.0), (0.0, 0.5)])
def test_only_what_is_to_be_pruned_has_soft_masks(edges, weights):
    context = new_context(edge_sparsity=edges, weight_sparsity=weights)
    found = _soft(context).run(2, 0, "round")
    assert (found.edges is not None) == (edges > 0)
    assert bool(found.weights) == (weights > 0)


def test_clamped_gates_stay_in_the_unit_interval():
    for clamp in (True, False):
        soft = _soft(new_context(lr=0.5), clamp_gates=clamp)
        with seeded(0):
            for _ in range(4):
                soft._step(soft._data, "here")
        inside = ((soft._gate >= 0) & (soft._gate <= 1)).all()
        assert bool(inside) == clamp


def test_a_further_loss_is_part_of_what_is_minimised():
    seen = []

    def more(out):
        seen.append(out.shape)
        return 50 * out.square().sum()

    plain, other = _soft(new_context()), _soft(new_context(), extra_loss=more)
    for soft in (plain, other):
        soft.run(1, 0, "round")
    assert seen == [(90, 3)]
    name = "convs.1.lin.weight"
    assert other._weights[name].grad.norm() > 5 * plain._weights[name].grad.norm()
