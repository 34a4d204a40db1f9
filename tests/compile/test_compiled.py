from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch
from sample_models import CLASSES, FEATURES, MODELS, make_graph, make_model
from torch import nn
from torch_geometric.nn import GCN, GCNConv

import fastglt
from fastglt.compile import verify
from fastglt.compile.compiled import compile_applied
from fastglt.compile.verify import LOW
from fastglt.errors import CompileError, InputError, ModelError
from fastglt.training.tasks import NodeClassification
from helpers import graph

TASK = NodeClassification()
CALL = TASK.call
SHORT = {"dense_epochs": 5, "pretrain_epochs": 2, "denoise_steps": 6, "retrain_epochs": 5}


class Own(nn.Module):
    """A model that is not taken apart."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = GCNConv(FEATURES, CLASSES)

    def forward(self, x, edge_index):
        return self.conv(x, edge_index).relu() * x.mean()


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_model_data_and_predict_give_the_same(kind, dtype):
    model, data = make_model(kind, 0, 0.1).to(dtype), make_graph(0)
    data.x = data.x.to(dtype)
    compiled = compile_applied(model, data, TASK)
    found = compiled.model(compiled.data.x, compiled.data.edge_index)
    assert found.dtype == compiled.predict().dtype == dtype
    torch.testing.assert_close(found.detach(), compiled.predict(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.detach(), CALL(model, data).detach(), rtol=1e-4, atol=1e-4)
    assert compiled.report.kept_shape is None
    assert compiled.report.differences.float64 < 1e-9
    json.dumps(compiled.report.to_dict(), allow_nan=False)


@pytest.mark.parametrize("kind", MODELS)
def test_it_predicts_for_other_graphs(kind):
    model = make_model(kind, 0, 0.1)
    compiled = compile_applied(model, make_graph(0), TASK)
    other = make_graph(1, 50)
    ready = compiled.prepare(other)
    found = compiled.model(ready.x, ready.edge_index)
    torch.testing.assert_close(found, CALL(model, other), rtol=1e-9, atol=1e-9)
    assert other.x.size(1) == FEATURES


@pytest.mark.parametrize("kind", MODELS)
def test_training_goes_on(kind):
    model = make_model(kind, 0, 0.5)
    compiled = compile_applied(model, make_graph(0), TASK)
    out = compiled.model(compiled.data.x, compiled.data.edge_index)
    out.square().sum().backward()
    assert any(float(p.grad.abs().sum()) > 0 for p in compiled.model.parameters())


def test_what_is_not_taken_apart_keeps_its_shape_and_says_so():
    model, data = Own().double().eval(), make_graph(0)
    compiled = compile_applied(model, data, TASK)
    assert compiled.report.kept_shape.endswith("Own is not taken apart")
    assert compiled.report.fastest == "masked"
    expected = CALL(model, data)
    torch.testing.assert_close(compiled.predict(), expected.detach())
    torch.testing.assert_close(compiled.model(compiled.data.x, compiled.data.edge_index), expected)


def test_norms_over_the_whole_graph_keep_the_shape():
    model = make_model("gcn", 0, 0.5, norm="layer_norm")
    compiled = compile_applied(model, make_graph(0), TASK)
    assert "LayerNorm over the whole graph" in compiled.report.kept_shape


def test_a_model_that_differs_is_an_error(monkeypatch):
    monkeypatch.setattr(verify, "EXACT", -1.0)
    with pytest.raises(CompileError, match="in float64: by"):
        compile_applied(make_model("gcn", 0, 0.5), make_graph(0), TASK)


def test_edge_level_attributes_are_sorted_along():
    data = make_graph(2, weighted=True)
    data.edge_id = torch.arange(data.num_edges)
    data.edge_name = [f"{u}-{v}" for u, v in data.edge_index.t().tolist()]
    data.edge_label_index, data.edge_label = data.edge_index.clone(), data.edge_id.clone()
    compiled = compile_applied(make_model("gcn", 0, 0.5), data, TASK)
    order = compiled.data.edge_id
    assert torch.equal(compiled.data.edge_index, data.edge_index[:, order])
    assert torch.equal(compiled.data.edge_weight, data.edge_weight[order])
    assert bool((compiled.data.edge_index[1].diff() >= 0).all())
    assert compiled.data.edge_name == [data.edge_name[place] for place in order.tolist()]
    # Supervision edges stay as they are, although there are as many of them.
    assert torch.equal(compiled.data.edge_label_index, data.edge_label_index)
    assert torch.equal(compiled.data.edge_label, data.edge_label)


def test_what_is_done_to_model_and_data_does_not_change_predictions():
    for model in (make_model("gin", 0, 1.0), Own().double().eval()):
        data = make_graph(0)
        data.x = torch.rand_like(data.x)
        compiled = compile_applied(model, data, TASK)
        before = compiled.predict().clone()
        compiled.predict().zero_()
        with torch.no_grad():
            for parameter in compiled.model.parameters():
                parameter.zero_()
        compiled.model.train()
        assert torch.equal(compiled.predict(), before)


@pytest.mark.parametrize("form", ["csr", "coo"])
def test_sparse_features(form):
    model, data = make_model("gcn", 0, 0.5), make_graph(0)
    expected = CALL(model, data).detach()
    data.x = data.x.to_sparse_csr() if form == "csr" else data.x.to_sparse()
    compiled = compile_applied(model, data, TASK)
    torch.testing.assert_close(compiled.predict(), expected)


def test_a_task_with_a_call_of_its_own_keeps_the_shape():
    class Doubled(NodeClassification):
        def call(self, model, data):
            return 2 * super().call(model, data)

    model, data = make_model("gcn", 0, 0.5), make_graph(0)
    compiled = compile_applied(model, data, Doubled())
    assert "Doubled calls the model in a way of its own" in compiled.report.kept_shape
    torch.testing.assert_close(compiled.predict(), 2 * CALL(model, data).detach())


def test_low_precision_keeps_the_shape():
    model, data = make_model("gcn", 0, 0.5).to(torch.bfloat16), make_graph(0)
    data.x = data.x.to(torch.bfloat16)
    assert "bfloat16" in compile_applied(model, data, TASK).report.kept_shape


def _doubled(*given):
    return 2 * given[-1]


@pytest.mark.parametrize("where", ["conv", "message", "linear", "dropout", "activation"])
def test_hooks_keep_the_shape(where):
    model, data = make_model("sage", 0, 0.5), make_graph(0)
    conv = model.convs[0]
    if where == "message":
        conv.register_message_forward_hook(_doubled)
    else:
        places = {"conv": conv, "linear": conv.lin_l, "dropout": model.dropout}
        places.get(where, model.act).register_forward_hook(_doubled)
    compiled = compile_applied(model, data, TASK)
    assert "hooks" in compiled.report.kept_shape
    torch.testing.assert_close(compiled.predict(), CALL(model, data).detach())


def test_a_linear_map_of_ones_own_keeps_the_shape():
    class Shifted(nn.Linear):
        def forward(self, x):
            return super().forward(x) + 1

    model = make_model("gin", 0, 0.5)
    model.convs[0].nn = nn.Sequential(Shifted(FEATURES, 16), nn.ReLU(), nn.Linear(16, 16)).double()
    compiled = compile_applied(model, make_graph(0), TASK)
    assert "Shifted" in compiled.report.kept_shape


def test_outputs_that_are_not_finite_are_an_error():
    model = make_model("gcn", 0, 0.5)
    with torch.no_grad():
        model.convs[0].bias[0] = torch.nan
    with pytest.raises(CompileError, match="the masked model gives NaN"):
        compile_applied(model, make_graph(0), TASK)


def test_graphs_of_other_features_are_refused():
    compiled = compile_applied(make_model("gcn", 0, 0.5), make_graph(0), TASK)
    other = make_graph(1)
    other.x = other.x[:, 1:]
    with pytest.raises(InputError, match="must have the 12 features"):
        compiled.prepare(other)
    same = compile_applied(Own().double(), make_graph(0), TASK).prepare(other)
    assert same is not other
    assert same.x is other.x


@pytest.mark.parametrize("values", ["binary", "learned"])
def test_tickets_are_compiled(values):
    data = graph()
    torch.manual_seed(0)
    model = GCN(data.x.size(1), 16, 2, int(data.y.max()) + 1)
    ticket = fastglt.find(
        model, data, edge_sparsity=0.3, weight_sparsity=0.8, edge_values=values, **SHORT
    )
    compiled = ticket.compile(model, data)
    applied, pruned = ticket.apply(model, data)
    expected = CALL(applied.eval(), pruned).detach()
    torch.testing.assert_close(compiled.predict(), expected, rtol=1e-4, atol=1e-4)
    assert compiled.report.edges == pruned.num_edges
    weight = (compiled.data.edge_weight,) if values == "learned" else ()
    again = compiled.model(compiled.data.x, compiled.data.edge_index, *weight)
    torch.testing.assert_close(again.detach(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_lower_precision_on_request(kind, dtype):
    model, data = make_model(kind, 0, 0.7).float(), make_graph(0)
    data.x = data.x.float()
    compiled = compile_applied(model, data, TASK, dtype)
    found = compiled.predict()
    assert found.dtype == (dtype if compiled.report.fastest == "kernels" else torch.float32)
    assert compiled.report.differences.predict <= LOW[dtype]
    assert compiled.report.differences.float64 <= 1e-9
    assert {p.dtype for p in compiled.model.parameters()} == {torch.float32}
    with torch.no_grad():
        expected = TASK.call(model, data)
    gap = (found.float() - expected).abs().max() / expected.abs().max().clamp_min(1)
    assert gap <= LOW[dtype]


def test_precisions_that_cannot_be_had():
    with pytest.raises(InputError, match=r"bfloat16.*got torch.int8"):
        compile_applied(make_model("gcn", 0, 0.5), make_graph(0), TASK, torch.int8)
    with pytest.raises(ModelError, match="Own is not taken apart"):
        compile_applied(Own().double(), make_graph(0), TASK, torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", MODELS)
def test_a_lower_precision_with_few_weights(kind, dtype):
    model, data = make_model(kind, 1, 0.1, num_layers=3).float(), make_graph(0)
    data.x = data.x.float()
    try:
        compiled = compile_applied(model, data, TASK, dtype)
    except CompileError as error:  # cancellation, which the user is told of
        assert "in the lower precision" in str(error)  # noqa: PT017
    else:
        assert compiled.predict().isfinite().all()


def test_predictions_stay_in_their_precision_under_autocast():
    model, data = make_model("gat", 0, 0.2).float(), make_graph(0)
    data.x = data.x.float()
    compiled = compile_applied(model, data, TASK)
    with torch.autocast("cpu", torch.bfloat16):
        found = compiled.predict()
    if compiled.report.fastest == "kernels":
        assert torch.equal(found, compiled.predict())


def test_what_the_caller_does_to_the_graph_changes_nothing():
    for model in (make_model("gcn", 0, 0.5), Own().double()):
        data = make_graph(0)
        compiled = compile_applied(model, data, TASK)
        before = compiled.predict().clone()
        data.x.mul_(3)
        assert torch.equal(compiled.predict(), before)


def test_a_compiled_ticket_is_neither_pickled_nor_copied():
    compiled = compile_applied(make_model("gcn", 0, 0.5), make_graph(0), TASK)
    for attempt in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="export it"):
            attempt(compiled)
    assert "30 nodes" in repr(compiled)


def test_compiled_in_inference_mode():
    with torch.inference_mode():
        compiled = compile_applied(make_model("gcn", 0, 0.5), make_graph(0), TASK)
    assert torch.equal(compiled.predict(), compiled.predict())


def test_tiny_outputs_are_compared_with_their_own_size():
    expected = torch.tensor([1e-9, -2e-9], dtype=torch.float64)
    assert verify.difference(torch.zeros(2, dtype=torch.float64), expected) == 1.0
    assert verify.difference(torch.zeros(2), torch.zeros(2)) == 0.0
    assert verify.difference(torch.full((2,), 0.5), torch.zeros(2)) == 0.5
