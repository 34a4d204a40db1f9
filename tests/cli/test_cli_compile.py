"""``fastglt compile``: a ticket as a program of torch."""

from __future__ import annotations

import json

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


def test_only_pt2_files_are_written(cli, ticket, tmp_path):
    outcome = cli("compile", FILE, "--out=small.onnx")
    assert outcome.code == 2
    assert ".pt2" in outcome.err
    assert not (tmp_path / "small.onnx").exists()


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
