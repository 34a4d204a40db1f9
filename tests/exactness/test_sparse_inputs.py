"""Sparse inputs of the kept graph against plain ones."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.nn import GATConv, GCNConv, GINConv, SAGEConv

from fastglt.gating import keep_edges
from fastglt.masks import EdgeGroups, select_top
from fastglt.training.inputs import with_sparse_inputs
from fastglt.training.known_graph import kept_view
from fastglt.training.tasks import NodeClassification
from helpers import graph, isolate, with_loops

CONVS = {
    "gcn": lambda: GCNConv(12, 5),
    "sage": lambda: SAGEConv(12, 5, aggr="mean"),
    "gin": lambda: GINConv(torch.nn.Linear(12, 5), eps=0.3),
    "gat": lambda: GATConv(12, 5),
}


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("loops", [[], [0, 7, 11]])
def test_sparse_inputs_of_the_kept_graph_give_its_outputs(name, loops):
    data = with_loops(isolate(graph(40), 7), torch.tensor(loops, dtype=torch.long))
    conv, task = CONVS[name]().eval(), NodeClassification()
    groups = EdgeGroups.from_edge_index(data.edge_index, data.num_nodes)
    score = torch.rand(groups.num_groups, generator=torch.Generator().manual_seed(0))
    keep = groups.to_edges(select_top(score, groups.num_groups // 2), True)
    small = kept_view(with_sparse_inputs(conv, data, task), keep)
    expected = task.forward(conv, keep_edges(data, keep))
    assert torch.allclose(task.forward(conv, small), expected, rtol=0, atol=1e-5)
