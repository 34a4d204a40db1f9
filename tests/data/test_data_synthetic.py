"""The synthetic generator keeps its promises: exact counts, simple undirected graphs, seeds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch_geometric.utils import contains_self_loops, is_undirected

from fastglt.data import csbm
from fastglt.data.validate import validate
from fastglt.errors import InputError
from peak_memory import LINUX, peak_bytes


def edge_homophily(data) -> float:
    row, col = data.edge_index
    return float((data.y[row] == data.y[col]).double().mean())


@settings(deadline=None, max_examples=60)
@given(
    num_nodes=st.integers(6, 120),
    average_degree=st.floats(0.5, 20),
    num_classes=st.integers(2, 4),
    homophily=st.floats(0, 1),
    degree_exponent=st.none() | st.floats(2.05, 4),
    features=st.sampled_from(["gaussian", "binary"]),
    seed=st.integers(0, 2**40),
)
def test_every_graph_is_simple_undirected_exact_and_valid(num_nodes, average_degree, **options):
    num_classes = options["num_classes"]
    assume(num_nodes >= 3 * num_classes)
    try:
        data = csbm(num_nodes, average_degree=average_degree, num_features=8, **options)
    except InputError as error:
        assert "at most 90%" in str(error)  # noqa: PT017
        return
    pairs = round(num_nodes * average_degree / 2)
    assert data.edge_index.shape == (2, 2 * pairs)
    assert data.is_coalesced()
    assert is_undirected(data.edge_index, num_nodes=num_nodes)
    assert not contains_self_loops(data.edge_index)
    row, col = data.edge_index
    assert int((data.y[row] == data.y[col]).sum()) == 2 * round(options["homophily"] * pairs)
    assert validate(data) == num_classes
    sizes = torch.bincount(data.y, minlength=num_classes)
    assert int(sizes.max() - sizes.min()) <= 1
    assert torch.bincount(data.y[data.train_mask], minlength=num_classes).min() >= 1
    assert (data.train_mask.long() + data.val_mask + data.test_mask == 1).all()


def test_the_seed_alone_decides_everything():
    torch.manual_seed(1)
    first = csbm(200, seed=3)
    torch.manual_seed(2)
    again, other = csbm(200, seed=3), csbm(200, seed=4)
    for key in ("x", "edge_index", "y", "train_mask", "val_mask", "test_mask"):
        assert torch.equal(first[key], again[key]), key
    assert not torch.equal(first.edge_index, other.edge_index)
    assert not torch.equal(first.x, other.x)


def test_drawing_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    csbm(100)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_power_law_has_hubs_and_equal_weights_have_none():
    flat = csbm(4000, average_degree=6)
    skewed = csbm(4000, average_degree=6, degree_exponent=2.2)
    largest = [int(torch.bincount(d.edge_index[0]).max()) for d in (flat, skewed)]
    assert largest[1] > 4 * largest[0]


def test_neighbours_of_one_class_are_drawn_evenly():
    data = csbm(400, average_degree=40, num_classes=2, homophily=0.5)
    degree = torch.bincount(data.edge_index[0], minlength=400).double()
    # Binomial around 40, as in a uniform random graph.
    assert 30 < float(degree.var()) < 52


@pytest.mark.parametrize("features", ["gaussian", "binary"])
def test_noise_blurs_the_class_means(features):
    def spread(noise):
        data = csbm(600, num_features=80, feature_noise=noise, features=features)
        means = torch.stack([data.x[data.y == c].mean(dim=0) for c in range(4)])
        within = (data.x - means[data.y]).var()
        return float(means.var(dim=0).mean() / within.clamp(min=1e-9))

    assert spread(0.1) > 2 * spread(10.0)


def test_binary_features_are_sparse_zeros_and_ones():
    x = csbm(200, num_features=100, features="binary").x
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert int(x.sum(dim=1).min()) >= 1
    assert int(x.sum(dim=1).max()) <= 5


@pytest.mark.parametrize("homophily", [0.1, 0.9])
def test_nearly_full_graphs_with_extreme_hubs_end(homophily):
    data = csbm(60, average_degree=28, num_classes=2, homophily=homophily, degree_exponent=2.01)
    assert data.num_edges == 60 * 28
    assert data.is_coalesced()


@pytest.mark.slow
def test_a_million_edges():
    data = csbm(100_000, average_degree=20, degree_exponent=2.5, num_features=4)
    assert data.num_edges == 2_000_000
    assert data.is_coalesced()
    assert edge_homophily(data) == 0.8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_nodes": 11}, r"num_nodes must be an integer of at least 12 \(got 11\)"),
        ({"num_nodes": 100.0}, "num_nodes must be an integer"),
        ({"num_classes": 1}, "num_classes must be an integer of at least 2"),
        ({"num_classes": True}, "num_classes must be an integer of at least 2"),
        ({"num_features": 0}, "num_features must be an integer of at least 1"),
        ({"num_features": 3, "features": "binary"}, "num_features must be .* at least 4"),
        ({"seed": -1}, r"seed must be an integer of at least 0 \(got -1\)"),
        ({"homophily": 1.1}, r"homophily must be in \[0, 1\] \(got 1.1\)"),
        ({"homophily": float("nan")}, "homophily must be"),
        ({"feature_noise": -1}, "feature_noise must be finite and at least 0"),
        ({"feature_noise": float("inf")}, "feature_noise must be finite"),
        ({"degree_exponent": 2}, "degree_exponent must be above 2"),
        ({"features": "text"}, "features must be 'gaussian' or 'binary'"),
        ({"train_fraction": 0}, "train_fraction and val_fraction must be"),
        ({"train_fraction": 0.5, "val_fraction": 0.5}, "sum to less than 1"),
        ({"average_degree": 0}, "average_degree must be finite"),
        ({"average_degree": float("nan")}, "average_degree must be finite"),
        ({"num_nodes": 40, "average_degree": 30}, "at most 90% of the .* within"),
        ({"num_nodes": 40, "average_degree": 29, "homophily": 0}, "at most 90% of the .* betw"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        csbm(**arguments)


@LINUX
@pytest.mark.slow
def test_drawing_and_grouping_a_large_graph_keep_to_a_bound_an_edge():
    before = "from fastglt.data import csbm\nfrom fastglt.masks import EdgeGroups"
    draw = "data = csbm(40_000, average_degree=25, degree_exponent=2.5)"
    # 8 GB at 50 million edges, graph and features included; a quarter of it for the groups alone.
    assert peak_bytes(before, draw) < 160 * 1_000_000
    assert peak_bytes(f"{before}\n{draw}", "EdgeGroups.of(data)") < 60 * 1_000_000
