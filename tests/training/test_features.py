from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.nn import GCN, GCNConv

import fastglt
from fastglt.errors import InputError
from fastglt.training.features import NODES, Features, linear_cka
from helpers import MODELS, TINY, build, graph, states_equal


def _random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _find(model="gcn", **settings):
    data = graph()
    given = TINY | {"edge_sparsity": 0.3, "weight_sparsity": 0.6} | settings
    return fastglt.find(build(model, data), data, **given)


@pytest.mark.parametrize("shape", [(30, 4, 6), (5, 9, 3)])
def test_alignment_is_that_of_centred_kernels(shape):
    num_nodes, k, other = shape
    first, second = _random(num_nodes, k), _random(num_nodes, other, seed=1)
    centre = torch.eye(num_nodes, dtype=torch.float64) - 1 / num_nodes
    kernels = [centre @ x @ x.T @ centre for x in (first, second)]
    expected = (kernels[0] * kernels[1]).sum() / (kernels[0].norm() * kernels[1].norm())
    assert float(linear_cka(first, second)) == pytest.approx(float(expected))


def test_alignment_does_not_ask_in_which_channels():
    x = _random(40, 6)
    turned = 3 * x @ torch.linalg.qr(_random(6, 6, seed=1)).Q + 5
    assert float(linear_cka(x, turned)) == pytest.approx(1)
    assert float(linear_cka(x, torch.cat([x, torch.zeros(40, 3)], dim=1))) == pytest.approx(1)
    assert float(linear_cka(x, torch.ones(40, 2, dtype=torch.float64))) == 0


def test_the_input_of_the_last_conv_is_compared():
    data = graph()
    teacher, model = build("gcn", data, seed=1).eval(), build("gcn", data).eval()
    features = Features(lambda: teacher(data.x, data.edge_index), teacher, 0.5, seed=0)
    hidden = [net.convs[0](data.x, data.edge_index).relu() for net in (model, teacher)]
    assert len(data.x) < NODES
    expected = 0.5 * (1 - linear_cka(*hidden))
    with features.watching(model):
        model(data.x, data.edge_index)
        found = features.loss()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match="what the last conv is given"):
        features.loss()  # nobody is watched
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_convs_that_are_called_by_name_are_watched_too():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = GCNConv(4, 3)

        def forward(self, x, edge_index):
            return self.conv(edge_index=edge_index, x=x)

    data, model = graph(), Named()
    x = data.x[:, :4]
    features = Features(lambda: model(x, data.edge_index), model, 1.0, seed=0)
    with features.watching(model):
        model(x, data.edge_index)
        assert float(features.loss()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("model", sorted(MODELS))
def test_features_change_the_outcome(model):
    plain, taught = (_find(model, teacher_features=weight) for weight in (0.0, 1.0))
    assert not states_equal(plain.trained_state, taught.trained_state)


def test_features_make_the_ticket_more_like_the_teacher():
    data, found = graph(), []
    teacher = build("gcn", data, seed=3).eval()
    with torch.no_grad():
        target = teacher.convs[0](data.x, data.edge_index).relu()
    for weight in (0.0, 10.0):
        ticket = fastglt.find(
            build("gcn", data), data, teacher=teacher, teacher_features=weight,
            **TINY | {"weight_sparsity": 0.3, "retrain_epochs": 60, "patience": 0},
        )  # fmt: skip
        model, kept = ticket.apply(build("gcn", data), data)
        with torch.no_grad():
            hidden = model.eval().convs[0](kept.x, kept.edge_index).relu()
        found.append(float(linear_cka(hidden, target)))
    assert found[1] > found[0] + 0.05


@pytest.mark.parametrize("teacher", ["none", "tensor"])
def test_without_a_model_there_are_no_features(teacher):
    data = graph()
    given = torch.zeros(data.num_nodes, 3) if teacher == "tensor" else "none"
    with pytest.raises(InputError, match="teacher_features must be 0 without a model"):
        fastglt.find(build("gcn", data), data, teacher=given, teacher_features=1.0, **TINY)


def test_what_is_not_the_whole_graph_is_refused():
    data = graph()
    model = build("gcn", data)
    features = Features(lambda: model(data.x, data.edge_index), model, 1.0, seed=0)
    with features.watching(model):
        model(data.x[:9], torch.zeros(2, 0, dtype=torch.long))
        with pytest.raises(InputError, match=r"whole graph in every step \(got 9 of 90 nodes\)"):
            features.loss()


def test_a_model_without_convs_is_refused():
    net = nn.Linear(3, 2)
    with pytest.raises(InputError, match="what the last conv is given"):
        Features(lambda: net(torch.rand(4, 3)), net, 1.0, seed=0)


def test_one_conv_has_nothing_hidden_and_still_runs():
    data = graph()
    model = GCN(data.num_features, 8, 1, 3)
    ticket = fastglt.find(model, data, teacher_features=1.0, weight_sparsity=0.3, **TINY)
    assert ticket.metrics["val_ticket"] >= 0


def test_a_constant_representation_has_no_gradient():
    x = torch.zeros(5, 3, requires_grad=True)
    linear_cka(x, torch.randn(5, 3)).backward()
    assert torch.equal(x.grad, torch.zeros(5, 3))


@pytest.mark.parametrize("method", ["fastglt", "early-bird", "teddy"])
def test_features_guide_the_search_too(method):
    settings = {"method": method, "teacher_phases": "search", "teacher": "dense"}
    plain, taught = (_find(teacher_features=weight, **settings) for weight in (0.0, 100.0))
    assert any(
        not torch.equal(keep, taught.weight_masks[name])
        for name, keep in plain.weight_masks.items()
    )
