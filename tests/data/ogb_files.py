"""Tiny graphs in the files that the Open Graph Benchmark publishes."""

from __future__ import annotations

import gzip

import numpy as np
import torch

N = 24


def write_csv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(",".join(map(str, np.atleast_1d(row))) + "\n" for row in rows)
    path.write_bytes(gzip.compress(lines.encode(), mtime=0))


def write_graph(folder, edges, **columns):
    """``raw/`` with the edges and further columns, named as in the file names."""
    write_csv(folder / "raw/edge.csv.gz", edges)
    write_csv(folder / "raw/num-node-list.csv.gz", [N])
    write_csv(folder / "raw/num-edge-list.csv.gz", [len(edges)])
    for name, rows in columns.items():
        write_csv(folder / f"raw/{name.replace('__', '-')}.csv.gz", rows)
    (folder / "RELEASE_v1.txt").write_text("# Release note\n")


def write_node_split(folder, name):
    for part, nodes in (("train", range(12)), ("valid", range(12, 18)), ("test", range(18, N))):
        write_csv(folder / f"split/{name}/{part}.csv.gz", nodes)


def ring():
    nodes = np.arange(N)
    return np.stack([nodes, (nodes + 1) % N], axis=1)


def write_arxiv(root, features=128):
    folder = root / "ogb/ogbn_arxiv"
    x = np.random.default_rng(0).random((N, features)).round(3)
    columns = {"node__feat": x, "node__label": np.arange(N) % 40, "node_year": [2015] * N}
    write_graph(folder, ring(), **columns)
    write_node_split(folder, "time")
    return root


def write_proteins(root, species="node_species"):
    folder = root / "ogb/ogbn_proteins"
    rng = np.random.default_rng(0)
    columns = {
        "edge__feat": (1 + rng.integers(0, 999, (N, 8))) / 1000,
        "node__label": rng.integers(0, 2, (N, 112)),
        species: [9606] * N,
    }
    write_graph(folder, ring(), **columns)
    write_node_split(folder, "species")
    return root


def write_link_split(folder, name, parts):
    """Splits as published: pickled numpy arrays in torch files of the format before zip."""
    (folder / f"split/{name}").mkdir(parents=True)
    for part, arrays in parts.items():
        torch.save(arrays, folder / f"split/{name}/{part}.pt", _use_new_zipfile_serialization=False)


def pairs(shift, count=6):
    nodes = np.arange(count)
    return np.stack([nodes, (nodes + shift) % N], axis=1)


def write_ddi(root):
    folder = root / "ogb/ogbl_ddi"
    write_graph(folder, ring())
    parts = {"train": {"edge": ring()}}
    parts["valid"] = {"edge": pairs(2), "edge_neg": pairs(4, 9)}
    parts["test"] = {"edge": pairs(3), "edge_neg": pairs(5, 8)}
    # The published training pairs are of a narrower type.
    parts["train"]["edge"] = ring().astype(np.int16)
    write_link_split(folder, "target", parts)
    return root


def write_collab(root):
    """Authors who worked together in two years; one such pair is a test positive again."""
    folder = root / "ogb/ogbl_collab"
    edges = np.concatenate([ring(), ring()[:4]])
    weight, year = np.arange(1, len(edges) + 1), [2000] * N + [2001] * 4
    x = np.random.default_rng(0).random((N, 128)).round(3)
    write_graph(folder, edges, node__feat=x, edge_weight=weight, edge_year=year)
    seen_again = np.concatenate([pairs(3), ring()[:1]])
    parts = {"train": {"edge": edges, "weight": weight, "year": np.asarray(year)}}
    for part, positive, shift in (("valid", pairs(2), 4), ("test", seen_again, 5)):
        parts[part] = {
            "edge": positive,
            "weight": np.ones(len(positive), dtype=np.int64),
            "year": np.full(len(positive), 2018),
            "edge_neg": pairs(shift),
        }
    write_link_split(folder, "time", parts)
    return root
