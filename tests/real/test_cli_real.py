"""The main job on CiteSeer, from the command line, with few epochs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.real

EPOCHS = ("--dense-epochs=30", "--pretrain-epochs=5", "--denoise-steps=30", "--retrain-epochs=30")


def fastglt(*args, cwd):
    command = [sys.executable, "-m", "fastglt", *args]
    return subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)


def test_find_show_and_eval(real_dataset, tmp_path):
    edges = real_dataset("citeseer").data.num_edges
    found = fastglt(
        "find", "--dataset=citeseer", "--hidden=64", "--edge-sparsity=0.3",
        "--weight-sparsity=0.9", "--json=r.json", "--plot=t.png", *EPOCHS, cwd=tmp_path,
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == {"ticket.safetensors", "r.json", "t.png"}
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["weight_sparsity"] == pytest.approx(0.9, abs=1e-4)
    assert result["edge_sparsity"] == pytest.approx(0.3, abs=1e-3)
    # Far above the share of the largest class, so features and graph are the right ones.
    assert result["test_dense"] > 0.55
    assert result["macs_ticket"] < 0.2 * result["macs_dense"]

    shown = fastglt("show", "ticket.safetensors", "--json", cwd=tmp_path)
    content = json.loads(shown.stdout)
    assert content["edges"]["total"] == edges
    assert content["settings"]["dataset"]["name"] == "citeseer"

    checked = fastglt("eval", "ticket.safetensors", "--json=-", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["test_ticket"] == pytest.approx(
        result["test_ticket"], abs=0.002
    )

    other = fastglt("eval", "ticket.safetensors", "--dataset=citeseer", "--hidden=32", cwd=tmp_path)
    assert other.returncode == 2
    assert "another model" in other.stderr
