"""Fast dropout: the same distribution as torch's, seeded, differentiable, fit for checkpointing."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch_geometric.nn import GATConv

from fastglt.training.dropout import fast_dropout, scaled_dropout


def drop(x, p=0.5, **options):
    """``x`` after a dropout module in training mode."""
    module = nn.Dropout(p, **options)
    with fast_dropout(module):
        return module(x)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_elements_are_dropped_with_the_probability_and_the_rest_scaled(p, dtype):
    torch.manual_seed(0)
    x = torch.ones(1001, 203, dtype=dtype)
    out = drop(x, p)
    assert out.dtype == dtype
    kept = out != 0
    deviation = (p * (1 - p) / x.numel()) ** 0.5
    assert abs(float(kept.double().mean()) - (1 - p)) < 5 * deviation
    assert torch.allclose(out[kept], torch.tensor(1 / (1 - p), dtype=dtype), rtol=1e-4)
    # Neither neighbours in memory nor the four of a word know of each other.
    for shift in (1, 2, 3, 4, 203):
        both = (kept.flatten()[shift:] & kept.flatten()[:-shift]).double().mean()
        assert abs(float(both) - (1 - p) ** 2) < 8 * deviation


def test_it_is_not_the_dropout_of_torch():
    torch.manual_seed(0)
    fast = drop(torch.ones(500))
    torch.manual_seed(0)
    assert not torch.equal(fast, nn.Dropout(0.5)(torch.ones(500)))


def test_the_gradient_is_that_of_what_was_kept():
    x = torch.ones(50, 30, requires_grad=True)
    out = drop(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


def test_the_seed_decides():
    def draw(seed):
        torch.manual_seed(seed)
        return drop(torch.ones(100))

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


@pytest.mark.parametrize("p", [0.0, 1.0, 1e-9])
def test_what_is_no_dropout_is_left_to_torch(p):
    assert torch.equal(drop(torch.ones(40), p), torch.full((40,), float(p < 1)))


def test_in_evaluation_nothing_is_dropped():
    module = nn.Dropout(0.5).eval()
    with fast_dropout(module):
        assert torch.equal(module(torch.ones(40)), torch.ones(40))


def test_in_place_it_is_in_place():
    x = torch.ones(400)
    assert drop(x, inplace=True) is x
    assert 0 < int((x == 0).sum()) < 400


def test_a_checkpointed_layer_drops_the_same_again():
    x = torch.ones(64, 8, requires_grad=True)
    layer = nn.Sequential(nn.Dropout(0.5), nn.Identity())
    with fast_dropout(layer):
        out = checkpoint(lambda value: layer(value) ** 2, x, use_reentrant=False)
        out.sum().backward()
    assert torch.equal(x.grad == 0, out == 0)
    assert bool((out == 0).any())


def test_a_forward_on_the_instance_stays():
    module = nn.Dropout(0.5)
    module.forward = torch.neg
    with fast_dropout(module):
        assert torch.equal(module(torch.ones(3)), -torch.ones(3))
    assert module.forward is torch.neg


def test_within_itself_it_changes_nothing():
    module = nn.Dropout(0.5)
    with fast_dropout(module):
        outer = module.forward
        with fast_dropout(module):
            assert module.forward is outer
        assert module.forward is outer
    assert "forward" not in vars(module)


def test_the_device_is_that_of_the_input():
    with torch.device("meta"):
        assert drop(torch.ones(8, device="cpu")).device.type == "cpu"


def test_the_model_is_left_as_it_was_found():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2))
    with fast_dropout(model):
        inside = copy.deepcopy(model)
    assert "forward" not in vars(model[0])
    # A copy that was made within has a dropout of its own.
    inside.eval()
    assert torch.equal(inside[0](torch.ones(100)), torch.ones(100))


def _share_dropped(call, repeats=40):
    torch.manual_seed(0)
    return float(torch.cat([call() == 0 for _ in range(repeats)]).float().mean())


class _Functional(nn.Module):
    def forward(self, x):
        return F.dropout(x, p=0.6, training=self.training)


DROPS = {
    "module": lambda: nn.Dropout(0.6),
    "functional": _Functional,
    "in place": lambda: nn.Dropout(0.6, inplace=True),
}


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("kind", DROPS)
@pytest.mark.parametrize("factor", [1.0, 0.25, 0.0])
def test_all_probabilities_are_scaled_and_expected_values_kept(kind, factor, fast):
    model = DROPS[kind]().train()
    with fast_dropout(model) if fast else nullcontext(), scaled_dropout(factor):
        share = _share_dropped(lambda: model(torch.ones(2000)))
        mean = torch.stack([model(torch.ones(2000)).mean() for _ in range(40)]).mean()
    assert share == pytest.approx(0.6 * factor, abs=0.01)
    assert float(mean) == pytest.approx(1.0, abs=0.02)


def test_probabilities_of_attention_are_scaled():
    edge_index = torch.stack([torch.arange(1, 401), torch.zeros(400, dtype=torch.int64)])
    conv = GATConv(2, 2, dropout=0.5, add_self_loops=False).train()
    seen = []
    conv.register_edge_update_forward_hook(lambda _, __, attention: seen.append(attention))
    with scaled_dropout(0.2):
        for _ in range(30):
            conv(torch.randn(401, 2), edge_index)
    assert float((torch.cat(seen) == 0).float().mean()) == pytest.approx(0.1, abs=0.02)


def test_scaling_ends_with_its_context_even_after_an_error():
    model = nn.Dropout(0.6).train()
    with pytest.raises(RuntimeError, match="stop"), scaled_dropout(0.1):
        raise RuntimeError("stop")
    assert _share_dropped(lambda: model(torch.ones(2000))) == pytest.approx(0.6, abs=0.01)
    assert model.p == 0.6


def test_nothing_is_dropped_in_eval_mode_whatever_the_factor():
    model = nn.Dropout(0.6).eval()
    with scaled_dropout(0.5), fast_dropout(model):
        assert torch.equal(model(torch.ones(100)), torch.ones(100))
