"""Masks against really deleting edges and weights, for every conv on every kind of graph."""

from __future__ import annotations

import pytest
import torch
from loop_references import REFERENCES
from torch_geometric.data import Data

from conv_matrix import ISOLATED, NUM_NODES, call, cases, edge_values
from fastglt.gating import apply_weight_mask, keep_edges, prunable_weights
from fastglt.masks import EdgeGroups, EdgeMask, select_top


def _mask(data: Data, share: float) -> torch.Tensor:
    groups = EdgeGroups.from_edge_index(data.edge_index, data.num_nodes, **edge_values(data))
    score = torch.rand(groups.num_groups, generator=torch.Generator().manual_seed(0))
    return EdgeMask(groups, select_top(score, round(share * groups.num_groups))).edges


def _without(data: Data, keep: torch.Tensor) -> Data:
    """The graph that is left, column by column, without any code of the library."""
    columns, values = [], {name: [] for name in edge_values(data)}
    for position in range(data.edge_index.size(1)):
        if not bool(keep[position]):
            continue
        columns.append([int(data.edge_index[0, position]), int(data.edge_index[1, position])])
        for name, rows in values.items():
            rows.append(data[name][position].tolist())
    left = Data(x=data.x, num_nodes=NUM_NODES)
    left.edge_index = torch.tensor(columns, dtype=torch.long).reshape(-1, 2).t()
    for name, rows in values.items():
        shape = (len(rows), *data[name].shape[1:])
        left[name] = torch.tensor(rows, dtype=torch.float64).reshape(shape)
    return left


def _edges(data: Data) -> list:
    (values,) = list(edge_values(data).values()) or [[None] * data.edge_index.size(1)]
    return [
        (*ends, value) for ends, value in zip(data.edge_index.t().tolist(), values, strict=True)
    ]


def _assert_equal(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert torch.isfinite(found).all()
    assert torch.allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("case", cases())
def test_dropped_edges_are_exactly_absent(case):
    data, net = case.graph(), case.net()
    for share in (1.0, 0.5, 0.0):
        keep = _mask(data, share)
        _assert_equal(call(net, keep_edges(data, keep)), call(net, _without(data, keep)))
        if share == 0.5:
            assert (call(net, keep_edges(data, keep)) - call(net, data)).abs().max() > 1e-3


@pytest.mark.parametrize("case", [c for c in cases() if c.values[0].conv in REFERENCES])
def test_the_kept_graph_equals_a_loop_over_its_edges(case):
    data, conv = case.graph(), case.layer()
    for share in (1.0, 0.5, 0.0):
        keep = _mask(data, share)
        expected = REFERENCES[case.conv](conv, data.x, _edges(_without(data, keep)))
        _assert_equal(call(conv, keep_edges(data, keep)), expected)


@pytest.mark.parametrize("case", cases())
def test_masked_weights_and_edges_together_are_exactly_absent(case):
    data, net, reference = case.graph(), case.net(), case.net()
    keep = _mask(data, 0.5)
    generator = torch.Generator().manual_seed(1)
    masks = {
        name: torch.rand(weight.shape, generator=generator) > 0.6
        for name, weight in prunable_weights(net).items()
    }
    net.load_state_dict(apply_weight_mask(net.state_dict(), masks))
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            for entry in (~masks[name]).nonzero().tolist() if name in masks else []:
                parameter[tuple(entry)] = 0.0
    out = call(net, keep_edges(data, keep))
    _assert_equal(out, call(reference, _without(data, keep)))
    assert (out - call(case.net(), keep_edges(data, keep))).abs().max() > 1e-3


@pytest.mark.parametrize("case", cases())
def test_an_isolated_node_is_predicted_from_itself_alone(case):
    data, net = case.graph(), case.net()
    alone = call(net, keep_edges(data, _mask(data, 0.0)))[ISOLATED]
    changed = data.clone()
    others = torch.arange(NUM_NODES) != ISOLATED
    changed.x[others] += 1.0
    _assert_equal(call(net, changed)[ISOLATED], alone)
