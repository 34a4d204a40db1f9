from __future__ import annotations

import pytest
import torch

import fastglt
from fastglt.errors import BudgetError
from fastglt.masks import num_removed
from fastglt.training.tasks import NodeClassification
from helpers import TINY, build, graph, with_loops
from search.contexts import search_with


class Recording(NodeClassification):
    """Remembers which edges the model is called on."""

    def __init__(self):
        super().__init__()
        self.trained, self.evaluated = [], []

    def call(self, model, data):
        (self.trained if model.training else self.evaluated).append(data.edge_index)
        return model(data.x, data.edge_index)


@pytest.mark.parametrize("loops", [0, 5])
def test_each_step_sees_other_edges_and_every_evaluation_all(loops):
    data = with_loops(graph(), torch.arange(loops))
    task = Recording()
    ticket = fastglt.find(
        build("gcn", data), data, task=task, method="dropedge", edge_sparsity=0.29, **TINY
    )
    pairs = (data.num_edges - loops) // 2
    kept = 2 * (pairs - num_removed(pairs, 0.29)) + loops
    seen = task.trained[-TINY["retrain_epochs"] :]
    assert [edges.size(1) for edges in seen] == [kept] * 4
    for edges in seen:
        codes = set((edges[0] * 90 + edges[1]).tolist())
        assert codes == set((edges[1] * 90 + edges[0]).tolist())  # both directions or none
        assert codes <= set((data.edge_index[0] * 90 + data.edge_index[1]).tolist())
        assert int((edges[0] == edges[1]).sum()) == loops
    assert len({tuple(edges.flatten().tolist()) for edges in seen}) == 4
    assert all(edges.size(1) == data.num_edges for edges in task.evaluated[-4:])
    assert ticket.edge_keep.all()
    assert any("dropedge" in note for note in ticket.metrics["notes"])


def test_subsets_follow_from_the_generator_alone():
    context, result = search_with("dropedge", weight_sparsity=0.0)
    first, again, other = (
        result.augment(context.data, torch.Generator().manual_seed(seed)).edge_index
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert context.data.num_edges > first.size(1)


def test_weights_cannot_be_asked_for():
    with pytest.raises(BudgetError, match="'dropedge' is for edges only"):
        search_with("dropedge")
