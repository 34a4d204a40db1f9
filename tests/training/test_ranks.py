"""Searches that several processes share, as torchrun starts them."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import torch

import fastglt
from fastglt import data as datasets
from fastglt.training.ranks import Ranks, _packed
from helpers import graph, states_equal

MODEL = ("--hidden=16", "--dropout=0")
SETTINGS = (
    "--edge-sparsity=0.4", "--weight-sparsity=0.6", "--sampler=neighbor", "--fanout=-1,-1",
    "--dense-epochs=6", "--pretrain-epochs=2", "--denoise-steps=12", "--interval=3",
    "--retrain-epochs=6", "--threads=1",
)  # fmt: skip


def _find(folder, ranks, *more):
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    out = folder / f"{ranks}.safetensors"
    given = ["-m", "fastglt", "find", f"--data={folder / 'graph.npz'}", f"--out={out}"]
    command = [sys.executable, *(launcher if ranks > 1 else []), *given, *SETTINGS, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return out, subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=folder, env=environment
    )


@pytest.fixture
def folder(tmp_path):
    data = graph(num_nodes=90, train_fraction=0.4)
    assert int(data.train_mask.sum()) % 4 == 0
    datasets.save_npz(data, tmp_path / "graph.npz")
    return tmp_path


@pytest.mark.slow
def test_two_ranks_find_what_one_finds(folder):
    """Every step has 36 labelled and 54 other seeds, of which each rank takes half."""
    (one, first), (two, second) = (
        _find(folder, ranks, *MODEL, "--batch-size=90") for ranks in (1, 2)
    )
    assert first.returncode == 0, first.stderr
    assert second.returncode == 0, second.stderr
    assert len(re.findall("validation accuracy", second.stdout)) == 1
    alone, together = fastglt.Ticket.load(one), fastglt.Ticket.load(two)
    assert torch.equal(alone.edge_keep, together.edge_keep)
    assert states_equal(alone.weight_masks, together.weight_masks)
    for name, weight in alone.trained_state.items():
        torch.testing.assert_close(together.trained_state[name], weight, atol=1e-3, rtol=1e-2)
    for name in ("val_dense", "val_ticket", "test_dense", "test_ticket"):
        assert together.metrics[name] == pytest.approx(alone.metrics[name], abs=0.02)


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_search_with_a_message(folder):
    (folder / "model.py").write_text(
        "import os\n"
        "from torch_geometric.nn import GCN\n\n\n"
        "class Dies(GCN):\n"
        "    calls = 0\n\n"
        "    def forward(self, *args, **named):\n"
        "        Dies.calls += self.training\n"
        "        if Dies.calls > 12 and os.environ['RANK'] == '1':\n"
        "            os._exit(9)\n"
        "        return super().forward(*args, **named)\n\n\n"
        "def build(num_features, num_classes):\n"
        "    return Dies(num_features, 8, 2, num_classes)\n"
    )
    out, ended = _find(folder, 2, "--batch-size=16", f"--model={folder / 'model.py'}:build")
    assert ended.returncode != 0
    assert not out.exists()
    (message,) = re.findall(r"error: (another rank of this search is gone.*)", ended.stderr)
    assert re.search(r"out of step \([^()]*\); start it again, with --resume", message), message


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--teacher=none", "--edge-score=influence")])
def test_ranks_share_the_statistics_of_batch_normalisation(folder, more):
    """Otherwise they would not choose the same epochs, nor stop together."""
    (folder / "model.py").write_text(
        "from torch_geometric.nn import GraphSAGE\n\n\n"
        "def build(num_features, num_classes):\n"
        "    return GraphSAGE(num_features, 16, 2, num_classes, norm='batch_norm')\n"
    )
    model = f"--model={folder / 'model.py'}:build"
    longer = ("--fanout=3,3", "--dense-epochs=30", "--retrain-epochs=30", "--patience=2")
    out, ended = _find(folder, 2, "--batch-size=20", model, *longer, *more)
    assert ended.returncode == 0, ended.stderr
    state = fastglt.Ticket.load(out).trained_state
    assert all(bool(tensor.isfinite().all()) for tensor in state.values())


@pytest.mark.slow
def test_several_processes_need_parts(folder):
    _, ended = _find(folder, 2, *MODEL, "--sampler=none", "--fanout=15,10")
    assert ended.returncode != 0
    assert "several processes share a search by its mini-batches" in ended.stderr


def test_bools_travel_as_bits():
    mask = torch.rand(77) < 0.5
    packed = _packed(mask)
    assert packed.dtype == torch.uint8
    assert packed.numel() == 10
    bits = (packed[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
    assert torch.equal(bits.flatten()[:77].bool(), mask)


def test_alone_nothing_is_shared():
    ranks = Ranks.current()
    assert ranks == Ranks(0, 1)
    values = torch.ones(3)
    assert ranks.sum(values) is values
    ranks.agree({"a mask": values > 0})
