"""Models as people have them: lazy, pruned by torch, compiled, or not a model at all."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch_geometric.nn import GCN, GCNConv

import fastglt
from fastglt.errors import ModelError
from fastglt.training.tasks import NodeClassification
from helpers import TINY, build, graph


def find(model, data):
    return fastglt.find(model, data, edge_sparsity=0.29, weight_sparsity=0.8, **TINY)


def test_a_ticket_of_a_lazy_model_fits_a_lazy_model():
    data = graph()
    lazy = GCN(-1, 16, 2, int(data.y.max()) + 1)
    ticket = find(lazy, data)
    model, kept = ticket.apply(lazy, data)
    out = model.eval()(kept.x, kept.edge_index)
    assert NodeClassification().metric(out, data, "test") == ticket.metrics["test_ticket"]
    assert ticket.rewind(lazy).convs[0].lin.weight.shape == (16, data.num_features)


class _LateNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = GCNConv(-1, 3)
        self.norm = nn.LazyBatchNorm1d()

    def forward(self, x, edge_index):
        return self.norm(self.conv(x, edge_index))


def test_a_lazy_buffer_is_refused_until_the_model_was_run():
    data, model = graph(), _LateNorm()
    with pytest.raises(ModelError, match=r"'norm' cannot be copied before its buffer.*run the"):
        find(model, data)
    with torch.no_grad():
        model.eval()(data.x, data.edge_index)
    find(model, data)


@pytest.mark.parametrize("name", ["gcn", "plain"])
def test_a_model_that_torch_prunes_is_refused(name):
    model = build(name, graph())
    layer = model.convs[0].lin if name == "gcn" else model.encode
    prune.l1_unstructured(layer, "weight", amount=0.5)
    with pytest.raises(ModelError, match=r"torch.nn.utils.prune already"):
        find(model, graph())


def test_torchs_old_weight_norm_is_refused():
    model = build("plain", graph())
    with pytest.warns(FutureWarning, match="weight_norm"):
        model.encode = nn.utils.weight_norm(model.encode)
    with pytest.raises(ModelError, match=r"Linear 'encode' cannot be copied.*parametrizations"):
        find(model, graph())


def test_a_parametrized_linear_of_pyg_is_refused():
    model = build("gcn", graph())
    nn.utils.parametrizations.weight_norm(model.convs[0].lin)
    with pytest.raises(ModelError, match=r"Linear 'convs.0.lin' is parametrized.*torch.nn.Linear"):
        find(model, graph())


def test_a_class_is_refused():
    with pytest.raises(ModelError, match=r"got the class GCN\); give an instance of it"):
        find(GCN, graph())


def test_a_compiled_model_is_searched_as_the_one_inside():
    data, model = graph(), build("plain", graph())
    calls = []

    def backend(module, inputs):
        calls.append(module)
        return module.forward

    compiled = torch.compile(model, backend=backend)
    init = {name: value.clone() for name, value in compiled.state_dict().items()}
    ticket = fastglt.find(compiled, data, weight_sparsity=0.8, init=init, **TINY)
    inner = {name.removeprefix("_orig_mod."): value for name, value in init.items()}
    plain = fastglt.find(model, data, weight_sparsity=0.8, init=inner, **TINY)
    assert calls == []
    assert ticket.metrics["test_ticket"] == plain.metrics["test_ticket"]
    assert ticket.trained_state.keys() == model.state_dict().keys()


@torch.compiler.set_stance("force_eager")
def test_a_ticket_of_a_compiled_model_names_the_plain_one():
    data, model = graph(), build("plain", graph())
    ticket = find(torch.compile(model, backend="eager"), data)
    assert set(ticket.trained_state) == set(model.state_dict())
    applied, kept = ticket.apply(model, data)
    out = applied.eval()(kept.x, kept.edge_index)
    assert NodeClassification().metric(out, data, "test") == ticket.metrics["test_ticket"]
