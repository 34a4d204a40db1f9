"""Compiled tickets on a GPU, where there is one, and what only GPUs use."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from sample_models import MODELS, make_graph, make_model

from fastglt.compile import compile_applied
from fastglt.compile.bench import bench
from fastglt.compile.cuda import Launched, Replayed, launched
from fastglt.compile.edges import Graph, by_target
from fastglt.compile.kernels import Runner
from fastglt.compile.program import Attend
from fastglt.compile.ways import AttentionByEdge, AttentionByHead
from fastglt.data import csbm
from fastglt.models import build_model
from fastglt.models.config import BackboneConfig
from fastglt.training.tasks import NodeClassification

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")
TASK = NodeClassification()


def _case(name):
    data = csbm(300, num_classes=3, num_features=12, average_degree=8, seed=1).cuda()
    torch.manual_seed(0)
    return build_model(name, 12, 3, BackboneConfig(hidden=32)).cuda().eval(), data


@pytest.mark.parametrize("loops", [True, False])
@pytest.mark.parametrize("heads", [1, 3])
def test_attention_by_edge_is_that_by_head(loops, heads):
    data = by_target(make_graph(2))
    graph = Graph(data.edge_index, None, int(data.num_nodes))
    head = torch.arange(6) // (6 // heads)
    parts = (torch.randn(6, dtype=torch.float64) for _ in range(2))
    op = Attend(0, *parts, head, torch.tensor([0, 2, 3, 5]), 0.2, loops)
    x = torch.randn(graph.num_nodes, 6, dtype=torch.float64)
    with torch.no_grad():
        by_head, by_edge = (
            way(op, graph, torch.float64)(x) for way in (AttentionByHead, AttentionByEdge)
        )
    torch.testing.assert_close(by_edge, by_head)
    assert by_edge.abs().max() > 0


def test_a_cpu_has_no_choice_of_launches():
    model, data = make_model("gcn", 0, 1.0), make_graph(0)
    compiled = compile_applied(model, data, TASK)
    runner = compiled.runner
    assert runner is None or launched(runner) == Launched(runner)
    assert "launches" not in [choice.op for choice in compiled.report.kernels]


@CUDA
@pytest.mark.parametrize("kind", MODELS)
def test_compiled_is_masked_there_too(kind):
    model, data = make_model(kind, 0, 1.0).cuda(), make_graph(0).cuda()
    compiled = compile_applied(model, data, TASK)  # which is an error where they differ
    assert compiled.predict().device.type == "cuda"


@CUDA
@pytest.mark.parametrize("name", ["gcn", "gat", "gin"])
def test_predictions_are_in_memory_of_their_own(name):
    model, data = _case(name)
    compiled = compile_applied(model, data, TASK)
    first = compiled.predict()
    kept = first.clone()
    first.zero_()
    torch.testing.assert_close(compiled.predict(), kept)  # sums over edges in any order
    found = []
    threads = [threading.Thread(target=lambda: found.append(compiled.predict())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for out in found:
        torch.testing.assert_close(out, kept)


class _Waits(Runner):
    """A runner that waits for the device."""

    def __init__(self, runner):
        self.__dict__.update(runner.__dict__)

    def __call__(self):
        out = super().__call__()
        return out if float(out.sum()) < torch.inf else out.clone()


@CUDA
def test_a_capture_that_fails_leaves_no_traces():
    model, data = _case("gcn")
    runner = compile_applied(model, data, TASK).runner
    runner = runner.runner if isinstance(runner, Replayed) else runner
    stream = torch.cuda.current_stream()
    with pytest.raises(RuntimeError):
        Replayed(_Waits(runner))
    found = launched(_Waits(runner))
    assert isinstance(found.runner, _Waits)
    assert [choice.kernel for choice in found.choices] == ["one by one"]
    assert "waits" in found.no_graph
    assert torch.cuda.current_stream() == stream
    torch.rand(3, device="cuda")
    assert isinstance(Replayed(runner), Replayed)


@CUDA
def test_bench_shows_what_only_a_gpu_has():
    model, data = _case("gcn")
    masked = copy.deepcopy(model)
    keep = torch.ones(data.num_edges, dtype=torch.bool)
    compiled = compile_applied(masked, data, TASK)
    found = bench((model, data), (masked, data), compiled, keep, TASK, repeats=2)
    assert {"compiled", "compiled_half"} <= {*found.variants, *found.failed}
    assert ("compiled_launched" in found.variants) == isinstance(compiled.runner, Replayed)
    assert found.device == torch.cuda.get_device_name()
