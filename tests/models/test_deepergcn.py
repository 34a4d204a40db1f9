from __future__ import annotations

import pytest
import torch
from torch_geometric.nn import DeepGCNLayer, GENConv
from torch_geometric.utils import to_torch_csr_tensor

from fastglt.errors import InputError
from fastglt.gating import message_gate
from fastglt.models.deepergcn import DeeperGCN
from helpers import graph

pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks")


def model_and_graph(**settings):
    torch.manual_seed(0)
    data = graph()
    return DeeperGCN(data.num_features, 8, 4, 3, **settings).double(), data


def gradients(model, loss, *more):
    torch.manual_seed(1)  # of dropout
    return torch.autograd.grad(loss(), [*model.parameters(), *more])


def assert_same(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("form", ["edge_index", "adj_t", "edge_attr"])
def test_checkpointing_gives_the_same_gradients_with_dropout(form):
    model, data = model_and_graph(edge_dim=2 if form == "edge_attr" else None)
    x, args = data.x.double(), [data.edge_index]
    if form == "adj_t":
        args = [to_torch_csr_tensor(data.edge_index.flip(0), size=(data.num_nodes,) * 2)]
    if form == "edge_attr":
        args.append(torch.randn(data.num_edges, 2, dtype=torch.float64))

    def loss():
        return model(x, *args).square().sum()

    model.train()
    checkpointed = gradients(model, loss)
    model.checkpointing = False
    assert_same(checkpointed, gradients(model, loss))


def test_checkpointing_saves_less():
    def saved(checkpointing):
        model, data = model_and_graph(checkpointing=checkpointing)
        elements = []
        x = data.x.double()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: elements.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            model(x, data.edge_index)
        return sum(elements)

    assert saved(True) < saved(False) / 3


@pytest.mark.parametrize("clear_before_backward", [True, False])
def test_a_gate_on_the_messages_is_there_again_in_the_backward(clear_before_backward):
    model, data = model_and_graph()
    x = data.x.double()
    gate = torch.rand(data.num_edges, dtype=torch.float64, requires_grad=True)

    def gradient():
        torch.manual_seed(1)
        with message_gate(model, data.edge_index, gate):
            loss = model(x, data.edge_index).square().sum()
            if not clear_before_backward:
                return torch.autograd.grad(loss, [gate, *model.parameters()])
        return torch.autograd.grad(loss, [gate, *model.parameters()])

    checkpointed = gradient()
    model.checkpointing = False
    assert_same(checkpointed, gradient())
    assert all(layer.conv._edge_mask is None for layer in model.layers)


def test_it_is_made_of_pygs_layers():
    model, _ = model_and_graph()
    assert all(isinstance(layer, DeepGCNLayer) for layer in model.layers)
    assert all(isinstance(layer.conv, GENConv) for layer in model.layers)
    assert {layer.block for layer in model.layers} == {"res+"}
    assert all(layer.conv.aggr_module.t.requires_grad for layer in model.layers)


def test_evaluation_depends_on_nothing_that_training_accumulated():
    model, data = model_and_graph(dropout=0.0)
    x = data.x.double()
    assert torch.equal(model.train()(x, data.edge_index), model.eval()(x, data.edge_index))


@pytest.mark.parametrize(("edge_dim", "given"), [(None, 2), (2, None)])
def test_edge_attributes_that_do_not_fit_are_refused(edge_dim, given):
    model, data = model_and_graph(edge_dim=edge_dim)
    edge_attr = None if given is None else torch.randn(data.num_edges, given).double()
    with pytest.raises(InputError, match="edge_attr must have the columns"):
        model(data.x.double(), data.edge_index, edge_attr)
