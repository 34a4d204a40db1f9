"""Files of compiled models: read where there is neither this library nor PyG, and how large."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from sample_models import MODELS, make_graph, make_model
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import GCN

from fastglt.compile.compiled import compile_applied
from fastglt.compile.export import files
from fastglt.errors import (
    CompileError,
    InputError,
    ModelError,
    OutputPathError,
    UnknownNameError,
)
from fastglt.training.tasks import NodeClassification

TASK = NodeClassification()
CASES = [("gcn", True), ("gat", False)]
"""Kinds of models, and whether edges have weights, which only GCN reads."""
MORE_CASES = [(kind, False) for kind in MODELS if (kind, False) not in CASES]
needs_compiler = pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None,
                                    reason="no C++ compiler")  # fmt: skip

_FRESH = """
import sys
for name in ("fastglt", "torch_geometric", *hidden):
    sys.modules[name] = None
from pathlib import Path
import numpy
{load}
for path in map(Path, sys.argv[1:]):
    with numpy.load(path.with_suffix(".npz")) as given:
        arrays = [given[name] for name in given.files]
    numpy.save(path.with_suffix(".npy"), run(path, arrays))
"""
LOADERS = {
    "program": """
import torch
@torch.no_grad()
def run(path, arrays):
    return torch.export.load(path).module()(*map(torch.from_numpy, arrays)).numpy()
""",
    "onnx": """
import onnxruntime
def run(path, arrays):
    session = onnxruntime.InferenceSession(path)
    names = [one.name for one in session.get_inputs()]
    return session.run(["out"], dict(zip(names, arrays, strict=True)))[0]
""",
    "package": """
import torch
import torch._inductor
def run(path, arrays):
    return torch._inductor.aoti_load_package(str(path))(*map(torch.from_numpy, arrays)).numpy()
