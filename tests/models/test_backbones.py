from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn
from torch_geometric.utils import to_torch_csr_tensor

from fastglt.errors import InputError, UnknownNameError
from fastglt.models import BACKBONES, BackboneConfig, build_model, resolve_config
from fastglt.models.gat import _dropped
from fastglt.training.seeding import seeded
from helpers import graph

pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks")

SMALL = BackboneConfig(hidden=8, layers=3)


def adjacency(data):
    return to_torch_csr_tensor(data.edge_index.flip(0), size=(data.num_nodes, data.num_nodes))


@pytest.mark.parametrize("name", sorted(BACKBONES))
@pytest.mark.parametrize("layers", [1, 3])
def test_a_backbone_gives_a_row_of_outputs_a_node(name, layers):
    data = graph()
    model = build_model(name, data.num_features, 3, BackboneConfig(hidden=8, layers=layers))
    assert model(data.x, data.edge_index).shape == (data.num_nodes, 3)


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_a_backbone_learns(name):
    data = graph()
    with seeded(0):
        model = build_model(name, data.num_features, 3, SMALL)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        losses = []
        for _ in range(30):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(data.x, data.edge_index), data.y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_an_adjacency_gives_the_same_outputs(name):
    data = graph()
    model = build_model(name, data.num_features, 3, SMALL).eval()
    expected = model(data.x, data.edge_index)
    assert torch.allclose(model(data.x, adjacency(data)), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["gcn", "gat", "deepergcn"])
def test_sparse_features_give_the_same_outputs_and_can_be_trained_on(name):
    data = graph()
    x = data.x.to_sparse_csr()
    model = build_model(name, data.num_features, 3, SMALL)
    model.train()(x, data.edge_index).sum().backward()
    model.eval()
    assert torch.allclose(model(x, data.edge_index), model(data.x, data.edge_index), atol=1e-5)


