"""What is fuzzed: one entry of :data:`TARGETS` for each kind of file that may come from anyone.

To add one, write a function for each field of :class:`Target` and an entry in the registry.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import safetensors.torch
import torch
from torch_geometric.nn import GCN

import _fuzz_checkpoint as checkpoint
import fastglt
from _fuzz_json import RAW, TEXTS, hostile, mutate_bytes, mutate_json
from _fuzz_npz import mutate_npz
from _fuzz_tickets import mutate_safetensors
from fastglt import data as datasets
from fastglt.cli import show
from fastglt.cli.config_file import with_config
from fastglt.cli.options import FIND_SPECS, validated
from fastglt.data.links import remove_evaluation_edges
from fastglt.settings import Settings
from fastglt.study.cells import append_cell, hash_of, read_cells
from fastglt.ticket import Ticket
from fastglt.ticket.packing import checksum

Read = Callable[[Path, Path], None]
"""``read(file, scratch)`` reads a file as the library does, and where it is taken makes sure that
it is the same when it was written into the folder ``scratch`` and read again."""
Mutate = Callable[[Random, bytes, bytes, Sequence[Any]], bytes]
"""``mutate(rng, valid, other, extra)`` gives a changed file; ``extra`` are JSON values."""


@dataclass(frozen=True)
class Target:
    """One kind of file.

    Attributes:
        suffix: Of its names.
        seeds: Makes valid files, the contents of each.
        read: Reads one; see :data:`Read`.
        mutate: Changes one; see :data:`Mutate`.
    """

    suffix: str
    seeds: Callable[[], list[bytes]]
    read: Read
    mutate: Mutate


def differs(what: str) -> AssertionError:
    """The error for a file that was taken and is not what it is when it is written again."""
    return AssertionError(f"{what} is another one after it was written and read again")


def _written(write: Callable[[Path], None], suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"seed{suffix}"
        write(path)
        return path.read_bytes()


def _ticket_seeds() -> list[bytes]:
    torch.manual_seed(0)
    data = datasets.csbm(24, num_classes=2, num_features=3, average_degree=3, seed=0)
    model = GCN(3, 4, num_layers=2, out_channels=2, norm="batch_norm")
    quick = {"dense_epochs": 1, "pretrain_epochs": 1, "denoise_steps": 3, "retrain_epochs": 1}
    budget = {"edge_sparsity": 0.3, "weight_sparsity": 0.5, "interval": 1, "accumulation": 1}
    found = [
        fastglt.find(model, data, **quick, **budget, **own)
        for own in ({}, {"edge_values": "learned"}, {"inductive": True, "edge_rule": "degree"})
    ]
    files = [_written(ticket.save, ".safetensors") for ticket in found]
    lean = found[0]
    return [*files, _written(lambda path: lean.save(path, full_init=False), ".safetensors")]


def _read_ticket(file: Path, scratch: Path) -> None:
    ticket = Ticket.load(file)
    repr(ticket)
    with contextlib.redirect_stdout(io.StringIO()):
        show.run(str(file), {})
        show.run(str(file), {"json": True})
    first, second = scratch / "first", scratch / "second"
    ticket.save(first, full_init=ticket.init_is_full)
    Ticket.load(first).save(second, full_init=ticket.init_is_full)
    if first.read_bytes() != second.read_bytes():
        raise differs("the ticket")


def _seal_ticket(file: bytes, document: dict[str, Any]) -> None:
    document.pop("sha256", None)
    document["sha256"] = checksum(document, safetensors.torch.load(file))


def _mutate_ticket(rng: Random, data: bytes, other: bytes, extra: Sequence[Any]) -> bytes:
    return mutate_safetensors(rng, data, other, extra, "fastglt", _seal_ticket)


def _graph_seeds() -> list[bytes]:
    plain = datasets.csbm(16, num_classes=2, num_features=3, average_degree=3, seed=0)
    links = datasets.csbm(16, num_classes=2, num_features=3, average_degree=3, seed=1)
    for key in ("y", "train_mask", "val_mask", "test_mask"):
        del links[key]
    for first, split in ((0, "val"), (3, "test")):
        sources = torch.arange(first, first + 3)
        links[f"{split}_pos_edge_label_index"] = torch.stack([sources, sources + 9])
        links[f"{split}_neg_edge_label_index"] = torch.stack([sources, sources + 10])
    links = remove_evaluation_edges(links)
    is_upper = links.edge_index[0] < links.edge_index[1]
    links.train_pos_edge_label_index = links.edge_index[:, is_upper]
    sparse = plain.clone()
    sparse.x = plain.x.relu().to_sparse_csr()
    sparse.edge_weight = torch.rand(plain.num_edges)
    several = plain.clone()
    several.y = torch.rand(16, 3).round()
    graphs = (plain, links, sparse, several)
    return [_written(lambda path, g=graph: datasets.save_npz(g, path), ".npz") for graph in graphs]


def _read_graph(file: Path, scratch: Path) -> None:
    first = datasets.load_npz(file).data
    datasets.save_npz(first, scratch / "again.npz")
    second = datasets.load_npz(scratch / "again.npz").data
    before, after = first.to_dict(), second.to_dict()
    if before.keys() != after.keys() or not all(
        torch.equal(torch.as_tensor(value), torch.as_tensor(after[key]))
        for key, value in before.items()
    ):
        raise differs("the graph")


def _mutate_graph(rng: Random, data: bytes, other: bytes, _extra: Sequence[Any]) -> bytes:
    return mutate_npz(rng, data, other)


def _study_seeds() -> list[bytes]:
    results = Path(__file__).parent / "results"
    lines = (results / "extremes" / "joint" / "gcn-cora" / "cells.jsonl").read_bytes().splitlines()
    searched = (results / "extremes" / "frontier" / "gcn-cora" / "cells.jsonl").read_bytes()
    short = [_shortened(line) for line in (lines[0], lines[-1], searched.splitlines()[0])]
    return [lines[0] + b"\n", *(line + b"\n" for line in short), b"\n".join(short) + b"\n"]


def _shortened(line: bytes) -> bytes:
    """A cell without most of its history and analysis, which are free in form."""
    cell = json.loads(line)
    cell["history"] = cell["history"][:1]
    cell["analysis"] = {}
    return json.dumps(cell).encode()


def _read_study(file: Path, scratch: Path) -> None:
    cells = read_cells(file)
    again = scratch / "again.jsonl"
    again.unlink(missing_ok=True)
    for cell in cells:
        append_cell(again, cell)
    if read_cells(again) != cells:
        raise differs("the study")


def _mutate_study(rng: Random, data: bytes, other: bytes, extra: Sequence[Any]) -> bytes:
    if rng.random() < 0.3:
        return mutate_bytes(rng, data, other)
    lines = data.splitlines()
    place = rng.randrange(len(lines))
    cell = json.loads(lines[place])
    if rng.random() < 0.4:
        cell["spec"] = json.loads(json.dumps(cell["spec"]))
        _place_hostile(rng, cell["spec"], extra)
        with contextlib.suppress(fastglt.errors.InputError):
            cell["settings_hash"] = hash_of(cell["spec"])
        lines[place] = json.dumps(cell).encode()
    else:
        lines[place] = mutate_json(rng, cell, extra).encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        lines.insert(place, rng.choice([b"", b"\xef\xbb\xbf", b"null", b"[]", b"{}", *lines]))
    return b"\n".join(lines) + rng.choice((b"\n", b"\n", b"\n", b"", b"\r\n"))


def _place_hostile(rng: Random, spec: dict[str, Any], extra: Sequence[Any]) -> None:
    part = rng.choice([spec, *(value for value in spec.values() if isinstance(value, dict))])
    part[rng.choice([*part, "new"])] = hostile(rng, extra)


def _config_seeds() -> list[bytes]:
    return [
        b'dataset = "citeseer"\nhidden = 32\nedge-sparsity = 0.3\nteacher = "none"\n'
        b"inductive = true\n",
        b'data = "graph.npz"\nmodel = "gcn"\nlayers = 2\nweight_sparsity = 0.95\nmax-drop = 1.0\n'
        b'include = ["a", "b"]\nout = "t.safetensors"\n',
    ]


def _read_config(file: Path, _scratch: Path) -> None:
    options = with_config({"config": file})
    for spec in FIND_SPECS:
        if spec is not Settings:
            validated(spec, options)
    given = {name: options[name] for name in Settings.model_fields if name in options}
    fastglt.search.presets.resolve_settings(given)


def _mutate_config(rng: Random, data: bytes, other: bytes, extra: Sequence[Any]) -> bytes:
    if rng.random() < 0.4:
        return mutate_bytes(rng, data, other)
    lines = data.decode().splitlines()
    place = rng.randrange(len(lines))
    key, _, _ = lines[place].partition(" = ")
    value = hostile(rng, extra)
    text = rng.choice((json.dumps(value), repr(value), rng.choice(RAW), rng.choice(TEXTS)))
    lines[place] = f"{rng.choice((key, 'new', '[' + key + ']', 'seed'))} = {text}"
    return "\n".join(lines).encode("utf-8", "surrogatepass")


TARGETS: dict[str, Target] = {
    "ticket": Target(".safetensors", _ticket_seeds, _read_ticket, _mutate_ticket),
    "graph": Target(".npz", _graph_seeds, _read_graph, _mutate_graph),
    "study": Target(".jsonl", _study_seeds, _read_study, _mutate_study),
    "config": Target(".toml", _config_seeds, _read_config, _mutate_config),
    "checkpoint": Target(".safetensors", checkpoint.seeds, checkpoint.read_one, checkpoint.mutate),
}
"""Every target by its name."""
