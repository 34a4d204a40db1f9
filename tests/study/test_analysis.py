"""What became of graph and nodes, against loops over a small graph."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch_geometric.data import Data

from fastglt.data import csbm
from fastglt.study.analysis import NEIGHBOURHOOD, Outcome, analyse

CLASSES = 3


def outcome(directed=False, seed=0):
    """Random predictions, and a third of the edges gone."""
    generator = torch.Generator().manual_seed(seed)
    data = csbm(90, num_classes=CLASSES, num_features=4, average_degree=4, seed=seed)
    pair = (data.edge_index.min(0).values * 90 + data.edge_index.max(0).values) % 3
    if directed:
        data.edge_index = data.edge_index[:, torch.rand(data.num_edges, generator=generator) < 0.5]
        pair = torch.arange(data.num_edges) % 3
    loops = torch.tensor([[3, 5], [3, 5]])
    data.edge_index = torch.cat([data.edge_index, loops], dim=1)
    keep = torch.cat([pair > 0, torch.tensor([True, False])])
    outs = [2 * torch.randn(90, CLASSES, generator=generator) for _ in range(2)]
    masks = {"a.weight": torch.rand(4, 6, generator=generator) < 0.3}
    return Outcome(data, keep, masks, *outs)


@pytest.fixture(params=[False, True], ids=["undirected", "directed"])
def case(request):
    return outcome(request.param)


def edges_of(case, kept_only):
    pairs = zip(*case.data.edge_index.tolist(), case.keep.tolist(), strict=True)
    return [(u, v) for u, v, kept in pairs if kept or not kept_only]


def neighbours(case, kept_only=False):
    """Sources of the edges into each node, self-loops left out."""
    found = [[] for _ in range(case.data.num_nodes)]
    for source, target in edges_of(case, kept_only):
        if source != target:
            found[target].append(source)
    return found


def component_sizes(num_nodes, edges):
    parent = list(range(num_nodes))

    def root(node):
        while parent[node] != node:
            node = parent[node]
        return node

    for source, target in edges:
        parent[root(source)] = root(target)
    roots = [root(node) for node in range(num_nodes)]
    return [roots.count(each) for each in set(roots)]


@pytest.mark.parametrize("when", ["before", "after"])
def test_figures_of_the_graph(case, when):
    kept_only = when == "after"
    edges, y = edges_of(case, kept_only), case.data.y.tolist()
    proper = [(u, v) for u, v in edges if u != v]
    found = analyse(case)["graph"][when]
    sizes = component_sizes(case.data.num_nodes, proper)
    touched = {node for edge in proper for node in edge}
    assert found == {
        "edges": len(edges),
        "isolated": case.data.num_nodes - len(touched),
        "components": len(sizes),
        "largest_component": max(sizes),
        "homophily": pytest.approx(sum(y[u] == y[v] for u, v in proper) / len(proper)),
    }


def in_bin(name, degree):
    low, _, high = name.partition("-")
    return int(low) <= degree <= int(high or low)


def test_degree_histogram(case):
    histogram = analyse(case)["graph"]["degrees"]
    for when, kept_only in (("before", False), ("after", True)):
        degrees = [len(each) for each in neighbours(case, kept_only)]
        assert [entry[when] for entry in histogram] == [
            sum(in_bin(entry["name"], degree) for degree in degrees) for entry in histogram
        ]
        assert sum(entry[when] for entry in histogram) == case.data.num_nodes


@pytest.mark.parametrize("top", [1, 2, 3, 4, 5, 8, 9, 16, 17, 33])
def test_every_degree_has_one_bin(top):
    star = torch.stack([torch.arange(1, top + 1), torch.zeros(top, dtype=torch.long)])
    data = Data(edge_index=star, num_nodes=top + 1)
    out = torch.zeros(top + 1, 2)
    result = analyse(Outcome(data, torch.ones(top, dtype=torch.bool), {}, out, out))
    histogram = result["graph"]["degrees"]
    assert [entry["before"] for entry in histogram if entry["before"]] == [top, 1]
    for degree in range(top + 1):
        assert sum(in_bin(entry["name"], degree) for entry in histogram) == 1


def test_harm_by_group(case):
    found, data = analyse(case), case.data
    y, around = data.y.tolist(), neighbours(case)
    choice = {"dense": case.dense.argmax(1).tolist(), "ticket": case.ticket.argmax(1).tolist()}

    def belongs(kind, name, node):
        if kind == "class":
            return str(y[node]) == name
        if kind == "degree":
            return in_bin(name, len(around[node]))
        if not around[node]:
            return False
        share = sum(y[other] == y[node] for other in around[node]) / len(around[node])
        low, high = map(float, name.split("-"))
        return low - 1e-9 <= share < high - 1e-9 or share == high == 1

    nodes = data.test_mask.nonzero().flatten().tolist()
    for kind in ("class", "degree", "homophily"):
        for entry in found["groups"][kind]:
            members = [node for node in nodes if belongs(kind, entry["name"], node)]
            assert entry["nodes"] == len(members) > 0
            for model, chosen in choice.items():
                right = sum(chosen[node] == y[node] for node in members)
                assert entry[model] == pytest.approx(right / len(members))
        total = sum(entry["nodes"] for entry in found["groups"][kind])
        left_out = sum(not around[node] for node in nodes) if kind == "homophily" else 0
        assert total == len(nodes) - left_out
    same = sum(choice["dense"][node] == choice["ticket"][node] for node in nodes)
    assert found["agreement"] == pytest.approx(same / len(nodes))


def expected_calibration_error(out, y, bins=15):
    content = [[] for _ in range(bins)]
    for scores, label in zip(out.tolist(), y.tolist(), strict=True):
        exponents = [math.exp(score) for score in scores]
        confidence = max(exponents) / sum(exponents)
        right = scores.index(max(scores)) == label
        content[min(bins - 1, int(confidence * bins))].append((confidence, right))
    return sum(
        abs(sum(right for _, right in each) - sum(confidence for confidence, _ in each))
        for each in content
    ) / len(y)


def test_calibration(case):
    test, found = case.data.test_mask, analyse(case)["calibration"]
    for name, out in (("dense", case.dense), ("ticket", case.ticket)):
        expected = expected_calibration_error(out[test], case.data.y[test])
        assert found[name] == pytest.approx(expected, abs=1e-5)


def test_layers(case):
    kept = int(case.weight_masks["a.weight"].sum())
    assert analyse(case)["layers"] == [
        {"name": "a.weight", "shape": [4, 6], "kept": kept, "total": 24}
    ]


def test_the_neighbourhood_is_a_part_of_the_graph(case):
    drawn = analyse(case)["neighbourhood"]
    if drawn is None:
        pytest.skip("no neighbourhood of a fitting size in this graph")
    names = [node["id"] for node in drawn["nodes"]]
    assert len(names) in NEIGHBOURHOOD
    assert drawn["middle"] in names
    assert [node["class"] for node in drawn["nodes"]] == case.data.y[names].tolist()
    both = {frozenset(edge) for edge in edges_of(case, False)}
    kept = {frozenset(edge) for edge in edges_of(case, True)}
    pairs = [frozenset((names[u], names[v])) for u, v, _ in drawn["edges"]]
    assert len(set(pairs)) == len(pairs)
    for pair, (u, v, is_kept) in zip(pairs, drawn["edges"], strict=True):
        assert u != v
        assert pair in both
        assert is_kept == (pair in kept)


def test_tasks_without_classes_have_a_graph_and_layers_only(case):
    case.data.y = torch.zeros(90, 2)
    found = analyse(case)
    assert set(found) == {"graph", "layers"}
    assert found["graph"]["before"]["homophily"] is None
    del case.data.y
    assert set(analyse(case)) == {"graph", "layers"}


def test_without_test_nodes_no_harm_is_shown(case):
    case.data.test_mask[:] = False
    assert set(analyse(case)) == {"graph", "layers", "neighbourhood"}


def test_a_graph_that_has_lost_all_its_edges(case):
    case.keep[:] = False
    found = analyse(case)["graph"]["after"]
    assert found == {
        "edges": 0, "isolated": 90, "components": 90, "largest_component": 1, "homophily": None
    }  # fmt: skip


def test_figures_survive_json(case):
    found = analyse(case)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
