from __future__ import annotations

import copy
import pickle
import sys

import pytest
import torch

from fastglt.errors import ModelError
from fastglt.models import is_own_model, load_model
from fastglt.models.own import _parts
from fastglt.training.seeding import seeded

GOOD = """
from __future__ import annotations
from dataclasses import dataclass
from torch_geometric.nn import GCN

@dataclass
class Size:
    hidden: int = 4

class Net(GCN):
    size = Size()

def build(num_features, num_classes):
    return Net(num_features, Size().hidden, 2, num_classes)

def wide(num_features, num_classes):
    return Net(num_features, 16, 2, num_classes)
"""


@pytest.fixture
def write(tmp_path):
    def _write(text, name="net.py"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return _write


@pytest.mark.parametrize(("suffix", "hidden"), [("", 4), (":", 4), (":build", 4), (":wide", 16)])
def test_the_named_function_builds_the_model(write, suffix, hidden):
    model = load_model(f"{write(GOOD)}{suffix}", 5, 3)
    assert model.convs[0].lin.weight.shape == (hidden, 5)
    assert model.convs[1].lin.weight.shape == (3, hidden)


def test_the_callers_seed_decides_the_weights(write):
    path = write(GOOD)

    def weight(seed):
        with seeded(seed):
            return load_model(str(path), 5, 3).convs[0].lin.weight

    assert torch.equal(weight(0), weight(0))
    assert not torch.equal(weight(0), weight(1))


def test_the_model_can_be_copied_and_pickled(write):
    model = load_model(str(write(GOOD)), 5, 3)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(twin) is type(model)
        assert torch.equal(twin.convs[0].lin.weight, model.convs[0].lin.weight)


def test_a_file_that_changed_is_read_again(write, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    load_model(str(write(GOOD)), 5, 3)
    path = write(GOOD.replace("hidden: int = 4", "hidden: int = 9"))
    assert not (path.parent / "__pycache__").exists()
    assert load_model(str(path), 5, 3).convs[0].lin.weight.shape == (9, 5)


def test_siblings_can_be_imported_also_inside_the_function(write):
    write("WIDTH = 6", "sibling_of_net.py")
    write("DEPTH = 3", "late_sibling_of_net.py")
    path = write(
        "import torch, sibling_of_net\n"
        "def build(f, c):\n"
        "    import late_sibling_of_net as late\n"
        "    return torch.nn.Linear(sibling_of_net.WIDTH, late.DEPTH)"
    )
    before = list(sys.path)
    assert load_model(str(path), 5, 3).weight.shape == (3, 6)
    assert sys.path == before


@pytest.mark.parametrize(
    ("text", "spec", "message"),
    [
        (None, "missing.py:build", "does not exist"),
        (None, "net.txt:build", r"must end in \.py \(got '.*net\.txt:build'\)"),
        (None, "net.py:not-a-name", r"must end in \.py"),
        (GOOD, "net.py:biuld", r"no function 'biuld' .*defines Net, Size, build, wide"),
        ("build = 3", "net.py", "no function 'build' .*defines none"),
        ("def build(f, c): raise KeyError('x')", "net.py", r"build\(5, 3\) of .* raised KeyError"),
        ("def build(f): pass", "net.py", r"build\(5, 3\) of .* raised TypeError"),
        ("def build(f, c): return f", "net.py", r"must return a torch.nn.Module \(got int\)"),
        ("1 / 0", "net.py", "net.py' raised ZeroDivisionError: division by zero"),
        ("import sys; sys.exit()", "net.py", "net.py' raised SystemExit"),
        ("def build(:", "net.py", "net.py' raised SyntaxError"),
        ("import not_there_at_all", "net.py", "raised ModuleNotFoundError"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(write, tmp_path, text, spec, message):
    if text is not None:
        write(text)
    before = list(sys.path)
    with pytest.raises(ModelError, match=message):
        load_model(str(tmp_path / spec), 5, 3)
    assert sys.path == before


def test_a_file_that_raises_leaves_no_module_behind(write):
    before = set(sys.modules)
    with pytest.raises(ModelError):
        load_model(str(write("1 / 0")), 5, 3)
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("gcn", False),
        ("gcn:build", False),
        ("net.py", True),
        ("net.py:build", True),
        ("models/net", True),
        ("C:\\models\\net.py:build", True),
    ],
)
def test_a_file_is_told_from_a_backbone(name, own):
    assert is_own_model(name) is own


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("C:\\models\\net.py", ("C:\\models\\net.py", "build")),
        ("C:\\models\\net.py:wide", ("C:\\models\\net.py", "wide")),
        ("C:/models/net.py", ("C:/models/net.py", "build")),
        ("a:b/net.py:wide", ("a:b/net.py", "wide")),
    ],
)
def test_a_colon_in_a_path_is_not_the_one_before_the_function(spec, parts):
    assert _parts(spec) == parts
