"""Channel groups: found in any model, and right in what they say."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch_geometric import nn as pyg

from fastglt.gating import channel_groups, prunable_weights
from fastglt.models import build_model
from fastglt.models.config import BackboneConfig
from helpers import graph

WIDTH = 12


def groups_of(model, data):
    return channel_groups(model, lambda copy_: copy_(data.x, data.edge_index))


def told(groups):
    return [(group.writers, sorted(group.readers)) for group in groups]


def backbone(name, data, **config):
    return build_model(name, data.num_features, 3, BackboneConfig(hidden=WIDTH, **config))


@pytest.mark.parametrize(
    ("name", "config", "expected"),
    [
        ("gcn", {}, [(("convs.0.lin",), ["convs.1.lin"])]),
        ("gcn", {"norm": "layer_norm"}, [(("convs.0.lin",), ["convs.1.lin"])]),
        ("gat", {"heads": 3}, [(("convs.0.lin",), ["convs.1.lin"])]),
        ("sage", {}, [(("convs.0.lin_l", "convs.0.lin_r"), ["convs.1.lin_l", "convs.1.lin_r"])]),
        (
            "gin",
            {"norm": "batch_norm"},
            [
                (("convs.0.nn.lins.0",), ["convs.0.nn.lins.1"]),
                (("convs.0.nn.lins.1",), ["convs.1.nn.lins.0"]),
                (("convs.1.nn.lins.0",), ["convs.1.nn.lins.1"]),
                (("convs.1.nn.lins.1",), ["lin"]),
            ],
        ),
        (
            "deepergcn",
            {"layers": 2},
            [
                (("encoder",), ["layers.0.conv.mlp.0"]),
                (("encoder", "layers.0.conv.mlp.0"), ["layers.1.conv.mlp.0"]),
                (("encoder", "layers.0.conv.mlp.0", "layers.1.conv.mlp.0"), ["lin"]),
            ],
        ),
    ],
)
def test_backbones(name, config, expected):
    data = graph()
    found = groups_of(backbone(name, data, **config), data)
    assert told(found) == [
        (
            tuple(f"{writer}.weight" for writer in writers),
            [f"{reader}.weight" for reader in readers],
        )
        for writers, readers in expected
    ]
    for group in found:
        assert group.size == WIDTH
        assert all(torch.equal(channel, torch.arange(WIDTH)) for channel in group.readers.values())


@pytest.mark.parametrize(
    "model",
    [
        pyg.models.GCN(5, WIDTH, 3, 3, jk="cat"),
        pyg.models.GAT(5, WIDTH, 3, 3, heads=2, v2=True, jk="max"),
        pyg.models.GraphSAGE(5, WIDTH, 3, 3, project=True),
        pyg.models.EdgeCNN(5, WIDTH, 2, 3),
        pyg.models.GIN(5, WIDTH, 2, 3, norm="graph_norm", act="elu"),
    ],
)
def test_what_reads_a_channel_that_is_not_written_makes_no_difference(model):
    data = graph()
    data.x = torch.randn(data.num_nodes, 5)
    model.eval()
    found = groups_of(model, data)
    assert found
    usual = model(data.x, data.edge_index)
    for group in found:
        changed = False
        for channel in range(group.size):
            silent = copy.deepcopy(model)
            parameters = dict(silent.named_parameters())
            with torch.no_grad():
                for writer in group.writers:
                    module = silent.get_submodule(writer.removesuffix(".weight"))
                    module.weight[channel] = 0
                    if module.bias is not None:
                        module.bias[channel] = 0
                written_by_none = silent(data.x, data.edge_index)
                for reader, channels in group.readers.items():
                    parameters[reader][:, channels == channel] = 0
                read_by_none = silent(data.x, data.edge_index)
            # Biases of convs and norms are 0 as they are made, so a channel without weights is 0.
            assert torch.allclose(written_by_none, read_by_none, atol=1e-5)
            changed |= not torch.allclose(usual, read_by_none, atol=1e-5)
        assert changed


def test_an_index_is_decoded_and_not_assumed():
    class Shuffled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 2)
            self.order = torch.tensor([3, 1, 5, 0, 2, 4])

        def forward(self, x, edge_index):
            return self.second(self.first(x).relu()[:, self.order])

    data = graph()
    data.x = torch.randn(data.num_nodes, 4)
    model = Shuffled()
    (group,) = groups_of(model, data)
    assert torch.equal(group.readers["second.weight"], model.order)


@pytest.mark.parametrize("mix", ["softmax", "sum", "twice", "none"])
def test_mixed_channels_are_no_group(mix):
    class Mixing(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x, edge_index):
            x = self.first(x)
            if mix == "softmax":
                return self.second(x.softmax(dim=-1))
            if mix == "sum":
                return self.second(x + x.flip(-1))
            if mix == "twice":
                return self.second(self.first(x))
            return x

    data = graph()
    data.x = torch.randn(data.num_nodes, 4)
    assert groups_of(Mixing(), data) == []


def test_tied_weights_are_left_out():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    model[2].weight = model[0].weight
    found = channel_groups(model, lambda copy_: copy_(torch.randn(9, 4)))
    assert found == []


@pytest.mark.parametrize("use", ["output", "parameter", "both of two"])
def test_channels_that_something_else_reads_are_no_group(use):
    class Read(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 3), nn.Linear(3, 3)
            self.w = nn.Parameter(torch.randn(3, 3))

        def forward(self, x, edge_index):
            h = self.first(x)
            out = self.second(h.relu())
            if use == "output":
                return h + out
            if use == "parameter":
                return out + h @ self.w
            return out + self.second(h)

    data = graph()
    data.x = torch.randn(data.num_nodes, 4)
    assert groups_of(Read(), data) == []


def test_a_layer_may_be_called_by_keyword_and_return_several_things():
    class ByKeyword(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, x, edge_index):
            out = self.second(input=self.first(input=x).relu())
            return {"out": out, "number": 3, "pair": (out, edge_index)}

    data = graph()
    data.x = torch.randn(data.num_nodes, 4)
    assert told(groups_of(ByKeyword(), data)) == [(("first.weight",), ["second.weight"])]


def test_a_weight_that_is_computed_from_others_is_left_out():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    nn.utils.parametrizations.weight_norm(model[0])
    assert channel_groups(model, lambda copy_: copy_(torch.randn(9, 4))) == []


def test_the_model_is_left_as_it_was():
    data = graph()
    model = backbone("gin", data, norm="batch_norm").train()
    before = copy.deepcopy(model.state_dict())
    groups_of(model, data)
    assert model.training
    assert all("forward" not in vars(module) for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert set(prunable_weights(model)) >= {
        name for group in groups_of(model, data) for name in (*group.writers, *group.readers)
    }
