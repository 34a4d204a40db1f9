from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fastglt.errors import ModelError
from fastglt.training.tasks import NodeClassification
from helpers import build, graph, with_loops

TASK = NodeClassification()


class Recorder(torch.nn.Module):
    """Remembers how it was called."""

    def forward(self, *arguments, **named):
        self.arguments, self.named = arguments, named
        return torch.zeros(len(arguments[0]), 3)


def test_a_plain_model_is_called_with_features_and_edges():
    data, model = graph(), Recorder()
    data.edge_weight = torch.ones(data.num_edges)
    TASK.forward(model, data)
    assert len(model.arguments) == 2
    assert model.arguments[0] is data.x
    assert model.arguments[1] is data.edge_index
    assert not model.named


@pytest.mark.parametrize("name", ["gcn", "weighted"])
def test_edge_weights_of_the_graph_reach_models_that_take_them(name):
    data = graph()
    model = build(name, data).eval()
    plain = TASK.forward(model, data)
    data.edge_weight = torch.linspace(0.5, 2, data.num_edges)
    weighted = TASK.forward(model, data)
    assert torch.equal(weighted, model(data.x, data.edge_index, data.edge_weight))
    assert not torch.allclose(weighted, plain)
    gate = torch.linspace(2, 1, data.num_edges)
    expected = model(data.x, data.edge_index, data.edge_weight * gate)
    assert torch.allclose(TASK.forward(model, data, gate), expected)


@pytest.mark.parametrize("name", ["gcn", "weighted", "sage", "gin", "gat", "plain"])
@pytest.mark.parametrize("loops", [0, 4, 90])
def test_a_gate_of_ones_changes_nothing_and_every_edge_gets_a_gradient(name, loops):
    data = with_loops(graph(), torch.arange(90)[:loops])
    model = build(name, data).eval()
    gate = torch.ones(data.num_edges, requires_grad=True)
    out = TASK.forward(model, data, gate)
    assert torch.allclose(out, TASK.forward(model, data), atol=1e-5)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((out * weight).sum(), gate)
    proper = data.edge_index[0] != data.edge_index[1]
    assert (gradient[proper] != 0).float().mean() > 0.95


@pytest.mark.parametrize("name", ["sage", "gin", "gat"])
def test_message_gates_belong_to_their_edges_whatever_the_order(name):
    data = graph(30)
    model = build(name, data).eval()
    data = with_loops(data, torch.tensor([9, 2]))
    order = torch.randperm(data.num_edges, generator=torch.Generator().manual_seed(0))
    gate = torch.rand(data.num_edges, generator=torch.Generator().manual_seed(1))
    expected = TASK.forward(model, data, gate)
    data.edge_index = data.edge_index[:, order]
    assert torch.allclose(TASK.forward(model, data, gate[order]), expected, atol=1e-5)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_loss_and_metric_look_at_their_split_only(split):
    data = graph()
    out = torch.randn(90, 3, generator=torch.Generator().manual_seed(0))
    mask = data[f"{split}_mask"]
    loss, metric = TASK.loss(out, data, split), TASK.metric(out, data, split)
    nodes = mask.nonzero().view(-1).tolist()
    by_hand = -sum(F.log_softmax(out, 1)[n, data.y[n]] for n in nodes) / len(nodes)
    assert float(loss) == pytest.approx(float(by_hand), rel=1e-5)
    right = sum(int(out[n].argmax()) == int(data.y[n]) for n in nodes)
    assert metric == pytest.approx(right / len(nodes))
    out[~mask] = 99 * torch.randn(int((~mask).sum()), 3)
    data.y[~mask] = 0
    assert torch.equal(TASK.loss(out, data, split), loss)
    assert TASK.metric(out, data, split) == metric


def test_probabilities_are_positive_and_sum_to_1():
    out = 50 * torch.randn(90, 3, generator=torch.Generator().manual_seed(0))
    probability = TASK.profile(out)
    assert (probability >= 0).all()
    assert torch.allclose(probability.sum(dim=1), torch.ones(90))
    assert torch.equal(probability.argmax(dim=1), out.argmax(dim=1))


@pytest.mark.parametrize(
    ("out", "found"),
    [
        (torch.zeros(90, 2), r"\(90, 2\)"),
        (torch.zeros(89, 3), r"\(89, 3\)"),
        (torch.zeros(90), r"\(90,\)"),
        (torch.zeros(90, 3, 1), r"\(90, 3, 1\)"),
        (torch.zeros(90, 3, dtype=torch.long), "torch.int64"),
        ((torch.zeros(90, 3),), "tuple"),
        (None, "NoneType"),
    ],
)
def test_a_bad_output_is_described(out, found):
    with pytest.raises(ModelError, match=rf"\(90, 3\).*got .*{found}"):
        TASK.check_output(out, graph(), 3)


def test_more_columns_than_labels_are_allowed():
    TASK.check_output(torch.zeros(90, 3), graph(), 3)
    TASK.check_output(torch.zeros(90, 5), graph(), 3)
