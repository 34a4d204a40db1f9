"""What compiled tickets are good for: other graphs, links, further training."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from sample_models import CLASSES, MODELS, make_graph, make_model
from torch_geometric.data import Data
from torch_geometric.nn import GCN

import fastglt
from fastglt.compile.compiled import compile_applied
from fastglt.models.deepergcn import DeeperGCN
from fastglt.training.tasks import NodeClassification
from helpers import TINY, graph
from training.test_link_prediction import _links

TASK = NodeClassification()


def _with_new_nodes(data: Data, count: int) -> Data:
    """The graph with further nodes, linked among themselves and with the others."""
    generator = torch.Generator().manual_seed(0)
    total = int(data.num_nodes) + count
    new = torch.randint(total, (2, 6 * count), generator=generator)
    new[0] = torch.randint(total - count, total, (6 * count,), generator=generator)
    rows = torch.randn(count, data.x.size(1), generator=generator).to(data.x)
    both = torch.cat([data.edge_index, new, new.flip(0)], dim=1)
    return Data(x=torch.cat([data.x, rows]), edge_index=both)


@pytest.mark.parametrize("build", [
    lambda features, classes: GCN(features, 16, 2, classes, norm="batch_norm"),
    lambda features, classes: DeeperGCN(features, 16, 3, classes),
])  # fmt: skip
@pytest.mark.parametrize("inductive", [False, True])
def test_tickets_of_weights_alone_predict_for_new_nodes(build, inductive):
    data = graph()
    model = build(data.num_features, 3)
    budget = {"edge_sparsity": 0.0, "weight_sparsity": 0.7, "inductive": inductive}
    ticket = fastglt.find(model, data, **TINY | budget)
    compiled = ticket.compile(model, data)
    assert compiled.report.kept_shape is None
    masked, same = ticket.apply(model, data)
    assert same.num_edges == data.num_edges
    other = _with_new_nodes(data, 15)
    ready = compiled.prepare(other)
    assert ready.x.size(1) == len(compiled.columns)
    with torch.no_grad():
        expected = TASK.call(masked.eval(), other)
        found = compiled.model(ready.x, ready.edge_index)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", MODELS)
def test_prepared_graphs_of_any_size(kind):
    model = make_model(kind, 0, 0.3, norm="batch_norm")
    compiled = compile_applied(model, make_graph(0), TASK)
    for other in (_with_new_nodes(make_graph(1), 9), make_graph(2, 0), make_graph(3, 500)):
        ready = compiled.prepare(other)
        found = compiled.model(ready.x, ready.edge_index)
        torch.testing.assert_close(found, TASK.call(model, other), rtol=1e-9, atol=1e-9)


def test_links_are_predicted_as_before():
    data, task = _links(), fastglt.LinkPrediction()
    torch.manual_seed(0)
    model = GCN(data.num_features, 16, 2, 8)
    ticket = fastglt.find(model, data, task=task, edge_sparsity=0.2, weight_sparsity=0.6, **TINY)
    compiled = ticket.compile(model, data, task=task)
    assert compiled.report.kept_shape is None
    masked, kept = ticket.apply(model, data)
    with torch.no_grad():
        expected = task.call(masked.eval(), kept)
    found = compiled.predict()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    pairs = [task.readout(masked, out, data) for out in (expected, found)]
    torch.testing.assert_close(*pairs, rtol=1e-4, atol=1e-4)
    before, after = (task.metric(out, data, "test") for out in pairs)
    assert after == pytest.approx(before, abs=1e-3)


@pytest.mark.parametrize("kind", MODELS)
def test_the_compiled_model_learns_further(kind):
    model, data = make_model(kind, 0, 0.5, norm="batch_norm"), make_graph(0)
    compiled = compile_applied(model, data, TASK)
    small, ready = compiled.model, compiled.data
    target = torch.arange(int(data.num_nodes)) % CLASSES
    shapes = {name: value.shape for name, value in small.state_dict().items()}
    fixed = {name: value.clone() for name, value in small.named_buffers()}
    predicted = compiled.predict().clone()
    optimizer = torch.optim.Adam(small.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss = F.cross_entropy(small(ready.x, ready.edge_index), target)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert {name: value.shape for name, value in small.state_dict().items()} == shapes
    assert all(torch.equal(value, fixed[name]) for name, value in small.named_buffers())
    assert torch.equal(compiled.predict(), predicted)


@pytest.mark.parametrize("kind", ["gcn", "deepergcn"])
def test_what_is_trained_is_what_was_there(kind):
    compiled = compile_applied(make_model(kind, 0, 0.5), make_graph(0), TASK)
    before, after = compiled.report.parameters
    assert sum(value.numel() for value in compiled.model.parameters()) == after <= before
