"""Every example runs as it is, in a folder of its own, and prints what it should."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from fastglt.models.own import load_model

FOLDER = Path(__file__).parents[1] / "examples"
# Lines that must show the same number: before and after a ticket was saved, loaded and applied.
EQUAL = {
    "lightning_module": ("search: val", "ticket: val"),
    "link_prediction": ("test_ticket", "loaded again: test"),
    "node_loader": ("search: val", "ticket: val", "ticket in batches: val"),
    "own_loop": ("search: val", "ticket: val"),
    "own_model": ("test_ticket", "loaded again: test"),
}
FILES = {
    "link_prediction": {"link_prediction.safetensors"},
    "node_loader": {"node_loader.safetensors"},
    "own_model": {"own_model.safetensors"},
}
CHANCE = {"link_prediction": 0.5}


def _number(output, label):
    (number,) = re.findall(rf"^{re.escape(label)} ([\d.]+)$", output, re.MULTILINE)
    return float(number)


def _asked(example, name):
    (number,) = re.findall(rf"\b{name}=([\d.]+)", (FOLDER / f"{example}.py").read_text())
    return Fraction(number)


@pytest.mark.parametrize("example", sorted(EQUAL))
def test_example_keeps_what_was_asked_and_its_ticket_its_metric(example, tmp_path):
    if example == "lightning_module" and importlib.util.find_spec("lightning") is None:
        pytest.skip("lightning is not installed")
    result = subprocess.run(
        [sys.executable, str(FOLDER / f"{example}.py")],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "Warning" not in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == FILES.get(example, set())

    counts = re.search(r"edges (\d+)/(\d+) kept, weights (\d+)/(\d+) kept", result.stdout)
    edges, all_edges, weights, all_weights = map(int, counts.groups())
    pairs = all_edges // 2  # the synthetic graph is undirected and has no self-loops
    assert edges == 2 * (pairs - int(_asked(example, "edge_sparsity") * pairs))
    assert weights == all_weights - int(_asked(example, "weight_sparsity") * all_weights)

    numbers = {_number(result.stdout, label) for label in EQUAL[example]}
    assert len(numbers) == 1
    assert numbers.pop() > CHANCE.get(example, 0.25) + 0.1


def test_every_example_is_tested():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(EQUAL)


def test_own_model_serves_the_command_line():
    model = load_model(f"{FOLDER / 'own_model.py'}:build", 7, 3)
    out = model(torch.randn(5, 7), torch.tensor([[0, 1], [1, 2]]))
    assert out.shape == (5, 3)
