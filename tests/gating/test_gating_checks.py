from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch_geometric.nn import GCN, ARMAConv, GCNConv, SAGEConv, SuperGATConv

from fastglt.errors import InputError, ModelError
from fastglt.gating import check_model, initialize_lazy
from fastglt.gating.checks import check_copyable
from helpers import build, graph, states_equal


@pytest.mark.parametrize("cached", [True, False])
def test_cached_convs_are_refused_by_name(cached):
    model = nn.Module()
    model.conv = GCNConv(4, 4, cached=cached)
    if not cached:
        check_model(model)
        return
    with pytest.raises(ModelError, match=r"GCNConv 'conv' has cached=True.*cached=False"):
        check_model(model)
    with pytest.raises(ModelError, match="cached=True"):
        check_model(GCN(4, 4, 2, cached=True))


def test_what_is_not_initialised_is_refused_by_name():
    with pytest.raises(ModelError, match=r"parameter 'convs.0.lin.weight' is not .*; run the"):
        check_model(GCN(-1, 4, 2))
    norm = nn.Sequential(nn.Linear(4, 4), nn.LazyBatchNorm1d(affine=False))
    with pytest.raises(ModelError, match=r"buffer '1.running_mean' is not initialised"):
        check_model(norm)


def _trained_super_gat():
    model, data = SuperGATConv(graph(20).num_features, 4), graph(20)
    model(data.x, data.edge_index)
    return model


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5), "torch.nn.utils.prune alr"),
        (lambda: nn.utils.weight_norm(nn.Linear(4, 4)), "'weight' is computed from parameters"),
        (_trained_super_gat, "where a training step left it behind"),
        (lambda: nn.Sequential(nn.LazyBatchNorm1d()), "'0' cannot be copied before its buffer"),
        (lambda: nn.Linear, "got the class Linear"),
    ],
)
def test_what_torch_cannot_copy_is_refused(make, message):
    model = make()
    if isinstance(model, nn.Module):
        with pytest.raises((RuntimeError, ValueError)):
            copy.deepcopy(model)
    with pytest.raises(ModelError, match=message):
        check_copyable(model)


def test_what_torch_can_copy_is_not_refused():
    data = graph(20)
    for model in (_Lazy(), build("gcn", data), nn.GRU(3, 4)):
        model.late_norm = None
        check_copyable(model)
        copy.deepcopy(model)
    check_copyable(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))


def test_what_is_no_module_is_refused():
    with pytest.raises(ModelError, match=r"must be a torch.nn.Module \(got function\)"):
        check_model(lambda x: x)
    with pytest.raises(ModelError, match=r"\(got the class GCN\); give an instance of it"):
        check_model(GCN)


def test_a_model_without_linear_maps_is_refused_unless_others_are_asked_for():
    with pytest.raises(ModelError, match=r"no prunable weights.*got BatchNorm1d"):
        check_model(nn.BatchNorm1d(4))
    check_model(nn.BatchNorm1d(4), include=["weight"])
    with pytest.raises(ModelError, match="no prunable weights"):
        check_model(nn.Linear(4, 4), exclude=["weight"])
    with pytest.raises(InputError, match="include pattern 'wieght'"):
        check_model(nn.Linear(4, 4), include=["wieght"])


def test_a_frozen_model_is_refused():
    with pytest.raises(ModelError, match="no parameters that require gradients; unfreeze"):
        check_model(nn.Linear(4, 4).requires_grad_(False))


def test_a_model_that_torch_prunes_is_refused_until_that_is_made_permanent():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    prune.l1_unstructured(model[1], "weight", amount=0.5)
    with pytest.raises(
        ModelError, match=r"torch.nn.utils.prune already.*torch.nn.utils.prune.remove"
    ):
        check_model(model)
    prune.remove(model[1], "weight")
    check_model(model)


class _Lazy(nn.Module):
    """Lazy layers of PyG and torch beside a norm and dropout, and a counter of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.LazyLinear(6)
        self.norm = nn.BatchNorm1d(6)
        self.late_norm = nn.LazyBatchNorm1d()
        self.conv = SAGEConv(-1, 5)
        self.arma = ARMAConv(-1, 3)
        self.dropout = nn.Dropout(0.5)
        self.dropout.training = False
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x, edge_index):
        self.calls += 1
        hidden = self.late_norm(self.norm(self.encode(x)))
        hidden = torch.nn.functional.dropout(hidden, 0.5)
        return self.arma(self.dropout(self.conv(hidden, edge_index)), edge_index)


def _call(model):
    data = graph(20)
    return model(data.x, data.edge_index)


def test_lazy_models_are_initialised_without_a_trace():
    model = _Lazy()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    initialize_lazy(model, _call)
    check_model(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.calls == 0
    for norm in (model.norm, model.late_norm):
        assert norm.num_batches_tracked == 0
        assert torch.count_nonzero(norm.running_mean) == 0
    assert model.training
    assert model.norm.training
    assert not model.dropout.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert _call(model).shape == (20, 3)


def test_a_lazy_initialisation_follows_the_seed():
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        model = GCN(-1, 4, 2)
        initialize_lazy(model, _call)
        states.append(model.state_dict())
    assert states_equal(states[0], states[1])
    assert not states_equal(states[0], states[2])


def test_other_models_are_not_run():
    def fail(_):
        raise AssertionError

    initialize_lazy(build("gcn", graph(20)), fail)


def test_a_lazy_layer_that_no_call_reaches_is_still_refused():
    model = build("plain", graph(20))
    model.unused = nn.LazyLinear(3)
    initialize_lazy(model, _call)
    with pytest.raises(ModelError, match=r"'unused.weight' is not initialised"):
        check_model(model)


def test_an_error_in_the_call_leaves_the_training_flags_alone():
    model = GCN(-1, 4, 2)

    def fail(given):
        assert not any(module.training for module in given.modules())
        raise RuntimeError

    with pytest.raises(RuntimeError):
        initialize_lazy(model, fail)
    assert all(module.training for module in model.modules())
