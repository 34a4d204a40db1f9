from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, rankdata

from fastglt import scores
from fastglt.masks import ChannelGroup, EdgeGroups
from fastglt.scores import (
    agreement,
    degree_product,
    degree_surroundings,
    influence,
    inverse_degrees,
    magnitude,
    ranks,
    sampling_order,
    trained_gate,
    uniform_noise,
    unit_gate,
)


def _star(leaves: int = 4) -> EdgeGroups:
    hub = torch.zeros(leaves, dtype=torch.long)
    rim = torch.arange(1, leaves + 1)
    edge_index = torch.stack([torch.cat([hub, rim]), torch.cat([rim, hub])])
    return EdgeGroups.from_edge_index(edge_index, leaves + 2)


@given(
    st.lists(
        st.sampled_from([-2.0, -0.0, 0.0, 1.0, 7.5, math.inf, -math.inf])
        | st.floats(allow_nan=False, width=32),
        max_size=40,
    ),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_ranks_are_mean_ranks_scaled_to_the_unit_interval(values, dtype):
    found = ranks(torch.tensor(values, dtype=dtype))
    if len(values) < 2:
        assert found.tolist() == [0.0] * len(values)
        return
    expected = (rankdata(values, method="average") - 1) / (len(values) - 1)
    assert found.tolist() == pytest.approx(expected.tolist())


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30, unique=True))
def test_ranks_keep_the_order(values):
    score = torch.tensor(values, dtype=torch.float64)
    assert torch.equal(ranks(score).argsort(), score.argsort())


def test_magnitude_is_the_absolute_value_without_a_graph():
    weight = torch.tensor([[-2.0, 1.0]], requires_grad=True)
    found = magnitude({"w": weight})["w"]
    assert found.tolist() == [[2.0, 1.0]]
    assert not found.requires_grad


def test_noise_follows_from_the_generator():
    weights = {"a": torch.zeros(3, 4), "b": torch.zeros(5)}
    first = uniform_noise(weights, torch.Generator().manual_seed(3))
    again = uniform_noise(weights, torch.Generator().manual_seed(3))
    other = uniform_noise(weights, torch.Generator().manual_seed(4))
    assert all(first[name].shape == weights[name].shape for name in weights)
    assert all(torch.equal(first[name], again[name]) for name in weights)
    assert not torch.equal(first["a"], other["a"])


def test_degree_product_counts_kept_edges_with_a_floor_of_1():
    groups = _star()
    everything = torch.ones(4, dtype=torch.bool)
    assert degree_product(groups, everything, -0.5).tolist() == pytest.approx([0.5] * 4)
    nothing = ~everything
    assert degree_product(groups, nothing, -1.5).tolist() == [1.0] * 4
    one = torch.tensor([True, False, False, False])
    assert degree_product(groups, one, -1.5).tolist() == [1.0] * 4


def test_without_a_gradient_edges_of_low_degree_nodes_score_higher():
    edge_index = torch.tensor([[0, 0, 0, 4, 1, 2, 3, 5], [1, 2, 3, 5, 0, 0, 0, 4]])
    groups = EdgeGroups.from_edge_index(edge_index, 6)
    score = unit_gate(None, groups, torch.ones(4, dtype=torch.bool))
    lonely = (groups.ends == 4).any(dim=0)
    assert score[lonely].min() > score[~lonely].max()


def test_an_edge_that_lowers_the_loss_scores_higher():
    groups = _star()
    keep = torch.ones(4, dtype=torch.bool)
    score = unit_gate(torch.tensor([3.0, -1.0, 0.0, -5.0]), groups, keep)
    assert score.argsort().tolist() == [0, 2, 1, 3]


def test_the_scale_of_the_gradient_does_not_matter():
    groups = _star()
    keep = torch.tensor([True, True, False, True])
    gradient = torch.tensor([3.0, -1.0, 0.0, -5.0])
    assert torch.equal(unit_gate(gradient, groups, keep), unit_gate(gradient * 1e-6, groups, keep))


def test_influence_is_the_disagreement_of_the_ends_times_their_gcn_weight():
    groups = _star()
    keep = torch.tensor([True, True, True, False])
    probability = torch.tensor([[1.0, 0], [1, 0], [0.5, 0.5], [0, 1], [0, 1], [0.3, 0.7]])
    found = influence(probability, groups, keep)
    # Hub: three kept edges; leaves: one, the last none; a loop is added to each.
    weight = [8**-0.5] * 3 + [4**-0.5]
    expected = [gap * w for gap, w in zip([0, 1, 2, 2], weight, strict=True)]
    assert found.tolist() == pytest.approx(expected)


