from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data

from fastglt.data import from_graph_splits
from fastglt.data.validate import validate
from fastglt.errors import GraphError


def _graphs(*labels):
    edge_index = torch.tensor([[0, 1], [1, 0]])
    return [
        Data(x=torch.full((2, 1), float(y)), edge_index=edge_index, y=torch.tensor([y]))
        for y in labels
    ]


def test_each_part_has_its_mask_and_its_graphs_in_order():
    batch = from_graph_splits(_graphs(0, 1, 1), _graphs(1), _graphs(0, 0))
    assert batch.y.tolist() == [0, 1, 1, 1, 0, 0]
    assert batch.train_mask.tolist() == [True] * 3 + [False] * 3
    assert batch.val_mask.tolist() == [False] * 3 + [True] + [False] * 2
    assert batch.test_mask.tolist() == [False] * 4 + [True] * 2
    assert validate(batch, "graph-classification") == 2
    assert [int(graph.x[0]) for graph in batch.to_data_list()] == batch.y.tolist()


def test_there_may_be_no_test_graphs_but_there_must_be_others():
    assert not from_graph_splits(_graphs(0, 1), _graphs(1)).test_mask.any()
    with pytest.raises(GraphError, match="val must hold at least one graph"):
        from_graph_splits(_graphs(0), [])
