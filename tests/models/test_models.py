from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from fastglt.errors import UnknownNameError
from fastglt.models import BACKBONES, build_model
from fastglt.models.config import BackboneConfig
from fastglt.training.seeding import seeded
from helpers import graph


@pytest.mark.parametrize("name", sorted(BACKBONES))
@pytest.mark.parametrize("layers", [1, 3])
def test_a_backbone_gives_a_row_of_logits_a_node(name, layers):
    data = graph()
    model = build_model(name, data.num_features, 3, BackboneConfig(hidden=8, layers=layers))
    assert model(data.x, data.edge_index).shape == (data.num_nodes, 3)


def test_hidden_channels_and_dropout_are_those_asked_for():
    model = build_model("GCN", 5, 3, BackboneConfig(hidden=8, layers=2, dropout=0.25))
    assert model.convs[0].lin.weight.shape == (8, 5)
    assert model.dropout.p == 0.25


def test_the_seed_decides_the_weights():
    def weights(seed):
        with seeded(seed):
            return build_model("gcn", 5, 3, BackboneConfig(hidden=8)).convs[0].lin.weight

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_an_unknown_backbone_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'gcn'"):
        build_model("gcnn", 5, 3)


@pytest.mark.parametrize("bad", [{"hidden": 0}, {"layers": 0}, {"dropout": 1.0}, {"width": 3}])
def test_sizes_out_of_range_are_refused(bad):
    with pytest.raises(ValidationError):
        BackboneConfig(**bad)