def test_dropout_of_sparse_features_is_dropout_of_their_values():
    x = torch.eye(400).to_sparse_csr()
    dropped = _dropped(x, nn.Dropout(0.25))
    values = dropped.values()
    assert torch.equal(dropped.col_indices(), x.col_indices())
    assert set(values.tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert 0.15 < float((values == 0).float().mean()) < 0.35
    assert _dropped(x, nn.Dropout(0.25).eval()) is x


def test_gat_drops_input_features_in_training_only():
    data = graph()
    config = BackboneConfig(hidden=8, layers=1, heads=1)
    model = build_model("gat", data.num_features, 3, config)
    model.convs[0].dropout = 0.0  # of the attention
    assert not torch.equal(model(data.x, data.edge_index), model(data.x, data.edge_index))
    model.eval()
    assert torch.equal(model(data.x, data.edge_index), model(data.x, data.edge_index))


def test_gat_hidden_counts_the_channels_of_all_heads():
    model = build_model("gat", 5, 3, BackboneConfig(hidden=16, heads=4))
    assert (model.convs[0].heads, model.convs[0].out_channels) == (4, 4)
    assert model(torch.zeros(2, 5), torch.tensor([[0], [1]])).shape == (2, 3)


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_edge_features_reach_the_backbones_that_say_so(name):
    data = graph()
    edge_attr = torch.randn(data.num_edges, 4)
    model = build_model(name, data.num_features, 3, SMALL, num_edge_features=4).eval()
    if not BACKBONES[name].edge_features:
        plain = build_model(name, data.num_features, 3, SMALL)
        assert plain.state_dict().keys() == model.state_dict().keys()
        return
    first = model(data.x, data.edge_index, edge_attr=edge_attr)
    assert not torch.allclose(first, model(data.x, data.edge_index, edge_attr=edge_attr + 1))


def test_gin_has_no_hidden_layer_narrower_than_asked_for():
    model = build_model("gin", 5, 2, BackboneConfig(hidden=8, layers=2))
    widths = [linear.out_channels for conv in model.convs for linear in conv.nn.lins]
    assert widths == [8, 8, 8, 8]
    assert model.lin.weight.shape == (2, 8)


def test_hidden_channels_and_dropout_are_those_asked_for():
    model = build_model("GCN", 5, 3, BackboneConfig(hidden=8, layers=2, dropout=0.25))
    assert model.convs[0].lin.weight.shape == (8, 5)
    assert model.dropout.p == 0.25


@pytest.mark.parametrize("name", ["gcn", "gin", "gat", "sage"])
def test_a_norm_stands_after_every_conv_but_the_last(name):
    model = build_model(name, 5, 3, BackboneConfig(hidden=16, norm="batch_norm"))
    outside = [type(norm).__name__ for norm in model.norms if norm is not None]
    assert outside[0] == "BatchNorm"
    assert all(
        type(norm).__name__ != "BatchNorm"
        for norm in build_model(name, 5, 3, BackboneConfig(hidden=16)).modules()
    )
    with pytest.raises(InputError, match="deepergcn has no norm"):
        build_model("deepergcn", 5, 3, BackboneConfig(norm="layer_norm"))


def test_the_seed_decides_the_weights():
    def weights(seed):
        with seeded(seed):
            return build_model("gcn", 5, 3, BackboneConfig(hidden=8)).convs[0].lin.weight

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_a_resolved_config_builds_the_same_model_and_resolves_to_itself(name):
    resolved = resolve_config(name)
    assert resolve_config(name, resolved) == resolved
    assert None not in (resolved.hidden, resolved.layers, resolved.dropout)
    assert (resolved.heads is None) == (name != "gat")

    def shapes(config):
        state = build_model(name, 5, 3, config).state_dict()
        return {key: tensor.shape for key, tensor in state.items()}

    assert shapes(resolved) == shapes(None)


def test_what_is_given_wins_over_the_defaults():
    resolved = resolve_config("deepergcn", BackboneConfig(layers=3, dropout=0.0))
    assert resolved == BackboneConfig(hidden=128, layers=3, dropout=0.0)


def test_a_config_of_a_subclass_resolves_to_a_plain_one():
    class Record(BackboneConfig):
        name: str

    assert type(resolve_config("gcn", Record(name="gcn", hidden=4))) is BackboneConfig


@pytest.mark.parametrize("option", ["hidden", "layers", "dropout", "heads"])
def test_descriptions_name_the_defaults_of_the_registry(option):
    defaults = {name: getattr(entry.defaults, option) for name, entry in BACKBONES.items()}
    usual = defaults["gcn"] or defaults["gat"]
    others = [f"{n} {value}" for n, value in defaults.items() if value not in (usual, None)]
    text = ", ".join([f"default: {usual}", *others])
    assert BackboneConfig.model_fields[option].description.endswith(f"; {text}")


def test_an_unknown_backbone_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'gcn'"):
        build_model("gcnn", 5, 3)


@pytest.mark.parametrize(
    "bad", [{"hidden": 0}, {"layers": 0}, {"dropout": 1.0}, {"heads": 0}, {"width": 3}]
)
def test_sizes_out_of_range_are_refused(bad):
    with pytest.raises(ValidationError):
        BackboneConfig(**bad)


def test_heads_that_do_not_divide_hidden_are_refused():
    with pytest.raises(InputError, match=r"divisible by heads.*got hidden=10, heads=8"):
        build_model("gat", 5, 3, BackboneConfig(hidden=10))


def test_an_option_that_a_backbone_does_not_have_is_refused():
    with pytest.raises(InputError, match=r"gcn has no heads \(got heads=4\)"):
        build_model("gcn", 5, 3, BackboneConfig(heads=4))


def test_the_registry_is_imported_without_torch():
    program = (
        "import sys, fastglt.models; fastglt.models.resolve_config('gat');"
        "assert not {'torch', 'torch_geometric'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_backbones_can_be_copied():
    data = graph()
    for name in BACKBONES:
        model = build_model(name, data.num_features, 3, SMALL).eval()
        twin = copy.deepcopy(model)
        assert torch.equal(twin(data.x, adjacency(data)), model(data.x, adjacency(data))), (
            f"copy of {name}"
        )
