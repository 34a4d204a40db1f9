from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_models import make_graph
from torch import nn

from fastglt.compile.candidates import Group, Place, groups, ways
from fastglt.compile.edges import Graph, by_target, csr
from fastglt.compile.kernels import Runner
from fastglt.compile.layout import Memory
from fastglt.compile.native import build
from fastglt.compile.native.library import Ending, Rows, product, sparse_linear
from fastglt.compile.native.ways import ending_of
from fastglt.compile.order import padded
from fastglt.compile.plain import PlainModel
from fastglt.compile.program import (
    Aggregate,
    Attend,
    Join,
    LayerNorm,
    Linear,
    Map,
    Program,
    Rule,
    Scale,
)
from fastglt.compile.ways import sparse_entries

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=str(build.why_not()))

ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 2e-2}
TAILS = {
    "nothing": (),
    "shift": ("shift",),
    "relu": (nn.ReLU(),),
    "shift, leaky": ("shift", nn.LeakyReLU(0.3)),
    "shift, relu, shift": ("shift", nn.ReLU(), "shift"),
    "scale, elu": ("scale", nn.ELU()),
}


def matrix(rows: int, columns: int, density: float, seed: int, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    full = torch.randn(rows, columns, generator=generator, dtype=dtype)
    return full * (torch.rand(rows, columns, generator=generator) < density)


def as_rows(full, dtype):
    return Rows(csr(*sparse_entries(full)), dtype)


def tail_ops(name: str, channels: int):
    torch.manual_seed(1)
    vector = torch.randn(channels, dtype=torch.float64)
    kinds = {"shift": Scale(0, None, vector), "scale": Scale(0, vector, vector)}
    return tuple(kinds[part] if isinstance(part, str) else Map(0, part) for part in TAILS[name])


def applied(value, tail):
    for op in tail:
        if isinstance(op, Map):
            value = op.module(value)
        else:
            value = value * (1 if op.scale is None else op.scale) + op.shift
    return value


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 300),
    rows=st.integers(1, 90),
    density=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    dtype=st.sampled_from(list(ROUNDING)),
    slope=st.sampled_from([0.0, 0.25, 1.0]),
    shifted=st.booleans(),
    seed=st.integers(0, 99),
)
def test_products_of_any_width(width, rows, density, dtype, slope, shifted, seed):
    left, right = matrix(rows, 40, density, seed), matrix(40, width, 1.0, seed + 1)
    left, right = left.to(dtype).double(), right.to(dtype).double()
    shift = torch.linspace(-2, 2, width, dtype=torch.float64) if shifted else None
    work = torch.float64 if dtype == torch.float64 else torch.float32
    ending = Ending(None if shift is None else shift.to(work), slope)
    expected = left @ right + (0 if shift is None else shift)
    expected = F.leaky_relu(expected, slope)
    scale = expected.abs().max().clamp_min(1)
    block = 1 + seed if seed % 2 else None
    found = product(as_rows(left.to(work), dtype), right.to(dtype), ending, Memory(), block)
    assert found.dtype == dtype
    assert float((found.double() - expected).abs().max() / scale) <= ROUNDING[dtype]
    # The same the other way round: weights are sparse and the features are dense.
    found = sparse_linear(
        as_rows(left.to(work), dtype), right.t().to(dtype).contiguous(), Ending(), Memory()
    )
    gap = (found.double() - (left @ right).t()).abs().max() / scale
    assert float(gap) <= ROUNDING[dtype]


def test_rows_that_do_not_follow_each_other():
    left, whole = matrix(20, 30, 0.3, 0), matrix(30, 50, 1.0, 1)
    rows = as_rows(left, torch.float64)
    for part in (
        whole[:, 3:20],
        whole.t().contiguous().t(),
        whole[:, :1],
        whole[:1].expand(30, -1),
    ):
        torch.testing.assert_close(product(rows, part, Ending(), Memory()), left @ part)


