"""Live channels give what the whole layers give, and the same gradients of kept weights."""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
from torch import nn

from fastglt.masks import WeightMask
from fastglt.training import loop
from fastglt.training.channels import LiveChannels, LiveLinear
from fastglt.training.dropout import without_dropout
from fastglt.training.inputs import with_sparse_inputs
from fastglt.training.loop import FitConfig, fit
from fastglt.training.task import ADJACENCY
from fastglt.training.tasks import NodeClassification
from fastglt.training.teacher import Objective
from helpers import build, graph

TASK = NodeClassification()


def pruned(model, density=0.05):
    """Prune the matrices of a model at random; returns the mask."""
    generator = torch.Generator().manual_seed(0)
    masks = {}
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            masks[name] = torch.rand(parameter.shape, generator=generator) < density
            masks[name].view(-1)[0] = True
            parameter.data.masked_fill_(~masks[name], 0)
    return WeightMask(masks)


def live(model):
    return [m for m in model.modules() if isinstance(vars(m).get("forward"), LiveLinear)]


@pytest.mark.parametrize("name", ["gcn", "sage", "gin", "gat", "plain"])
@pytest.mark.parametrize("sparse", [False, True])
def test_outputs_and_gradients_of_kept_weights(name, sparse):
    data = graph(90, features="binary", num_features=60)
    data.x = data.x * (torch.arange(60) % 3 == 0)
    model = build(name, data).double()
    data.x = data.x.double()
    mask = pruned(model)
    if sparse:
        data = with_sparse_inputs(model, data, TASK)
        assert ADJACENCY in data
        assert data.x.layout == torch.sparse_csr

    def figures():
        out = TASK.forward(model.train(), data)
        gradients = torch.autograd.grad(TASK.loss(out, data), list(model.parameters()))
        return out, dict(zip(dict(model.named_parameters()), gradients, strict=True))

    with without_dropout(model):
        out, gradients = figures()
        with LiveChannels(model).under(mask):
            assert live(model)
            live_out, live_gradients = figures()
    torch.testing.assert_close(live_out, out, rtol=1e-9, atol=1e-9)
    for key, expected in gradients.items():
        keep = mask.masks.get(key, torch.ones_like(expected, dtype=torch.bool))
        torch.testing.assert_close(
            live_gradients[key][keep], expected[keep], rtol=1e-9, atol=1e-9, msg=key
        )


def test_a_layer_that_is_mostly_live_stays_whole():
    model = nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 20))
    mask = WeightMask({name: torch.ones(20, 20, dtype=torch.bool) for name in ("0.weight",)})
    with LiveChannels(model).under(mask):
        assert not live(model)
    mask.masks["0.weight"][5:] = False
    with LiveChannels(model).under(mask):
        assert live(model) == [model[0]]


def test_layers_are_looked_at_once_a_mask():
    model = nn.Sequential(nn.Linear(20, 20))
    channels = LiveChannels(model)
    masks = [pruned(model, density) for density in (0.02, 0.01)]
    seen = []
    for mask in (masks[0], masks[0], masks[1]):
        with channels.under(mask):
            seen.append(vars(model[0])["forward"])
    assert seen[0] is seen[1]
    assert len(seen[2].inputs) == int(masks[1]["0.weight"].any(dim=0).sum())


def test_the_model_is_left_as_it_was_found():
    model = nn.Sequential(nn.Linear(20, 20))
    mask = pruned(model, density=0.01)
    with pytest.raises(ZeroDivisionError), LiveChannels(model).under(mask):
        raise ZeroDivisionError
    assert "forward" not in vars(model[0])
    with LiveChannels(model).under(None):
        assert not live(model)


def test_shared_weights_are_served_wherever_they_are_used():
    model = nn.Sequential(nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 20))
    model[2].weight = model[0].weight
    mask = pruned(model, density=0.01)
    x = torch.randn(4, 20)
    expected = model(x)
    with LiveChannels(model).under(mask):
        assert live(model) == [model[0], model[2]]
        torch.testing.assert_close(model(x), expected)


def test_rows_may_have_any_shape():
    model = nn.Sequential(nn.Linear(20, 20))
    mask = pruned(model, density=0.01)
    for shape in ((20,), (2, 3, 20)):
        x = torch.randn(shape)
        expected = model(x)
        with LiveChannels(model).under(mask):
            torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("name", ["gcn", "gin", "gat"])
def test_retraining_is_the_same_without_dead_channels(name, monkeypatch):
    data = graph(90)
    data.x = data.x.double()
    model = build(name, data).double()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    mask = pruned(model)

    def trained():
        copied = copy.deepcopy(model)
        return fit(copied, data, Objective(TASK), FitConfig(15), seed=0, phase="retrain", mask=mask)

    def whole(self, mask):
        return contextlib.nullcontext()

    some = trained()
    monkeypatch.setattr(loop.LiveChannels, "under", whole)
    every = trained()
    assert some.best_epoch == every.best_epoch
    for key, value in every.state.items():
        torch.testing.assert_close(some.state[key], value, rtol=1e-6, atol=1e-8)
