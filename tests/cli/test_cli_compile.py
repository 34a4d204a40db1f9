"""``fastglt compile``: a ticket as a program of torch."""

from __future__ import annotations

import json

import pytest
import torch

FILE = "ticket.safetensors"


def test_a_ticket_becomes_a_program_that_gives_the_same(cli, ticket, tmp_path):
    outcome = cli("compile", FILE, "--out=small.pt2", "--json=c.json")
    assert outcome.code == 0, outcome.err
    assert "equal to the masked model" in outcome.out
    assert "wrote small.pt2" in outcome.out
    report = json.loads((tmp_path / "c.json").read_text())
    assert report["differences"]["float64"] < 1e-9
    assert report["parameters"][1] < report["parameters"][0]
    module = torch.export.load(tmp_path / "small.pt2").module()
    out = module(torch.rand(5, report["inputs"][0]), torch.tensor([[0, 1], [1, 2]]))
    assert out.size(0) == 5


def test_an_onnx_model_in_int8(cli, ticket, tmp_path):
    outcome = cli("compile", FILE, "--out=small.onnx", "--weights=int8", "--json=c.json")
    assert outcome.code == 0, outcome.err
    assert "weights of the file in int8, which changes outputs by up to 0.0" in outcome.out
    assert "wrote small.onnx (onnx, " in outcome.out
    exported = json.loads((tmp_path / "c.json").read_text())["exported"]
    assert (exported["kind"], exported["weights"]) == ("onnx", "int8")
    assert 0 < exported["rounding"] < 0.05
    assert exported["bytes"] == (tmp_path / "small.onnx").stat().st_size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out=small.txt"], ".pt2 or an .onnx file"),
        (["--out=small.onnx", "--kind=package"], "goes into a .pt2 file"),
        (["--kind=torchscript"], "'program', 'onnx' or 'package'"),
        (["--weights=int4"], "'float' or 'int8'"),
    ],
)
def test_other_files_are_refused(cli, ticket, tmp_path, options, message):
    before = sorted(tmp_path.iterdir())
    outcome = cli("compile", FILE, *options)
    assert outcome.code == 2
    assert message in outcome.err
    assert sorted(tmp_path.iterdir()) == before


def test_a_bench_measures_every_way(cli, ticket, tmp_path):
    outcome = cli("bench", FILE, "--repeats=3", "--json=b.json")
    assert outcome.code == 0, outcome.err
    assert "dense sparse features" in outcome.out
    found = json.loads((tmp_path / "b.json").read_text())
    assert list(found["variants"]) == [
        "dense", "dense_sparse_features", "masked", "materialised", "compiled",
    ]  # fmt: skip
    for variant in found["variants"].values():
        assert 0 < variant["p10_ms"] <= variant["median_ms"] <= variant["p90_ms"]
        assert variant["peak_mb"] > 0
        assert variant["macs"] > 0
    assert found["max_abs_diff"] < 1e-4
    assert found["variants"]["compiled"]["bytes"] < found["variants"]["dense"]["bytes"]


def test_program_and_figures_are_two_files(cli, ticket, tmp_path):
    outcome = cli("compile", FILE, "--out=small.pt2", "--json=small.pt2")
    assert outcome.code == 2
    assert "one file" in outcome.err
    assert not (tmp_path / "small.pt2").exists()