@pytest.mark.parametrize("heads", [1, 2, 3, 8, 11])
@pytest.mark.parametrize("channels", [1, 3, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_ways_of_attention_agree(heads, channels, dtype):
    data = by_target(make_graph(heads))
    graph = Graph(data.edge_index, None, int(data.num_nodes))
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(3, heads * channels, generator=generator, dtype=dtype)
    x = 4 * torch.randn(int(data.num_nodes), heads * channels, generator=generator, dtype=dtype)
    head = torch.arange(heads).repeat_interleave(channels)
    some = torch.arange(heads * channels)[:: 2 if channels > 1 else 1]
    op = Attend(0, vectors[0], vectors[1], head, some, 0.2, True)
    group = Group(0, op, (Scale(1, None, vectors[2][some]), Map(2, nn.ReLU())))
    tried = ways(group, Place(graph, True), [x], overwrites=False)
    assert [way.name for way in tried] == ["products by head", "native"]
    one, other = (way(x) for way in tried)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-11 if dtype == torch.float64 else 1e-4)


def test_attention_far_from_zero():
    graph = Graph(torch.tensor([[0, 1, 2], [2, 2, 2]]), None, 4)
    x = torch.tensor([[-1e4], [0.0], [9e3], [1.0]])
    one = torch.ones(1)
    index = torch.zeros(1, dtype=torch.int64)
    op = Attend(0, one, one, index, index, 0.2, False)
    for way in ways(Group(0, op), Place(graph, True), [x], overwrites=False):
        torch.testing.assert_close(way(x), torch.tensor([[0.0], [0.0], [9e3], [0.0]]))


@pytest.mark.parametrize("name", TAILS)
@pytest.mark.parametrize("kind", ["features", "sum", "weights", "dense"])
def test_what_follows_is_done_at_once_or_afterwards(name, kind):
    data = by_target(make_graph(3))
    nodes, channels = int(data.num_nodes), 7
    graph = Graph(data.edge_index, None, nodes)
    x = matrix(nodes, 12, 0.2 if kind == "features" else 1.0, 0)
    weight = matrix(channels, 12, 0.15 if kind == "weights" else 1.0, 1)
    head = Linear(0, weight, torch.ones(channels, dtype=torch.float64))
    expected = x @ weight.t() + 1
    value = x.to_sparse_csr() if kind == "features" else x
    if kind == "sum":
        head, value = Aggregate(0, Rule("gcn", 1.0)), expected
        expected = graph.adjacency(head.rule, x.dtype) @ expected
    tail = tail_ops(name, channels)
    tried = ways(Group(0, head, tail), Place(graph, True), [value], overwrites=False)
    assert any("native" in way.name for way in tried)
    for way in tried:
        out = way(value)
        torch.testing.assert_close(out, applied(expected, tail), rtol=1e-12, atol=1e-12)
        assert way.cost([value], out).traffic > 0


def test_endings_stop_where_a_kernel_cannot_follow():
    shift = torch.ones(2)
    relu, scale, plain = Map(0, nn.ReLU()), Scale(0, shift, None), Scale(0, None, shift)
    assert ending_of(None, (plain, relu, plain))[1] == 2
    assert ending_of(shift, (plain,))[0].shift.tolist() == [2.0, 2.0]
    assert ending_of(None, (scale, relu))[1] == 0
    assert ending_of(None, (relu, relu))[1] == 1


def test_only_what_nobody_else_reads_is_put_together():
    weight = torch.eye(3, dtype=torch.float64)
    ops = (Linear(0, weight), Map(1, nn.ReLU()), Scale(1, weight[0]), Map(3, nn.Tanh()))
    found = groups(Program(torch.arange(3), 3, ops))
    assert [(group.position, len(group.tail), group.value) for group in found] == [
        (0, 0, 1), (1, 0, 2), (2, 1, 4),
    ]  # fmt: skip


def test_a_runner_frees_nothing_too_early():
    weight = torch.eye(3, dtype=torch.float64)
    ops = (Linear(0, weight), Map(1, nn.ReLU()), Linear(1, -weight), Map(3, nn.ReLU()))
    x = torch.randn(4, 3, dtype=torch.float64)
    graph = Graph(torch.empty(2, 0, dtype=torch.int64), None, 4)
    runner = Runner(Program(torch.arange(3), 3, ops), graph, x)
    for _ in range(2):
        torch.testing.assert_close(runner(), (-x).relu())


@pytest.mark.parametrize("native", [True, False])
def test_memory_is_used_again_but_not_what_is_held(native, monkeypatch):
    monkeypatch.setattr(
        "fastglt.compile.kernels.ways",
        lambda *args, **options: (
            [way for way in ways(*args, **options) if native == ("native" in way.name)]
            or ways(*args, **options)
        ),
    )
    monkeypatch.setattr("fastglt.compile.layout.REUSED_BYTES", 100)
    nodes, torch_seed = 50, torch.manual_seed(0)
    edges = torch.randint(nodes, (2, 200), generator=torch_seed)
    graph = Graph(edges[:, edges[1].argsort(stable=True)], None, nodes)
    weights = [torch.randn(size, size, dtype=torch.float64) for size in (40, 40, 40)]
    ops = (
        Linear(0, weights[0]),
        Map(1, nn.ReLU()),
        Linear(2, weights[1]),
        Aggregate(3, Rule("gcn", 1.0)),
        Join((4, 2), "sum"),
        Scale(5, None, None),
        Linear(6, weights[2]),
    )
    x = torch.randn(nodes, 40, dtype=torch.float64)
    runner = Runner(Program(torch.arange(40), 40, ops), graph, x)
    hidden = (x @ weights[0].t()).relu()
    adjacency = graph.adjacency(Rule("gcn", 1.0), torch.float64)
    expected = (adjacency @ (hidden @ weights[1].t()) + hidden) @ weights[2].t()
    outs = [runner() for _ in range(4)]
    kept = runner.num_bytes_kept()
    for out in [*outs, runner()]:
        torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-9)
    assert runner.num_bytes_kept() == kept > 0
    assert len({out.data_ptr() for out in outs}) == 4


