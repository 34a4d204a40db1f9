from __future__ import annotations

import copy

import pytest
import torch
from sample_models import BASIC, FEATURES, MODELS, NODES, make_graph, make_model

from fastglt.compile import compile_applied
from fastglt.compile.bench import bench
from fastglt.compile.candidates import Group, Place, ways
from fastglt.compile.edges import Graph
from fastglt.compile.hardware import peak_megabytes
from fastglt.compile.program import Aggregate, Linear, Rule
from fastglt.training.tasks import NodeClassification

TASK = NodeClassification()


@pytest.mark.parametrize("kind", MODELS)
def test_what_is_executed_is_counted(kind):
    dense, data = make_model(kind, 0, 1.0), make_graph(0)
    masked = copy.deepcopy(dense)
    with torch.no_grad():
        for parameter in masked.parameters():
            if parameter.dim() == 2:
                parameter[parameter.size(0) // 2 :] = 0
    keep = torch.arange(data.num_edges) % 2 == 0
    kept = copy.copy(data)
    kept.edge_index = data.edge_index[:, keep]
    compiled = compile_applied(masked, kept, TASK)
    found = bench((dense, data), (masked, kept), compiled, keep, TASK, repeats=2)
    macs = {name: variant.macs for name, variant in found.variants.items()}
    # Which kernels are the fastest on so small a graph, and whether any of them, is chance.
    assert macs["materialised"] < macs["dense"] == macs["masked"]
    if kind in BASIC:  # a softmax over neighbours takes two products, and counts as one elsewhere
        assert macs["compiled"] <= macs["materialised"]
    assert found.max_abs_diff < 1e-9
    assert found.bound_ms is None or found.bound_ms > 0


def tried(op, graph, value):
    return ways(Group(0, op), Place(graph, True), [value], overwrites=False)


def test_macs_by_hand():
    data = make_graph(0)
    x = data.x.to_sparse_csr()
    op = Linear(0, torch.randn(8, FEATURES, dtype=torch.float64))
    graph = Graph(data.edge_index, None, NODES)
    proper = data.edge_index[:, data.edge_index[0] != data.edge_index[1]]
    pairs = torch.unique(proper, dim=1).size(1) + NODES  # duplicates are one entry of a matrix
    macs = {way.name: way.cost([x], way(x)).macs for way in tried(op, graph, x)}
    assert macs.pop("dense") == NODES * FEATURES * 8
    assert set(macs.values()) == {int(data.x.count_nonzero()) * 8}
    h = torch.randn(NODES, 8, dtype=torch.float64)
    for way in tried(Aggregate(0, Rule("gcn", 1.0)), graph, h):
        assert way.cost([h], way(h)).macs == pairs * 8


def test_peak_memory_is_what_is_held_at_a_time():
    def call():
        first = torch.ones(1000, 250)
        second = first + 1
        del first
        return second * 2

    assert peak_megabytes(call, torch.device("cpu")) == pytest.approx(2.0, rel=0.01)
