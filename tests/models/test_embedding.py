from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.nn import GCNConv

from fastglt.errors import InputError
from fastglt.models import BACKBONES, BackboneConfig, build_model, resolve_config
from fastglt.models.embedding import WithEmbedding
from helpers import graph

SMALL = BackboneConfig(hidden=8, layers=2)


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_a_graph_without_features_gets_a_learned_row_a_node(name):
    data = graph()
    model = build_model(name, 0, 3, SMALL, num_nodes=data.num_nodes)
    out = model(None, data.edge_index)
    assert out.shape == (data.num_nodes, 3)
    out.square().sum().backward()
    assert model.state_dict()["embedding.weight"].shape == (data.num_nodes, 8)
    assert bool(model.embedding.weight.grad.any())


def test_the_width_of_the_embedding_can_be_chosen_and_is_recorded():
    config = BackboneConfig(hidden=8, embedding_dim=5)
    assert build_model("gcn", 0, 3, config, num_nodes=7).embedding.weight.shape == (7, 5)
    assert resolve_config("gcn", config, featureless=True).embedding_dim == 5
    assert resolve_config("gcn", featureless=True).embedding_dim == 512
    assert resolve_config("gcn").embedding_dim is None


def test_features_are_ignored():
    data = graph()
    model = build_model("gcn", 0, 3, SMALL, num_nodes=data.num_nodes).eval()
    assert torch.equal(model(data.x, data.edge_index), model(None, data.edge_index))


@pytest.mark.parametrize(
    ("name", "weight_matters", "attr_matters"),
    [("gcn", True, False), ("gin", False, False), ("gat", False, True), ("deepergcn", False, True)],
)
def test_what_the_inner_model_takes_is_passed_on(name, weight_matters, attr_matters):
    data = graph()
    attr = torch.rand(data.num_edges, 4)
    weight = torch.rand(data.num_edges)
    model = build_model(name, 0, 3, SMALL, num_edge_features=4, num_nodes=data.num_nodes).eval()

    def differs(**options):
        given = {"edge_weight": weight, "edge_attr": attr}
        first = model(None, data.edge_index, **given)
        return not torch.allclose(first, model(None, data.edge_index, **(given | options)))

    assert differs(edge_weight=weight + 1 - weight.flip(0)) == weight_matters
    assert differs(edge_attr=attr + 1) == attr_matters


class Wrapped(nn.Module):
    """Hands keywords on without naming them."""

    def __init__(self):
        super().__init__()
        self.conv = GCNConv(8, 3)

    def forward(self, x, edge_index, **options):
        return self.conv(x, edge_index, **options)


def test_what_an_inner_model_hands_on_unnamed_is_passed_on():
    data = graph()
    model = WithEmbedding(Wrapped(), data.num_nodes, 8)
    weight = torch.rand(data.num_edges)
    expected = model.model.conv(model.embedding.weight, data.edge_index, weight)
    given = {"edge_weight": weight, "edge_attr": weight.unsqueeze(1)}
    assert torch.equal(model(None, data.edge_index, **given), expected)


def test_a_graph_without_features_and_node_count_is_refused():
    with pytest.raises(InputError, match=r"num_nodes must be given .*got None"):
        build_model("gcn", 0, 3, SMALL)


def test_an_embedding_beside_features_is_refused():
    with pytest.raises(InputError, match="embedding_dim is for graphs without features"):
        build_model("gcn", 4, 3, BackboneConfig(embedding_dim=8))


def test_another_graph_is_refused():
    data = graph()
    model = build_model("gcn", 0, 3, SMALL, num_nodes=data.num_nodes + 1)
    with pytest.raises(InputError, match="fits no other graph"):
        model(data.x, data.edge_index)