@pytest.mark.parametrize("name", TAILS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("outputs", [1, 7, 9, 40])
def test_a_map_that_follows_a_sum(name, dtype, outputs):
    data = by_target(make_graph(3))
    graph = Graph(data.edge_index, None, int(data.num_nodes))
    x, weight = matrix(int(data.num_nodes), 21, 1.0, 0), matrix(outputs, 21, 1.0, 1)
    rule, bias = Rule("gcn", 1.0), torch.linspace(-1, 1, outputs, dtype=torch.float64)
    before, after = tail_ops(name, 21), tail_ops(name, outputs)
    ops = (Aggregate(0, rule), *before, Linear(0, weight, bias), *after)
    ops = tuple(replace(op, source=place) for place, op in enumerate(ops))
    (group,) = groups(Program(torch.arange(21), 21, ops))
    tried = ways(group, Place(graph, True), [x.to(dtype)], overwrites=False)
    at_once = name in ("nothing", "shift", "relu", "shift, leaky")
    assert any("map that follows" in way.name for way in tried) == at_once
    summed = applied(graph.adjacency(rule, torch.float64) @ x, before)
    expected = applied(summed @ weight.t() + bias, after)
    rounding = 1e-11 if dtype == torch.float64 else 1e-4
    for way in tried:
        out = way(x.to(dtype))
        torch.testing.assert_close(out.double(), expected, rtol=rounding, atol=rounding)
        assert way.cost([x.to(dtype)], out).macs >= graph.adjacency(rule, dtype)._nnz() * 21


def test_padded_programs_compute_the_same():
    data = by_target(make_graph(5))
    graph = Graph(data.edge_index, None, int(data.num_nodes))
    widths, ops = (12, 21, 9, 40, 3), []
    for place in range(4):
        weight = matrix(widths[place + 1], widths[place], 1.0, place)
        bias = weight.sum(dim=1) if place % 2 else None
        ops += [Linear(len(ops), weight, bias), Aggregate(len(ops) + 1, Rule("mean"))]
        ops += [Scale(len(ops), None, weight.mean(dim=1)), Map(len(ops) + 1, nn.Sigmoid())]
    program = Program(torch.arange(12), 12, tuple(ops))
    wider = padded(program, 16)
    assert wider.widths() == [12, *4 * (32,), *4 * (16,), *4 * (48,), *4 * (3,)]
    x = matrix(int(data.num_nodes), 12, 1.0, 9)
    torch.testing.assert_close(Runner(wider, graph, x)(), PlainModel(program)(x, data.edge_index))


def test_only_chains_are_padded():
    weight = torch.randn(9, 9, dtype=torch.float64)
    ops = (Linear(0, weight), LayerNorm(1, None, None, 1e-5), Linear(2, weight))
    program = Program(torch.arange(9), 9, ops)
    assert padded(program, 16).widths() == program.widths()
    ops = (Linear(0, weight), Map(1, nn.ReLU()), Linear(2, weight), Join((3, 1), "sum"))
    program = Program(torch.arange(9), 9, ops)
    assert padded(program, 16).widths() == program.widths()


def in_a_process(code: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return result.stdout.strip()


WHY = "from fastglt.compile.native.build import why_not; print(why_not())"


@pytest.fixture
def told_reason(monkeypatch):
    """Why there are no kernels in an environment, asked for as for the first time."""

    def ask(**environment):
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            build._load.cache_clear()
            try:
                return build.why_not()
            finally:
                build._load.cache_clear()

    return ask


def test_reasons_are_told(tmp_path, told_reason):
    assert in_a_process(WHY, FASTGLT_NATIVE="0") == "FASTGLT_NATIVE=0 is set"
    assert told_reason(FASTGLT_NATIVE="Off") == "FASTGLT_NATIVE=Off is set"
    missing = told_reason(CXX="no-such-compiler -O2")
    assert missing == "the compiler that $CXX names was not found (no-such-compiler)"
    empty = told_reason(PATH=str(tmp_path), CXX="")
    assert empty.startswith("no C++ compiler was found")
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'cannot do it' >&2\nexit 1\n")
    broken.chmod(0o755)
    told = told_reason(CXX=str(broken), FASTGLT_CACHE=str(tmp_path / "cache"))
    assert told.endswith("failed: cannot do it")


@pytest.mark.slow
def test_the_cache_is_used_and_not_needed(tmp_path):
    cache = tmp_path / "cache"
    assert in_a_process(WHY, FASTGLT_CACHE=str(cache)) == "None"
    (built,) = (cache / "native").iterdir()
    before = built.stat().st_mtime_ns
    assert in_a_process(WHY, FASTGLT_CACHE=str(cache)) == "None"
    assert built.stat().st_mtime_ns == before
    built.write_bytes(b"damaged")
    assert in_a_process(WHY, FASTGLT_CACHE=str(cache)) == "None"
    assert built.stat().st_size > 1000
    (tmp_path / "file").write_text("in the way")
    assert in_a_process(WHY, FASTGLT_CACHE=str(tmp_path / "file" / "cache")) == "None"
