from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from sample_models import CLASSES, FEATURES, MODELS, make_graph, make_model
from torch import nn
from torch_geometric.nn import GCN, GCNConv

import fastglt
from fastglt.compile import verify
from fastglt.compile.compiled import compile_applied
from fastglt.errors import CompileError, ModelError, OutputPathError
from fastglt.training.tasks import NodeClassification
from helpers import graph

CALL = NodeClassification().call
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
    compiled = compile_applied(model, data, CALL)
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
    compiled = compile_applied(model, make_graph(0), CALL)
    other = make_graph(1, 50)
    ready = compiled.prepare(other)
    found = compiled.model(ready.x, ready.edge_index)
    torch.testing.assert_close(found, CALL(model, other), rtol=1e-9, atol=1e-9)
    assert other.x.size(1) == FEATURES


@pytest.mark.parametrize("kind", MODELS)
def test_training_goes_on(kind):
    model = make_model(kind, 0, 0.5)
    compiled = compile_applied(model, make_graph(0), CALL)
    out = compiled.model(compiled.data.x, compiled.data.edge_index)
    out.square().sum().backward()
    assert any(float(p.grad.abs().sum()) > 0 for p in compiled.model.parameters())


def test_what_is_not_taken_apart_keeps_its_shape_and_says_so():
    model, data = Own().double().eval(), make_graph(0)
    compiled = compile_applied(model, data, CALL)
    assert compiled.report.kept_shape == "Own is not taken apart"
    assert compiled.report.fell_back
    expected = CALL(model, data)
    torch.testing.assert_close(compiled.predict(), expected.detach())
    torch.testing.assert_close(compiled.model(compiled.data.x, compiled.data.edge_index), expected)


def test_norms_over_the_whole_graph_keep_the_shape():
    model = make_model("gcn", 0, 0.5, norm="layer_norm")
    compiled = compile_applied(model, make_graph(0), CALL)
    assert "LayerNorm over the whole graph" in compiled.report.kept_shape


def test_a_model_that_differs_is_an_error(monkeypatch):
    monkeypatch.setattr(verify, "EXACT", -1.0)
    with pytest.raises(CompileError, match="in float64: by"):
        compile_applied(make_model("gcn", 0, 0.5), make_graph(0), CALL)


def test_edge_level_attributes_are_sorted_along():
    data = make_graph(2, weighted=True)
    data.edge_label = torch.arange(data.num_edges)
    compiled = compile_applied(make_model("gcn", 0, 0.5), data, CALL)
    order = compiled.data.edge_label
    assert torch.equal(compiled.data.edge_index, data.edge_index[:, order])
    assert torch.equal(compiled.data.edge_weight, data.edge_weight[order])
    assert bool((compiled.data.edge_index[1].diff() >= 0).all())


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


_RELOADED = """
import sys, torch
program, inputs, out = sys.argv[1:]
with torch.no_grad():
    result = torch.export.load(program).module()(*torch.load(inputs))
assert not {"fastglt", "torch_geometric"} & sys.modules.keys()
torch.save(result, out)
"""


@pytest.mark.parametrize(("kind", "weighted"), [*((kind, False) for kind in MODELS), ("gcn", True)])
def test_exported_programs_need_only_torch(kind, weighted, tmp_path):
    model, data = make_model(kind, 0, 0.1, norm="batch_norm"), make_graph(0, weighted=weighted)
    compile_applied(model, data, CALL).export(tmp_path / "model.pt2")
    other = make_graph(1, 50, weighted=weighted)
    inputs = (other.x, other.edge_index, *((other.edge_weight,) if weighted else ()))
    torch.save(inputs, tmp_path / "inputs.pt")
    files = [str(tmp_path / name) for name in ("model.pt2", "inputs.pt", "out.pt")]
    subprocess.run([sys.executable, "-c", _RELOADED, *files], check=True, cwd=tmp_path)
    found = torch.load(tmp_path / "out.pt")
    torch.testing.assert_close(found, CALL(model, other).detach(), rtol=1e-9, atol=1e-9)


def test_a_model_that_kept_its_shape_is_not_exported(tmp_path):
    compiled = compile_applied(Own().double().eval(), make_graph(0), CALL)
    with pytest.raises(ModelError, match="kept its shape: Own is not taken apart"):
        compiled.export(tmp_path / "model.pt2")


def test_exports_go_into_pt2_files(tmp_path):
    compiled = compile_applied(make_model("gcn", 0, 0.5), make_graph(0), CALL)
    with pytest.raises(OutputPathError, match=r"\.pt2"):
        compiled.export(tmp_path / "model.onnx")