def test_influence_of_many_edges_is_computed_in_chunks_without_changing_it(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(50, (2, 300), generator=generator)
    groups = EdgeGroups.from_edge_index(edge_index, 50)
    probability = torch.rand(50, 7, generator=generator)
    keep = torch.rand(groups.num_groups, generator=generator) < 0.5
    whole = influence(probability, groups, keep)
    for chunk in (1, 7 * 13, 7 * groups.num_groups):
        monkeypatch.setattr(scores, "_CHUNK", chunk)
        assert torch.equal(influence(probability, groups, keep), whole)
    source, target = groups.ends
    degree = groups.degrees(keep) + 1.0
    gap = (probability[source] - probability[target]).abs().sum(dim=1)
    torch.testing.assert_close(whole, gap / (degree[source] * degree[target]).sqrt())


def test_agreement_marks_edges_within_a_class_where_classes_cluster():
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(60) % 3
    edge_index = torch.randint(60, (2, 400), generator=generator)
    same = classes[edge_index[0]] == classes[edge_index[1]]
    for within, marked in ((same, True), (~same, False)):
        # Nine edges in ten of one kind: most within a class, or most between classes.
        few, many = edge_index[:, ~within][:, :10], edge_index[:, within][:, :90]
        groups = EdgeGroups.from_edge_index(torch.cat([few, many], dim=1), 60)
        found = agreement(classes, groups).tolist()
        assert found == [
            float(marked and classes[u] == classes[v]) for u, v in groups.ends.t().tolist()
        ]


def test_agreement_says_nothing_of_classes_that_edges_do_not_tell():
    groups = _star()
    assert agreement(torch.zeros(6, dtype=torch.long), groups).tolist() == [1.0] * 4
    mixed = torch.tensor([0, 0, 0, 1, 1, 0])
    assert agreement(mixed, groups).tolist() == [0.0] * 4
    none = EdgeGroups.from_edge_index(torch.empty(2, 0, dtype=torch.long), 6)
    assert agreement(mixed, none).tolist() == []


def test_scores_leave_what_they_are_computed_from_alone():
    groups = _star()
    keep = torch.tensor([True, False, True, True])
    probability, gradient = torch.rand(6, 3), torch.randn(4)
    before = probability.clone(), gradient.clone(), keep.clone()
    influence(probability, groups, keep)
    unit_gate(gradient, groups, keep)
    trained_gate(gradient, gradient, groups, keep)
    for now, then in zip((probability, gradient, keep), before, strict=True):
        assert torch.equal(now, then)


def test_trained_gates_drop_by_size_and_regrow_by_gradient_and_degree():
    groups = _star()
    keep = torch.zeros(4, dtype=torch.bool)
    gate = torch.tensor([-2.0, 1.0, 0.5, 0.0], requires_grad=True)
    drop, grow = trained_gate(gate, torch.tensor([-1.0, 0.0, 2.0, 0.0]), groups, keep)
    assert drop.tolist() == [2.0, 1.0, 0.5, 0.0]
    assert not drop.requires_grad
    assert grow.tolist() == [2.0, 1.0, 3.0, 1.0]


def _random_groups(num_nodes=40, num_edges=90, seed=0):
    """Undirected edges with self-loops; the last node has none."""
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(num_nodes, (2, num_edges), generator=generator)
    both = torch.cat([edge_index, edge_index.flip(0)], dim=1)
    groups = EdgeGroups.from_edge_index(both, num_nodes + 1)
    keep = torch.rand(groups.num_groups, generator=generator) < 0.6
    return groups, keep


def _neighbours(groups, keep):
    found = [[] for _ in range(groups.num_nodes)]
    for (u, v), kept in zip(groups.ends.t().tolist(), keep.tolist(), strict=True):
        if kept:
            found[u].append(v)
            found[v].append(u)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_degree_surroundings_equal_a_slow_loop(seed):
    groups, keep = _random_groups(seed=seed)
    near = _neighbours(groups, keep)
    node = [
        sum(len(near[j]) ** -0.5 for j in mine) / len(mine) / len(mine) if mine else 0.0
        for mine in near
    ]
    assert node[-1] == 0.0  # it is isolated
    expected = [node[u] * node[v] for u, v in groups.ends.t().tolist()]
    found = degree_surroundings(groups, keep)
    assert found.tolist() == pytest.approx(expected)
    assert found.isfinite().all()


@pytest.mark.parametrize("seed", range(4))
def test_inverse_degrees_equal_a_slow_loop_with_a_floor_of_1(seed):
    groups, keep = _random_groups(seed=seed)
    inverse = [1 / max(len(mine), 1) for mine in _neighbours(groups, keep)]
    expected = [inverse[u] + inverse[v] for u, v in groups.ends.t().tolist()]
    assert inverse_degrees(groups, keep).tolist() == pytest.approx(expected)


def test_the_first_of_a_sampling_order_is_drawn_in_proportion_to_the_rate():
    groups, keep = _random_groups(12, 14)
    rate = inverse_degrees(groups, torch.ones_like(keep))
    generator, draws = torch.Generator().manual_seed(0), 4000
    first = torch.stack([sampling_order(rate, generator).argmax() for _ in range(draws)])
    observed = torch.bincount(first, minlength=len(rate)).double()
    expected = draws * rate.double() / rate.double().sum()
    assert chisquare(observed.numpy(), expected.numpy()).pvalue > 0.01
    even = torch.full_like(expected, draws / len(rate))
    assert chisquare(observed.numpy(), even.numpy()).pvalue < 1e-6


def test_a_pair_of_draws_is_without_replacement():
    rate = torch.tensor([4.0, 2.0, 1.0])
    generator, draws = torch.Generator().manual_seed(1), 4000
    left_out = torch.stack([sampling_order(rate, generator).argmin() for _ in range(draws)])
    # P(i last) = sum over orders of the other two of r_j / 7 * r_k / (7 - r_j).
    shares = [(2 / 7 * 1 / 5 + 1 / 7 * 2 / 6), (4 / 7 * 1 / 3 + 1 / 7 * 4 / 6), 0.0]
    shares[2] = 4 / 7 * 2 / 3 + 2 / 7 * 4 / 5
    observed = torch.bincount(left_out, minlength=3).tolist()
    assert chisquare(observed, [draws * share for share in shares]).pvalue > 0.01


def _two_layers():
    first = torch.tensor([[1.0, -1.0], [0.0, 0.0], [3.0, 0.0]])
    second = torch.tensor([[2.0, 5.0, -1.0]])
    return {"first": first, "second": second, "alone": torch.ones(2, 2)}


def test_weights_of_important_channels_score_higher():
    weights = _two_layers()
    group = ChannelGroup(3, ("first",), {"second": torch.tensor([0, 1, 2])})
    # Written 2, 0, 3 and read 2, 5, 1: importance 4, 0, 3 with mean 7 / 3.
    importance = torch.tensor([12 / 7, scores.CHANNEL_FLOOR, 9 / 7])
    for power in (1.0, 2.0):
        found = scores.by_channel(scores.magnitude(weights), weights, [group], power)
        factor = importance**power
        assert torch.allclose(found["first"], weights["first"].abs() * factor[:, None])
        assert torch.allclose(found["second"], weights["second"].abs() * factor)
        assert torch.equal(found["alone"], weights["alone"])


def test_importance_counts_up_to_a_cap():
    weights = _two_layers()
    group = ChannelGroup(3, ("first",), {"second": torch.tensor([0, 1, 2])})
    found = scores.by_channel(weights, weights, [group], 2.0, most=1.5)
    factor = torch.tensor([1.5, scores.CHANNEL_FLOOR, 9 / 7]) ** 2
    assert torch.allclose(found["second"], weights["second"] * factor)


def test_a_column_that_reads_none_of_the_channels_and_several_readers():
    weights = {"w": torch.ones(2, 3), "a": torch.ones(1, 4), "b": torch.full((5, 2), 2.0)}
    readers = {"a": torch.tensor([-1, 1, 0, -1]), "b": torch.tensor([0, 0])}
    found = scores.by_channel(weights, weights, [ChannelGroup(2, ("w",), readers)], 1.0)
    # Written 3 each; read 1 + 10 + 10 and 1.
    high, low = 21 / 11, 1 / 11
    assert torch.allclose(found["w"], torch.tensor([[high] * 3, [low] * 3]))
    assert torch.allclose(found["a"], torch.tensor([[1.0, low, high, 1.0]]))
    assert torch.allclose(found["b"], torch.full((5, 2), 2 * high))


def test_a_stream_that_is_a_group_for_each_of_its_readers_takes_their_mean():
    weights = {
        "w": torch.ones(2, 1),
        "a": torch.tensor([[3.0, 1.0]]),
        "b": torch.tensor([[1.0, 3.0]]),
    }
    groups = [ChannelGroup(2, ("w",), {name: torch.arange(2)}) for name in "ab"]
    found = scores.by_channel(weights, weights, groups, 1.0)
    assert torch.allclose(found["w"], torch.ones(2, 1))
    assert torch.allclose(found["a"], torch.tensor([[4.5, 0.5]]))


@pytest.mark.parametrize(("power", "groups"), [(0.0, True), (1.0, False)])
def test_without_power_or_channels_scores_stay(power, groups):
    weights = _two_layers()
    given = [ChannelGroup(3, ("first",), {"second": torch.arange(3)})] if groups else []
    found = scores.by_channel(weights, weights, given, power)
    assert all(torch.equal(found[name], weight) for name, weight in weights.items())
