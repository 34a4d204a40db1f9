from __future__ import annotations

import hashlib
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch_geometric.nn import GAT, GCN

from fastglt.errors import GraphError, ModelError
from fastglt.ticket.fingerprint import (
    compare_entries,
    compare_features,
    compare_graphs,
    compare_models,
    graph_fingerprint,
    model_fingerprint,
)

EDGES = torch.tensor([[0, 1, 2], [1, 0, 2]])


def test_edge_digest_is_that_of_little_endian_int64() -> None:
    expected = hashlib.sha256(struct.pack("<6q", 0, 1, 2, 1, 0, 2)).hexdigest()
    assert graph_fingerprint(EDGES, 3)["edge_digest"] == expected


def test_fingerprint_does_not_depend_on_type_or_memory_layout() -> None:
    reference = graph_fingerprint(EDGES, 3)
    assert graph_fingerprint(EDGES.int(), 3) == reference
    assert graph_fingerprint(EDGES.t().contiguous().t(), 3) == reference
    assert reference["feature_digest"] is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=8), st.randoms())
def test_any_other_edge_list_differs(edges: list[tuple[int, int]], random) -> None:
    other = list(edges)
    random.shuffle(other)
    a, b = (torch.tensor(e, dtype=torch.long).reshape(-1, 2).t() for e in (edges, other))
    difference = compare_graphs(graph_fingerprint(a, 10), graph_fingerprint(b, 10))
    assert (difference is None) == (edges == other)


def test_graph_differences_are_named() -> None:
    this = graph_fingerprint(EDGES, 3)
    for other, text in [
        (graph_fingerprint(EDGES, 4), "the ticket's graph has 4 nodes, this one 3"),
        (graph_fingerprint(EDGES[:, :2], 3), "the ticket's graph has 2 edges, this one 3"),
        (graph_fingerprint(EDGES.flip(1), 3), "another order"),
    ]:
        assert text in (compare_graphs(other, this) or "")


def test_features_are_advisory() -> None:
    x = torch.ones(3, 2)
    with_x, without = graph_fingerprint(EDGES, 3, x), graph_fingerprint(EDGES, 3)
    assert compare_graphs(with_x, without) is None
    assert "this one has none" in (compare_features(with_x, without) or "")
    assert "this one has some" in (compare_features(without, with_x) or "")
    assert "differ" in (compare_features(with_x, graph_fingerprint(EDGES, 3, x * 2)) or "")
    assert compare_features(with_x, graph_fingerprint(EDGES, 3, x.clone())) is None


def test_feature_digest_sees_the_shape() -> None:
    a, b = (graph_fingerprint(EDGES, 3, torch.ones(shape)) for shape in ((2, 3), (3, 2)))
    assert a["feature_digest"] != b["feature_digest"]


@given(st.integers(0, 40), st.integers(1, 5), st.integers(0, 2**20))
def test_sparse_and_dense_features_have_the_same_digest(rows: int, cols: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, cols, generator=generator)
    x[torch.rand(rows, cols, generator=generator) < 0.7] = -0.0
    digests = {
        graph_fingerprint(EDGES, 3, form)["feature_digest"]
        for form in (x, x.double(), x.to_sparse_csr(), x.to_sparse(), x.t().contiguous().t())
    }
    assert len(digests) == 1


def test_sparse_features_longer_than_one_block() -> None:
    x = torch.zeros(2500, 3)
    x[::7, 1] = torch.arange(358, dtype=torch.float32)
    dense, sparse = graph_fingerprint(EDGES, 3, x), graph_fingerprint(EDGES, 3, x.to_sparse_csr())
    assert dense == sparse
    x[2499, 2] = 1
    assert graph_fingerprint(EDGES, 3, x.to_sparse_csr()) != sparse


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((EDGES[0], 3), r"edge_index must be \[2, num_edges\] \(got \[3\]\)"),
        ((EDGES.t(), 3), r"got \[3, 2\]"),
        ((EDGES.float(), 3), "must hold integers"),
        ((EDGES.bool(), 3), "must hold integers"),
        (([[0], [1]], 3), "must be a dense tensor"),
        ((EDGES.to_sparse(), 3), "must be a dense tensor"),
        ((EDGES, None), "num_nodes must be an integer"),
        ((EDGES, -1), "num_nodes must be an integer"),
        ((EDGES, 3, [[1.0]]), "x must be a torch.Tensor"),
    ],
)
def test_bad_graphs_are_refused(arguments, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        graph_fingerprint(*arguments)


def test_model_fingerprint_ignores_values_buffers_mode_and_types() -> None:
    model = GCN(4, 5, 2, 3, norm="batch_norm")
    reference = model_fingerprint(model)
    other = GCN(4, 5, 2, 3, norm="batch_norm").double().eval()
    other.register_buffer("extra", torch.ones(3))
    assert model_fingerprint(other) == reference
    assert reference["parameters"]["convs.0.lin.weight"] == [5, 4]
    assert reference["modules"][""] == "GCN"
    assert compare_models(reference, model_fingerprint(other)) is None


def test_model_differences_are_named() -> None:
    ticket = model_fingerprint(GCN(4, 5, 2, 3))

    deeper = GCN(4, 5, 2, 3)
    deeper.more = nn.Linear(2, 2)

    class Wrapped(GCN):
        pass

    for other, text in [
        (GCN(4, 6, 2, 3), "'convs.0.bias' has shape [5] in the ticket and [6] in this model (and"),
        (GCN(4, 5, 3, 3), "'convs.1.bias' has shape [3] in the ticket and [5] in this model"),
        (deeper, "'more.weight' is in this model but not in the ticket"),
        (GCN(4, 5, 1, 3), "has shape [5] in the ticket and [3] in this model"),
        (GAT(4, 5, 2, 3), "the model is a GCN in the ticket and a GAT here"),
        (GCN(4, 5, 2, 3, act="elu"), "module 'act' is a ReLU in the ticket and a ELU here"),
        (Wrapped(4, 5, 2, 3), "the model is a GCN in the ticket and a test_model_differences"),
        (nn.Sequential(GCN(4, 5, 2, 3)), "the model is a GCN in the ticket and a Sequential here"),
    ]:
        assert text in (compare_models(ticket, model_fingerprint(other)) or "")


def test_further_differences_are_counted() -> None:
    assert compare_entries("entry", {"a": [1]}, {"a": [1]}) is None
    assert (
        compare_entries("entry", {"a": [1]}, {})
        == "entry 'a' is in the ticket but not in this model"
    )
    two = compare_entries("entry", {"a": [1], "b": [2]}, {"a": [2]})
    assert two is not None
    assert two.endswith("(and 1 further difference)")


def test_models_without_a_fingerprint_are_refused() -> None:
    with pytest.raises(ModelError, match=r"'0\.weight' is not initialised; run the model once"):
        model_fingerprint(nn.Sequential(nn.LazyLinear(2)))
    with pytest.raises(ModelError, match="got function"):
        model_fingerprint(lambda x: x)