""",
}


def compiled_sample(kind="gcn", density=0.1, *, weighted=False, dtype=torch.float64, **options):
    """A masked model, and what it is compiled to."""
    model, data = (
        make_model(kind, 0, density, **options).to(dtype),
        make_graph(0, weighted=weighted),
    )
    return model, compile_applied(model, in_precision(data, dtype), TASK)


def in_precision(data, dtype):
    data.x = data.x.to(dtype)
    if data.get("edge_weight") is not None:
        data.edge_weight = data.edge_weight.to(dtype)
    return data


def put_inputs(path, compiled, data):
    """Write what a file is to be called with beside it."""
    names = ["x", "edge_index", *(["edge_weight"] if compiled.model.reads_edge_weight else [])]
    np.savez(path.with_suffix(".npz"), **{name: data[name].numpy() for name in names})


def run_fresh(kind, paths):
    """Outputs of files in a process that has nothing of ours, and for ONNX not even torch."""
    hidden = ("torch", "onnx", "onnxscript") if kind == "onnx" else ()
    code = f"hidden = {hidden!r}\n" + _FRESH.format(load=LOADERS[kind])
    arguments = [sys.executable, "-c", code, *map(str, paths)]
    subprocess.run(arguments, check=True, cwd=paths[0].parent)
    return [torch.from_numpy(np.load(path.with_suffix(".npy"))) for path in paths]


@pytest.mark.parametrize(
    "cases", [CASES, pytest.param(MORE_CASES, marks=pytest.mark.slow)], ids=["some", "others"]
)
@pytest.mark.parametrize(
    ("kind", "suffix", "dtype"),
    [("program", ".pt2", torch.float64), ("onnx", ".onnx", torch.float32)],
)
def test_files_are_read_where_nothing_of_ours_is(kind, suffix, dtype, cases, tmp_path):
    paths, expected = [], []
    for name, weighted in cases:
        options = {"norm": "batch_norm", "jk": "max" if weighted else None}
        model, compiled = compiled_sample(name, weighted=weighted, dtype=dtype, **options)
        paths.append(tmp_path / f"{name}-{weighted}{suffix}")
        written = compiled.export(paths[-1])
        assert (written.kind, written.bytes) == (kind, paths[-1].stat().st_size)
        other = in_precision(make_graph(1, 50, weighted=weighted), dtype)
        put_inputs(paths[-1], compiled, other)
        expected.append(TASK.call(model, other).detach())
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    for path, found, wanted in zip(paths, run_fresh(kind, paths), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance, msg=str(path))


@needs_compiler
@pytest.mark.slow
def test_packages_are_read_where_nothing_of_ours_is(tmp_path):
    model, compiled = compiled_sample("gat", dtype=torch.float32)
    path, other = tmp_path / "model.pt2", in_precision(make_graph(1, 50), torch.float32)
    assert compiled.export(path, kind="package").difference < 1e-5
    put_inputs(path, compiled, other)
    (found,) = run_fresh("package", [path])
    torch.testing.assert_close(found, TASK.call(model, other).detach(), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def wide():
    """A GCN of 512 channels with 2 % of its weights, as a ticket keeps them, and it compiled."""
    torch.manual_seed(0)
    model, channels = GCN(1433, 512, 2, 7).eval(), 60
    first, second = (conv.lin.weight for conv in model.convs)
    number = round(0.02 * (first.numel() + second.numel()))
    with torch.no_grad():
        for weight, kept in ((first, number - 210), (second, 210)):
            alive = torch.zeros_like(weight, dtype=torch.bool)
            part = alive[:channels] if weight is first else alive[:, :channels]
            spots = torch.randperm(part.numel())[:kept]
            part[spots // part.size(1), spots % part.size(1)] = True
            weight.mul_(alive)
        assert int(first.count_nonzero() + second.count_nonzero()) == number
    data = Data(x=torch.rand(30, 1433), edge_index=torch.randint(30, (2, 90)))
    return model, compile_applied(model, data, TASK)


@pytest.mark.parametrize(
    ("name", "weights", "times"),
    [
        ("a.pt2", "float", 25),
        ("a.pt2", "int8", 50),
        ("a.onnx", "float", 25),
        ("a.onnx", "int8", 50),
    ],
)
def test_files_at_98_percent_are_small(wide, name, weights, times, tmp_path):
    model, compiled = wide
    dense = io.BytesIO()
    torch.save(model.state_dict(), dense)
    written = compiled.export(tmp_path / name, weights=weights)
    assert dense.getbuffer().nbytes > times * written.bytes
    assert written.bytes == (tmp_path / name).stat().st_size


@pytest.mark.parametrize("name", ["a.pt2", "a.onnx"])
def test_files_name_no_folder(name, tmp_path):
    _, compiled = compiled_sample(dtype=torch.float32)
    compiled.export(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    if name.endswith(".pt2"):
        with zipfile.ZipFile(tmp_path / name) as archive:
            content = b"".join(map(archive.read, archive.namelist()))
            assert {member.partition("/")[0] for member in archive.namelist()} == {"model"}
    for trace in (b"packages", b".py", b"fastglt", str(tmp_path).encode()):
        assert trace not in content


@pytest.mark.parametrize(
    ("before", "after"),
    [(["tmp1/a", "tmp1/b/c"], ["model/a", "model/b/c"]), (["version", "b/c"], ["version", "b/c"])],
)
def test_archives_are_deflated(before, after, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt2", "w") as archive:
        for name in before:
            archive.writestr(name, name * 1000)
    files.program.deflate(tmp_path / "a.pt2")
    with zipfile.ZipFile(tmp_path / "a.pt2") as archive:
        assert archive.namelist() == after
        assert [archive.read(name) for name in after] == [n.encode() * 1000 for n in before]
    assert (tmp_path / "a.pt2").stat().st_size < 1000


@pytest.mark.parametrize("name", ["a.pt2", "a.onnx"])
def test_a_model_without_weights_is_a_constant(name, tmp_path):
    model, compiled = compiled_sample(density=0.0, dtype=torch.float32)
    compiled.export(tmp_path / name)
    other = in_precision(make_graph(1, 50), torch.float32)
    put_inputs(tmp_path / name, compiled, other)
    (found,) = run_fresh("onnx" if name.endswith("x") else "program", [tmp_path / name])
    torch.testing.assert_close(found, TASK.call(model, other).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", MODELS)
def test_int8_is_close_and_says_how_close(kind, tmp_path):
    model, compiled = compiled_sample(kind, 0.5)
    assert compiled.export(tmp_path / "exact.pt2").rounding == 0
    written = compiled.export(tmp_path / "model.pt2", weights="int8")
    assert 0 < written.rounding < files.INT8_TOLERANCE
    other = make_graph(1, 50)
    with torch.no_grad():
        expected = TASK.call(model, other)
        found = files.program.load(tmp_path / "model.pt2")(other.x, other.edge_index)
    assert 0 < float((found - expected).abs().max() / expected.abs().max()) < files.INT8_TOLERANCE


@pytest.mark.parametrize(
    ("tolerance", "weights"), [("INT8_TOLERANCE", "int8"), ("ROUNDED", "float")]
)
def test_a_file_that_differs_is_an_error_and_not_kept(tolerance, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(files, tolerance, -1.0)
    _, compiled = compiled_sample()
    with pytest.raises(CompileError, match="of the largest output, and -1 is allowed"):
        compiled.export(tmp_path / "model.pt2", weights=weights)
    assert list(tmp_path.iterdir()) == []


def test_exporting_does_not_change_the_model(tmp_path):
    _, compiled = compiled_sample()
    compiled.model.train()
    before = {name: value.clone() for name, value in compiled.model.state_dict().items()}
    compiled.export(tmp_path / "model.pt2", weights="int8")
    assert compiled.model.training
    assert any(type(module) is nn.Linear for module in compiled.model.modules())
    assert all(torch.equal(before[n], value) for n, value in compiled.model.state_dict().items())
    assert all(parameter.requires_grad for parameter in compiled.model.parameters())


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("model.bin", {}, OutputPathError, r"a \.pt2 or an \.onnx file \(got '.*model\.bin'\)"),
        ("model.onnx", {"kind": "program"}, OutputPathError, r"'program' goes into a \.pt2 file"),
        ("model.pt2", {"kind": "onnx"}, OutputPathError, r"'onnx' goes into a \.onnx file"),
        ("model.pt2", {"kind": "pakage"}, UnknownNameError, "kind of file 'pakage'; did you mean"),
        ("model.pt2", {"weights": "int4"}, UnknownNameError, "weights 'int4'; did you mean"),
        ("no/model.pt2", {}, OutputPathError, "does not exist"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_refused(name, options, error, message, tmp_path):
    _, compiled = compiled_sample()
    with pytest.raises(error, match=message):
        compiled.export(tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(package, tmp_path, monkeypatch):
    _, compiled = compiled_sample()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf'package {package}, .*pip install "fastglt\[onnx\]"'):
        compiled.export(tmp_path / "model.onnx")


def test_a_missing_compiler_is_named(tmp_path):
    from torch._inductor import config

    _, compiled = compiled_sample()
    absent = config.patch({"cpp.cxx": ("no-such-compiler",)})
    with absent, pytest.raises(InputError, match=r"no C\+\+ compiler was found .*variable CXX"):
        compiled.export(tmp_path / "model.pt2", kind="package")


def test_what_onnxruntime_cannot_run_is_an_error(tmp_path):
    _, compiled = compiled_sample("gat")
    with pytest.raises(CompileError, match=r"onnxruntime cannot run this model: .*LeakyRelu"):
        compiled.export(tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_kept_its_shape_is_not_exported(tmp_path):
    class Own(GCN):
        pass

    model = Own(12, 16, 2, 4).double().eval()
    compiled = compile_applied(model, make_graph(0), TASK)
    with pytest.raises(ModelError, match=r"kept its shape: .*Own is not taken apart"):
        compiled.export(tmp_path / "model.pt2")


def outputs_when_compiled(kind, weighted, **options):
    """What torch.compile makes of the plain module, and what the module gives, on two graphs."""
    _, compiled = compiled_sample(kind, weighted=weighted, dtype=torch.float32)
    torch.compiler.reset()
    fast = torch.compile(compiled.model, fullgraph=True, dynamic=True, **options)
    for seed, num_edges in ((1, 50), (2, 70)):
        ready = compiled.prepare(in_precision(make_graph(seed, num_edges, weighted=weighted),
                                              torch.float32))  # fmt: skip
        part = ready.subgraph(torch.arange(20 + seed))
        given = (part.x, part.edge_index)
        if compiled.model.reads_edge_weight:
            given = (*given, part.edge_weight)
        with torch.no_grad():
            yield fast(*given), compiled.model(*given)


@pytest.mark.parametrize(("kind", "weighted"), CASES)
def test_torch_compiles_the_plain_module_in_one_graph(kind, weighted):
    for found, expected in outputs_when_compiled(kind, weighted, backend="eager"):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@needs_compiler
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # used by torch itself
def test_inductor_compiles_the_plain_module():
    for found, expected in outputs_when_compiled("gat", False):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
