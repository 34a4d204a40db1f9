from __future__ import annotations

import pytest
import torch
from torch import nn

from fastglt.training.norms import recalibrate


def _model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, momentum=0.1), nn.Dropout(0.9))


def _never() -> None:
    pytest.fail("the model was called")


def test_running_statistics_become_those_of_the_call():
    model, x = _model(), torch.randn(50, 4)
    recalibrate(model, lambda: model(x))
    seen = model[0](x)
    torch.testing.assert_close(model[1].running_mean, seen.mean(dim=0))
    torch.testing.assert_close(model[1].running_var, seen.var(dim=0))


def test_predictions_in_eval_mode_are_those_of_the_batch():
    model, x = _model(), 5 + 3 * torch.randn(500, 4)
    recalibrate(model, lambda: model(x))
    out = model(x)
    torch.testing.assert_close(out.mean(dim=0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(out.std(dim=0), torch.ones(6), atol=1e-2, rtol=0)


def test_momentum_and_modes_are_put_back():
    model = _model().train()
    recalibrate(model, lambda: model(torch.randn(9, 4)))
    assert model[1].momentum == 0.1
    assert not any(module.training for module in model.modules())


def test_weights_and_gradients_are_left_alone():
    model = _model()
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    recalibrate(model, lambda: model(torch.randn(9, 4)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.named_parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_without_running_statistics_is_not_called():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, track_running_stats=False))
    recalibrate(model, _never)
